//! Authorization of administration: one rule of roles and actions, and one of what needs a fresh sign-in.

use thiserror::Error;

use super::user::User;

/// As what somebody administers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// As nobody who may.
    None,
    /// As staff.
    Staff,
    /// As a superuser, or as the operator at the command line.
    Superuser,
}

impl Role {
    /// The role of a person who is active. Whoever is both is a superuser.
    #[must_use]
    pub fn of(user: &User) -> Self {
        if user.is_superuser {
            Self::Superuser
        } else if user.is_staff {
            Self::Staff
        } else {
            Self::None
        }
    }
}

/// What administration does to people.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AdminAction {
    /// To see them.
    Read,
    /// To note that they hold their phone number.
    VerifyPhone,
    /// To end their sessions.
    RevokeSessions,
    /// To deactivate them.
    Deactivate,
    /// To bring them back.
    Reactivate,
    /// To create them.
    Create,
    /// To change what they may.
    Update,
    /// To give them a password.
    SetPassword,
    /// To delete them.
    Delete,
    /// To read what was done to and by them, in the audit log.
    ReadAudit,
}

/// Why somebody may not do something.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Denied {
    /// It takes staff or a superuser.
    #[error("not staff")]
    NotStaff,
    /// It takes a superuser.
    #[error("not a superuser")]
    NotSuperuser,
    /// The role may not see the user: staff see neither staff nor superusers. The answer has to be that for a user that
    /// does not exist.
    #[error("user is hidden")]
    Hidden,
}

/// Whether somebody of this role may do this to this person; without a person, whether there are people to whom they
/// may.
///
/// # Errors
/// Why not.
pub fn may(role: Role, action: AdminAction, person: Option<&User>) -> Result<(), Denied> {
    match (role, action) {
        (Role::None, _) => Err(Denied::NotStaff),
        (
            Role::Staff,
            AdminAction::Read
            | AdminAction::VerifyPhone
            | AdminAction::RevokeSessions
            | AdminAction::Deactivate,
        ) => match person {
            Some(person) if person.is_staff || person.is_superuser => Err(Denied::Hidden),
            _ => Ok(()),
        },
        (
            Role::Staff,
            AdminAction::Reactivate
            | AdminAction::Create
            | AdminAction::Update
            | AdminAction::SetPassword
            | AdminAction::Delete
            | AdminAction::ReadAudit,
        ) => Err(Denied::NotSuperuser),
        (Role::Superuser, _) => Ok(()),
    }
}

/// Whether an action on a user needs a fresh sign-in of the administrator. It does where its effect outlasts the
/// session: a stolen session must not create superusers, take over accounts, or remove the administrators that could
/// revoke it. `user` is the user before the action, or the new user; flags that an update changes need one, too.
#[must_use]
pub fn needs_fresh_sign_in(action: AdminAction, user: &User) -> bool {
    match action {
        AdminAction::SetPassword | AdminAction::Delete => true,
        AdminAction::Create
        | AdminAction::Update
        | AdminAction::Deactivate
        | AdminAction::Reactivate
        | AdminAction::RevokeSessions => user.is_privileged(),
        AdminAction::Read | AdminAction::ReadAudit | AdminAction::VerifyPhone => false,
    }
}
