//! Audit log events: actor, action, subject, origin and outcome. An event never contains a secret or a phone number.

mod action;
mod entry;

use std::fmt;

use uuid::Uuid;

pub use action::Action;
pub use entry::{AuditEntry, EventFilter, MAX_SERVICE_LENGTH, is_service_name};

use super::access::Caller;
use super::session::{ClientInfo, SessionId};
use super::user::UserId;
use crate::clock::{self, Timestamp};

/// The ID of an event, a UUIDv7: events sort by time, to the millisecond.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct EventId(pub Uuid);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why an action was refused: the reason that the caller received, as in `ErrorReason` of the API. A call that is
/// refused before its actor and action are known is not in the audit log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The number is unknown or the password is wrong.
    InvalidCredentials,
    /// The password is right, and the account is deactivated.
    AccountDeactivated,
    /// `current_password` is wrong.
    CurrentPasswordWrong,
    /// `current_password` is unset and the sign-in is not fresh.
    ReauthenticationRequired,
    /// Another account has the phone number.
    PhoneNumberTaken,
    /// The actor is neither staff nor a superuser.
    NotStaff,
    /// The user does not exist, or the actor may not see the user. The event has no subject.
    UserNotFound,
    /// The actor is not a superuser.
    NotSuperuser,
    /// The action would remove the last active superuser.
    LastSuperuser,
    /// The one-time code is wrong or expired.
    CodeInvalid,
    /// The number was changed recently, so a code to it is not sufficient proof for this action.
    PhoneChangedRecently,
    /// No SMS provider accepted the message before it expired.
    SmsNotDelivered,
}

impl Refusal {
    /// All refusals.
    pub const ALL: [Self; 12] = [
        Self::InvalidCredentials,
        Self::AccountDeactivated,
        Self::CurrentPasswordWrong,
        Self::ReauthenticationRequired,
        Self::PhoneNumberTaken,
        Self::NotStaff,
        Self::UserNotFound,
        Self::NotSuperuser,
        Self::LastSuperuser,
        Self::CodeInvalid,
        Self::PhoneChangedRecently,
        Self::SmsNotDelivered,
    ];

    /// The name, at most 64 characters: the value of `ErrorReason` without its prefix.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidCredentials => "INVALID_CREDENTIALS",
            Self::AccountDeactivated => "ACCOUNT_DEACTIVATED",
            Self::CurrentPasswordWrong => "CURRENT_PASSWORD_WRONG",
            Self::ReauthenticationRequired => "REAUTHENTICATION_REQUIRED",
            Self::PhoneNumberTaken => "PHONE_NUMBER_TAKEN",
            Self::NotStaff => "NOT_STAFF",
            Self::UserNotFound => "USER_NOT_FOUND",
            Self::NotSuperuser => "NOT_SUPERUSER",
            Self::LastSuperuser => "LAST_SUPERUSER",
            Self::CodeInvalid => "CODE_INVALID",
            Self::PhoneChangedRecently => "PHONE_CHANGED_RECENTLY",
            Self::SmsNotDelivered => "SMS_NOT_DELIVERED",
        }
    }
}

/// The outcome of an action.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The action was done.
    Done,
    /// The action was refused.
    Refused(Refusal),
}

impl Outcome {
    /// The names of all outcomes, without reasons.
    pub const NAMES: [&str; 2] = ["done", "refused"];

    /// The name without the reason, at most 16 characters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused(_) => "refused",
        }
    }

    /// The reason of a refusal. `None`: the action was done.
    #[must_use]
    pub const fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Done => None,
            Self::Refused(refusal) => Some(refusal),
        }
    }
}

/// The actor of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventActor {
    /// An unauthenticated client.
    Nobody,
    /// An authenticated user.
    User(UserId),
    /// The operator, with a command.
    Operator,
}

impl EventActor {
    /// The kind of actor, at most 16 characters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::User(_) => "user",
            Self::Operator => "operator",
        }
    }

    /// The authenticated user. `None`: the actor is another kind.
    #[must_use]
    pub const fn user(self) -> Option<UserId> {
        match self {
            Self::User(user) => Some(user),
            Self::Nobody | Self::Operator => None,
        }
    }
}

/// A field of a user that was changed, named as in the API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Field {
    /// The phone number.
    PhoneNumber,
    /// The password.
    Password,
    /// The locale.
    Locale,
    /// The status.
    Status,
    /// The staff flag.
    IsStaff,
    /// The superuser flag.
    IsSuperuser,
}

impl Field {
    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PhoneNumber => "phone_number",
            Self::Password => "password",
            Self::Locale => "locale",
            Self::Status => "status",
            Self::IsStaff => "is_staff",
            Self::IsSuperuser => "is_superuser",
        }
    }
}

/// An event before its outcome is known.
#[derive(Clone, Debug)]
pub struct AuditDraft {
    /// The action.
    pub action: Action,
    /// The actor.
    pub actor: EventActor,
    /// The user that the action affects. `None`: no known user.
    pub subject: Option<UserId>,
    /// The session that begins or ends, or that authenticated the actor.
    pub session: Option<SessionId>,
    /// The fields of the subject that the action changes.
    pub fields: Vec<Field>,
    /// Number of other sessions that the action ended. `None`: not counted, or the action ends no sessions.
    pub ended_sessions: Option<u64>,
    /// The calling service and its call.
    pub caller: Caller,
    /// The client of the actor.
    pub client: ClientInfo,
}

impl AuditDraft {
    /// Creates a draft for an unauthenticated client.
    #[must_use]
    pub fn by_nobody(action: Action, client: ClientInfo, caller: Caller) -> Self {
        Self {
            action,
            actor: EventActor::Nobody,
            subject: None,
            session: None,
            fields: Vec::new(),
            ended_sessions: None,
            caller,
            client,
        }
    }

    /// Creates a draft for an authenticated user that acts on their own account in this session.
    #[must_use]
    pub fn by_user(
        action: Action,
        user: UserId,
        session: SessionId,
        client: ClientInfo,
        caller: Caller,
    ) -> Self {
        Self::by_nobody(action, client, caller).as_user(user, session)
    }

    /// Sets an authenticated user as actor and subject, in this session.
    #[must_use]
    pub fn as_user(self, user: UserId, session: SessionId) -> Self {
        Self {
            actor: EventActor::User(user),
            subject: Some(user),
            session: Some(session),
            ..self
        }
    }

    /// Creates a draft for the operator, with a command.
    #[must_use]
    pub fn by_operator(action: Action) -> Self {
        Self {
            actor: EventActor::Operator,
            ..Self::by_nobody(action, ClientInfo::default(), Caller::default())
        }
    }

    /// Replaces actor and subject by a substitute ID and removes what could identify the user: session, client and
    /// request ID. The log of the calling service may map the request ID to the user.
    #[must_use]
    pub fn of_somebody(self, substitute: UserId) -> Self {
        Self {
            actor: EventActor::User(substitute),
            subject: Some(substitute),
            session: None,
            caller: Caller {
                request_id: None,
                ..self.caller
            },
            client: ClientInfo::default(),
            ..self
        }
    }

    /// Creates the event of a completed action.
    #[must_use]
    pub fn done(&self, now: Timestamp) -> Event {
        self.ended(Outcome::Done, now)
    }

    /// Creates the event of a refused action.
    #[must_use]
    pub fn refused(&self, refusal: Refusal, now: Timestamp) -> Event {
        self.ended(Outcome::Refused(refusal), now)
    }

    /// Creates the event of an action with this outcome.
    #[must_use]
    pub fn ended(&self, outcome: Outcome, now: Timestamp) -> Event {
        Event {
            id: EventId(clock::new_id(now)),
            at: now,
            occurrences: 1,
            outcome,
            attempt: self.clone(),
        }
    }
}

/// An event to store.
#[derive(Clone, Debug)]
pub struct Event {
    /// The ID.
    pub id: EventId,
    /// Time of the event.
    pub at: Timestamp,
    /// Number of equal events that the row stands for, at least 1.
    pub occurrences: u64,
    /// The outcome.
    pub outcome: Outcome,
    /// Action, actor, subject and origin.
    pub attempt: AuditDraft,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::proto::v1::ErrorReason;

    #[test]
    fn refusal_names_are_error_reasons_of_the_api() {
        for refusal in Refusal::ALL {
            let name = refusal.as_str();
            let reason = ErrorReason::from_str_name(&format!("ERROR_REASON_{name}"));
            // No call waits for the delivery of a message, so no caller receives this reason.
            assert_eq!(reason.is_some(), refusal != Refusal::SmsNotDelivered, "{name}");
        }
    }

    #[test]
    fn action_names_fit_their_column_and_round_trip() {
        let names: HashSet<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(names.len(), Action::ALL.len());
        for action in Action::ALL {
            assert!(action.as_str().len() <= 32 && !action.meaning().is_empty());
            // Maximum length of a table cell in the documentation.
            assert!(action.meaning().len() <= 120 && action.refusals().len() <= 120);
            assert_eq!(Action::parse(action.as_str()), Some(action));
        }
        assert_eq!(Action::parse("eat"), None);
    }
}
