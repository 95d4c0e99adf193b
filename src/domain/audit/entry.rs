//! Events as they are read from the audit log, and the filter for reading them.

use super::{Action, EventId};
use crate::clock::Timestamp;
use crate::domain::session::{ClientInfo, SessionId};
use crate::domain::user::UserId;

/// An event that was read from the database. Names are text: a newer version may have stored a name that this version
/// does not know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditEntry {
    /// The ID.
    pub id: EventId,
    /// Time of the event; of several equal events, the time of the first one.
    pub at: Timestamp,
    /// Number of equal events that the row stands for, at least 1.
    pub occurrences: u64,
    /// The name of an [`Action`].
    pub action: String,
    /// The name of an [`Outcome`](super::Outcome).
    pub outcome: String,
    /// The name of a [`Refusal`](super::Refusal). `None`: the action was done.
    pub reason: Option<String>,
    /// The name of an [`EventActor`](super::EventActor).
    pub actor: String,
    /// The user that acted.
    pub actor_id: Option<UserId>,
    /// The user that the action affected.
    pub subject_id: Option<UserId>,
    /// The session that began or ended, or that authenticated the actor.
    pub session_id: Option<SessionId>,
    /// The names of each [`Field`](super::Field) that the action changed, or would have changed.
    pub fields: Vec<String>,
    /// Number of other sessions that the action ended.
    pub ended_sessions: Option<u64>,
    /// The calling service.
    pub service: Option<String>,
    /// The client of the actor.
    pub client: ClientInfo,
    /// Request ID of the call.
    pub request_id: Option<String>,
}

/// Maximum length of the stored name of a calling service, in characters.
pub const MAX_SERVICE_LENGTH: usize = 128;

/// Whether the audit log can contain this name of a calling service.
#[must_use]
pub fn is_service_name(name: &str) -> bool {
    name.chars().count() <= MAX_SERVICE_LENGTH && !name.contains(char::is_control)
}

/// Filter of events. `None` matches every event.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// The user that the action affected.
    pub subject: Option<UserId>,
    /// The user that acted.
    pub actor: Option<UserId>,
    /// The action.
    pub action: Option<Action>,
    /// The outcome: `true` for done, `false` for refused.
    pub is_done: Option<bool>,
    /// The calling service.
    pub service: Option<String>,
    /// Start of the time range, inclusive.
    pub since: Option<Timestamp>,
    /// End of the time range, exclusive.
    pub until: Option<Timestamp>,
}
