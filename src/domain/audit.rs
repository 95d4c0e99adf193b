//! The audit log: who did what to whom, from where, and how it ended. Never a secret, and never a phone number.

use std::fmt;

use uuid::Uuid;

use super::caller::Caller;
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

/// What somebody did, or was refused. The names are stored, so they never change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Register.
    Register,
    /// Authenticate.
    SignIn,
    /// RevokeSession.
    RevokeSession,
    /// RevokeSessions.
    RevokeSessions,
    /// UpdateProfile.
    UpdateProfile,
    /// DeactivateProfile.
    DeactivateProfile,
    /// DeleteProfile.
    DeleteProfile,
    /// CreateSuperuser, and `createsuperuser`.
    CreateSuperuser,
    /// CreateUser, and `users create`.
    CreateUser,
    /// UpdateUser, and `users update`.
    UpdateUser,
    /// SetPassword.
    SetPassword,
    /// VerifyPhone, and `users verify`.
    VerifyPhone,
    /// RevokeUserSessions, and `users revoke-sessions`.
    RevokeUserSessions,
    /// DeactivateUser, and `users deactivate`.
    DeactivateUser,
    /// ReactivateUser, and `users reactivate`.
    ReactivateUser,
    /// DeleteUser, and `users delete`.
    DeleteUser,
    /// `changepassword`.
    ChangePassword,
    /// `after-restore`.
    AfterRestore,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Register,
        Self::SignIn,
        Self::RevokeSession,
        Self::RevokeSessions,
        Self::UpdateProfile,
        Self::DeactivateProfile,
        Self::DeleteProfile,
        Self::CreateSuperuser,
        Self::CreateUser,
        Self::UpdateUser,
        Self::SetPassword,
        Self::VerifyPhone,
        Self::RevokeUserSessions,
        Self::DeactivateUser,
        Self::ReactivateUser,
        Self::DeleteUser,
        Self::ChangePassword,
        Self::AfterRestore,
    ];

    /// The name, of at most 32 characters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::SignIn => "sign_in",
            Self::RevokeSession => "revoke_session",
            Self::RevokeSessions => "revoke_sessions",
            Self::UpdateProfile => "update_profile",
            Self::DeactivateProfile => "deactivate_profile",
            Self::DeleteProfile => "delete_profile",
            Self::CreateSuperuser => "create_superuser",
            Self::CreateUser => "create_user",
            Self::UpdateUser => "update_user",
            Self::SetPassword => "set_password",
            Self::VerifyPhone => "verify_phone",
            Self::RevokeUserSessions => "revoke_user_sessions",
            Self::DeactivateUser => "deactivate_user",
            Self::ReactivateUser => "reactivate_user",
            Self::DeleteUser => "delete_user",
            Self::ChangePassword => "change_password",
            Self::AfterRestore => "after_restore",
        }
    }

    /// When there is such an event, for the documentation, which a test compares with it.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Register => {
                "Somebody registered and is signed in by it; refused: the number is taken (whose it is, is not noted)"
            }
            Self::SignIn => {
                "Somebody signed in, by which the oldest sessions may have ended, and with `status` in `fields` the account \
                 is active again; refused: the number is unknown (there is no subject then), the password is wrong, or \
                 the account is deactivated"
            }
            Self::RevokeSession => "A session ended by its token; none if there was no such session any more",
            Self::RevokeSessions => "A person ended other sessions of theirs; none if there were none",
            Self::UpdateProfile => {
                "A person changed `fields` of their account, and a new password ended their other sessions; none if \
                 nothing changed; refused: the current password is wrong or was left out too late, or the number is taken"
            }
            Self::DeactivateProfile => {
                "A person deactivated their account; refused: as before, or they are the last superuser"
            }
            Self::DeleteProfile => "A person deleted their account; refused: as before",
            Self::CreateSuperuser => {
                "A superuser or the operator made a superuser; refused: the actor is none, or the number is taken"
            }
            Self::CreateUser => {
                "A superuser or the operator created a person; refused: the actor may not, or the number is taken"
            }
            Self::UpdateUser => {
                "A superuser or the operator changed `fields` of a person, by which their sessions may have ended; none if \
                 nothing changed; refused: the actor may not, the sign-in is not fresh, or it is the last superuser"
            }
            Self::SetPassword => {
                "A superuser set somebody's password and ended their sessions; refused: the actor may not, or the sign-in \
                 is not fresh"
            }
            Self::VerifyPhone => {
                "Administration noted that a person holds their number, an event for each of them; none if it was noted \
                 before; refused: the actor may not, or not to this person"
            }
            Self::RevokeUserSessions => {
                "Administration ended all sessions of a person; none if there were none; refused: as before"
            }
            Self::DeactivateUser => {
                "Administration deactivated a person and ended their sessions; none if it had done so before; refused: the \
                 actor may not, or not to this person, the sign-in is not fresh, or it is the last superuser"
            }
            Self::ReactivateUser => {
                "A superuser or the operator brought a person back; none if they were active; refused: the actor may not"
            }
            Self::DeleteUser => {
                "A superuser or the operator deleted a person, whom the event does not name; refused: the actor may not, \
                 the sign-in is not fresh, or it is the last superuser"
            }
            Self::ChangePassword => "The operator set somebody's password and ended their sessions",
            Self::AfterRestore => "The operator said that the database was restored",
        }
    }

    /// Takes a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
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
    /// The subject is staff or a superuser, and the actor is no superuser.
    UserIsStaff,
    /// The actor is not a superuser.
    NotSuperuser,
    /// It would remove the last active superuser.
    LastSuperuser,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::InvalidCredentials,
        Self::AccountDeactivated,
        Self::CurrentPasswordWrong,
        Self::ReauthenticationRequired,
        Self::PhoneNumberTaken,
        Self::NotStaff,
        Self::UserIsStaff,
        Self::NotSuperuser,
        Self::LastSuperuser,
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
            Self::UserIsStaff => "USER_IS_STAFF",
            Self::NotSuperuser => "NOT_SUPERUSER",
            Self::LastSuperuser => "LAST_SUPERUSER",
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
pub struct Attempt {
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

impl Attempt {
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

    /// The same by somebody whom an id stands for that leads nowhere, and to them: nothing names the person any more. The
    /// id of the call does, since the log of the calling service may know whose call it was.
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

    fn ended(&self, outcome: Outcome, now: Timestamp) -> Event {
        Event {
            id: EventId(clock::new_id(now)),
            at: now,
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
    /// How it ended.
    pub outcome: Outcome,
    /// What it was.
    pub attempt: Attempt,
}

/// An event as it was read. Names are text: a newer version may have written one that this one does not know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The id.
    pub id: EventId,
    /// When.
    pub at: Timestamp,
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

/// Which events to read; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct Filter {
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
            assert!(
                ErrorReason::from_str_name(&format!("ERROR_REASON_{name}")).is_some(),
                "{name}"
            );
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
