//! The audit log: who did what to whom, from where, and how it ended. Never a secret, and never a phone number.

mod action;

use std::fmt;

use uuid::Uuid;

pub use action::Action;

use super::access::Caller;
use super::session::{ClientInfo, SessionId};
use super::user::UserId;
use crate::clock::{self, Timestamp};

/// An event's id, a UUIDv7: events sort by when they happened, to the millisecond.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct EventId(pub Uuid);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why something was refused: the reason that the caller was told, as in `ErrorReason` of the contract. What is refused
/// before it is known who asks for what is not in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The number is unknown or the password is wrong.
    InvalidCredentials,
    /// The password is right, and the account is deactivated.
    AccountDeactivated,
    /// `current_password` is not the person's.
    CurrentPasswordWrong,
    /// `current_password` is unset and the sign-in is not fresh.
    ReauthenticationRequired,
    /// Somebody has the phone number.
    PhoneNumberTaken,
    /// The actor is neither staff nor a superuser.
    NotStaff,
    /// There is no such user, or none that the actor may see. The event has no subject.
    UserNotFound,
    /// The actor is not a superuser.
    NotSuperuser,
    /// It would remove the last active superuser.
    LastSuperuser,
    /// The one-time code is not right.
    CodeInvalid,
    /// The number was changed lately, and is not proof enough for this.
    PhoneChangedRecently,
    /// No SMS provider took a message before there was no use in it.
    SmsNotDelivered,
}

impl Refusal {
    /// All of them.
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

    /// The name, of at most 64 characters: that of a value of `ErrorReason`, without its prefix.
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

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused(Refusal),
}

impl Outcome {
    /// The names without the reason.
    pub const NAMES: [&str; 2] = ["done", "refused"];

    /// The name without the reason, of at most 16 characters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused(_) => "refused",
        }
    }

    /// Why it was refused.
    #[must_use]
    pub const fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Done => None,
            Self::Refused(refusal) => Some(refusal),
        }
    }
}

/// Who did it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventActor {
    /// Somebody who has not shown who they are.
    Nobody,
    /// A person who has.
    User(UserId),
    /// The operator, at the command line.
    Operator,
}

impl EventActor {
    /// What kind of actor it is, in at most 16 characters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::User(_) => "user",
            Self::Operator => "operator",
        }
    }

    /// The person, if it is one.
    #[must_use]
    pub const fn user(self) -> Option<UserId> {
        match self {
            Self::User(user) => Some(user),
            Self::Nobody | Self::Operator => None,
        }
    }
}

/// What of a person was changed, by the name of its field in the contract.
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
    /// Whether they are staff.
    IsStaff,
    /// Whether they are a superuser.
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

/// Something that somebody is about to do, before it is known how it ends.
#[derive(Clone, Debug)]
pub struct AuditDraft {
    /// What.
    pub action: Action,
    /// Who.
    pub actor: EventActor,
    /// To whom. `None`: to nobody who is known.
    pub subject: Option<UserId>,
    /// The session that begins, ends, or was the actor's.
    pub session: Option<SessionId>,
    /// What of the subject is to change.
    pub fields: Vec<Field>,
    /// How many other sessions ended by it; `None`: that was not counted, or none can have.
    pub ended_sessions: Option<u64>,
    /// The service that the actor goes through.
    pub caller: Caller,
    /// The actor's device.
    pub client: ClientInfo,
}

impl AuditDraft {
    /// By somebody who has not shown who they are.
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

    /// By a person, with one of their sessions, to themselves.
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

    /// The same by somebody who has shown who they are, to themselves, in this session.
    #[must_use]
    pub fn as_user(self, user: UserId, session: SessionId) -> Self {
        Self {
            actor: EventActor::User(user),
            subject: Some(user),
            session: Some(session),
            ..self
        }
    }

    /// By the operator, at the command line.
    #[must_use]
    pub fn by_operator(action: Action) -> Self {
        Self {
            actor: EventActor::Operator,
            ..Self::by_nobody(action, ClientInfo::default(), Caller::default())
        }
    }

    /// The same by somebody whom an id stands for that leads nowhere, and to them: nothing names the person any more.
    /// The id of the call does, since the log of the calling service may know whose call it was.
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

    /// It was done.
    #[must_use]
    pub fn done(&self, now: Timestamp) -> Event {
        self.ended(Outcome::Done, now)
    }

    /// It was refused.
    #[must_use]
    pub fn refused(&self, refusal: Refusal, now: Timestamp) -> Event {
        self.ended(Outcome::Refused(refusal), now)
    }

    /// It ended so.
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

/// Something that somebody did, or was refused.
#[derive(Clone, Debug)]
pub struct Event {
    /// The id.
    pub id: EventId,
    /// When.
    pub at: Timestamp,
    /// Number of equal events that the row stands for, at least 1.
    pub occurrences: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// What it was.
    pub attempt: AuditDraft,
}

/// An event as it was read. Names are text: a newer version may have written one that this one does not know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditEntry {
    /// The id.
    pub id: EventId,
    /// When. Of several equal events: the first one.
    pub at: Timestamp,
    /// Number of equal events that the row stands for, at least 1.
    pub occurrences: u64,
    /// The name of an [`Action`].
    pub action: String,
    /// The name of an [`Outcome`].
    pub outcome: String,
    /// The name of a [`Refusal`], if it was refused.
    pub reason: Option<String>,
    /// The name of an [`EventActor`].
    pub actor: String,
    /// The person who did it.
    pub actor_id: Option<UserId>,
    /// The person to whom it was done.
    pub subject_id: Option<UserId>,
    /// The session that began, ended, or was the actor's.
    pub session_id: Option<SessionId>,
    /// The names of [`Field`]s that were changed, or were to be.
    pub fields: Vec<String>,
    /// How many other sessions ended by it.
    pub ended_sessions: Option<u64>,
    /// The service that the actor went through.
    pub service: Option<String>,
    /// The actor's device.
    pub client: ClientInfo,
    /// The id of the call.
    pub request_id: Option<String>,
}

/// The most characters of the name of a calling service that are kept.
pub const MAX_SERVICE_LENGTH: usize = 128;

/// Whether this may be the name of a calling service that is in the log.
#[must_use]
pub fn is_service_name(name: &str) -> bool {
    name.chars().count() <= MAX_SERVICE_LENGTH && !name.contains(char::is_control)
}

/// Which events to read; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// To whom.
    pub subject: Option<UserId>,
    /// By whom.
    pub actor: Option<UserId>,
    /// What.
    pub action: Option<Action>,
    /// How it ended: `true` for done, `false` for refused.
    pub is_done: Option<bool>,
    /// Through which service.
    pub service: Option<String>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::proto::v1::ErrorReason;

    #[test]
    fn reasons_are_those_of_the_contract() {
        for refusal in Refusal::ALL {
            let name = refusal.as_str();
            let reason = ErrorReason::from_str_name(&format!("ERROR_REASON_{name}"));
            // Who was to get a message is not there to be told.
            assert_eq!(reason.is_some(), refusal != Refusal::SmsNotDelivered, "{name}");
        }
    }

    #[test]
    fn names_fit_their_columns_and_are_read_again() {
        let names: HashSet<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        assert_eq!(names.len(), Action::ALL.len());
        for action in Action::ALL {
            assert!(action.as_str().len() <= 32 && !action.meaning().is_empty());
            assert_eq!(Action::parse(action.as_str()), Some(action));
        }
        assert_eq!(Action::parse("eat"), None);
    }
}
