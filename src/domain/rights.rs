//! Authorization of administration: one rule for roles and actions, and one for actions that need a fresh sign-in.

use thiserror::Error;

use super::user::User;

/// Role of an actor in administration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// No role: the actor may not administer.
    None,
    /// Staff.
    Staff,
    /// A superuser, or the operator with a command.
    Superuser,
}

impl Role {
    /// The role of an active user. A user with both flags is a superuser.
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

/// An action of administration on a user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AdminAction {
    /// Read the user.
    Read,
    /// Mark the phone number as verified.
    VerifyPhone,
    /// Revoke the user's sessions.
    RevokeSessions,
    /// Deactivate the account.
    Deactivate,
    /// Reactivate the account.
    Reactivate,
    /// Create the user.
    Create,
    /// Change the user's roles and other fields.
    Update,
    /// Set a new password.
    SetPassword,
    /// Delete the user.
    Delete,
    /// Read the user's events in the audit log.
    ReadAudit,
}

/// Why an action is denied.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Denied {
    /// The action requires staff or a superuser.
    #[error("not staff")]
    NotStaff,
    /// The action requires a superuser.
    #[error("not a superuser")]
    NotSuperuser,
    /// The role may not see the user: staff see neither staff nor superusers. The response must equal that for a user
    /// that does not exist.
    #[error("user is hidden")]
    Hidden,
}

/// Whether a role permits an action on `user`. Without a user: whether the role permits the action on any user.
///
/// # Errors
/// The reason of the denial.
pub fn may(role: Role, action: AdminAction, user: Option<&User>) -> Result<(), Denied> {
    match (role, action) {
        (Role::None, _) => Err(Denied::NotStaff),
        (
            Role::Staff,
            AdminAction::Read
            | AdminAction::VerifyPhone
            | AdminAction::RevokeSessions
            | AdminAction::Deactivate,
        ) => match user {
            Some(user) if user.is_privileged() => Err(Denied::Hidden),
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
