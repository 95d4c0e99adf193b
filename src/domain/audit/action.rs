//! Actions in the audit log.

/// An action that the audit log records. The names are stored, so they never change.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Action {
    /// Register, and VerifyCode, to register.
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
    /// VerifyPhone, `users verify`, and VerifyCode, to verify a number.
    ///
    /// Administration writes one event for each user, and none for a number that was verified before. With another
    /// actor, that actor proved by a code to hold the unverified number of this account: the sessions of the account
    /// ended, and with `password` in `fields` its password was removed.
    VerifyPhone,
    /// RevokeUserSessions, and `users revoke-sessions`.
    RevokeUserSessions,
    /// DeactivateUser, and `users deactivate`.
    DeactivateUser,
    /// ReactivateUser, and `users reactivate`.
    ReactivateUser,
    /// DeleteUser, and `users delete`.
    DeleteUser,
    /// SendCode, and Register where a code verifies numbers first. The subject is the user that has the number or
    /// requests to change to it.
    SendCode,
    /// An SMS provider accepted a message with a code.
    DeliverCode,
    /// An SMS provider accepted a notice.
    DeliverNotice,
    /// VerifyCode, to sign in. With `password` in `fields` the account had a password that no verified holder of the
    /// number had set, and the password was removed.
    SignInByCode,
    /// VerifyCode, to reset a password.
    ResetPassword,
    /// VerifyCode, to change a phone number.
    ChangePhone,
    /// `changepassword`.
    ChangePassword,
    /// `after-restore`.
    AfterRestore,
    /// `service-key create`.
    CreateServiceKey,
    /// `service-key revoke`.
    RevokeServiceKey,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 26] = [
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
        Self::SendCode,
        Self::DeliverCode,
        Self::DeliverNotice,
        Self::SignInByCode,
        Self::ResetPassword,
        Self::ChangePhone,
        Self::ChangePassword,
        Self::AfterRestore,
        Self::CreateServiceKey,
        Self::RevokeServiceKey,
    ];

    /// The actions of staff, superusers and the operator only. [`Self::VerifyPhone`] is not one of them: users verify
    /// their own numbers, too.
    pub const ADMINISTRATION: [Self; 8] = [
        Self::CreateSuperuser,
        Self::CreateUser,
        Self::UpdateUser,
        Self::SetPassword,
        Self::RevokeUserSessions,
        Self::DeactivateUser,
        Self::ReactivateUser,
        Self::DeleteUser,
    ];

    /// The name, at most 32 characters.
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
            Self::SendCode => "send_code",
            Self::DeliverCode => "deliver_code",
            Self::DeliverNotice => "deliver_notice",
            Self::SignInByCode => "sign_in_by_code",
            Self::ResetPassword => "reset_password",
            Self::ChangePhone => "change_phone",
            Self::ChangePassword => "change_password",
            Self::AfterRestore => "after_restore",
            Self::CreateServiceKey => "create_service_key",
            Self::RevokeServiceKey => "revoke_service_key",
        }
    }

    /// When the log contains a `done` event of this action: a cell of the table in the documentation.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Register => "A user registered and is signed in",
            Self::SignIn => {
                "A user signed in; the oldest sessions may have ended; `status` in `fields`: the account is reactivated"
            }
            Self::RevokeSession => "A session ended by its token; no event if it had ended before",
            Self::RevokeSessions => "A user ended other sessions of the account; no event if there were none",
            Self::UpdateProfile => {
                "A user changed `fields`; a new password ended the other sessions; no event if nothing changed"
            }
            Self::DeactivateProfile => "A user deactivated the account",
            Self::DeleteProfile => "A user deleted the account",
            Self::CreateSuperuser => "A superuser or the operator created a superuser",
            Self::CreateUser => "A superuser or the operator created a user",
            Self::UpdateUser => {
                "A superuser or the operator changed `fields`; sessions may have ended; no event if nothing changed"
            }
            Self::SetPassword => "A superuser set a user's password and ended the user's sessions",
            Self::VerifyPhone => {
                "A number was marked as verified by administration, or verified by a one-time code"
            }
            Self::RevokeUserSessions => {
                "Administration revoked all sessions, device tokens and codes of a user"
            }
            Self::DeactivateUser => {
                "Administration deactivated a user and ended the user's sessions; no event if it was done before"
            }
            Self::ReactivateUser => {
                "A superuser or the operator reactivated a user; no event if the user was active"
            }
            Self::DeleteUser => {
                "A superuser or the operator deleted a user; the event has the ID of staff and superusers only"
            }
            Self::SendCode => {
                "A client requested a code, requested it again, or registered where a code verifies numbers first"
            }
            Self::DeliverCode => "An SMS provider accepted a message with a code",
            Self::DeliverNotice => {
                "An SMS provider accepted a notice: a changed number, or a registration with a number in use"
            }
            Self::SignInByCode => {
                "A user signed in by a code; `phone_number` in `fields`: the account is new"
            }
            Self::ResetPassword => "A user set a new password by a code, which ended all sessions",
            Self::ChangePhone => "A user changed the number to one that a code verified",
            Self::ChangePassword => "The operator set a user's password and ended the user's sessions",
            Self::AfterRestore => "The operator declared that the database was restored",
            Self::CreateServiceKey => "The operator created a key of the calling service in the event",
            Self::RevokeServiceKey => {
                "The operator revoked a key of the calling service in the event; no event if it was revoked before"
            }
        }
    }

    /// When the log contains a `refused` event of this action: a cell of the table in the documentation.
    #[must_use]
    pub const fn refusals(self) -> &'static str {
        match self {
            Self::Register => "The number is taken (the event does not name its owner), or the code is wrong",
            Self::SignIn => {
                "The number is unknown (no subject), the password is wrong, or the account is deactivated"
            }
            Self::RevokeSession
            | Self::RevokeSessions
            | Self::ChangePassword
            | Self::AfterRestore
            | Self::CreateServiceKey
            | Self::RevokeServiceKey => "Never",
            Self::UpdateProfile => {
                "The current password is wrong or missing, or the number is taken or was changed recently"
            }
            Self::DeactivateProfile | Self::DeleteProfile => {
                "The current password is wrong or missing without a fresh sign-in, or it is the last superuser"
            }
            Self::CreateSuperuser | Self::CreateUser => {
                "The actor is not a superuser, the sign-in is not fresh, or the number is taken"
            }
            Self::UpdateUser => {
                "The actor is no superuser, the sign-in is not fresh, the number is taken, or it is the last superuser"
            }
            Self::DeleteUser => {
                "The actor is not a superuser, the sign-in is not fresh, or it is the last superuser"
            }
            Self::SetPassword | Self::ReactivateUser => {
                "The actor is not a superuser, or the sign-in is not fresh"
            }
            Self::VerifyPhone => "The actor may not do this to the user, or the code is wrong",
            Self::RevokeUserSessions => "The actor may not do this to the user, or the sign-in is not fresh",
            Self::DeactivateUser => {
                "The actor may not do this to the user, the sign-in is not fresh, or it is the last superuser"
            }
            Self::SendCode => "Never: the event is the same whether or not a message is sent",
            Self::DeliverCode => "No provider accepted it before the code expired",
            Self::DeliverNotice => "No provider accepted it in time",
            Self::SignInByCode => {
                "The code is wrong, the account is deactivated, or an unverified number was changed recently"
            }
            Self::ResetPassword => {
                "The code is wrong, the account is deactivated, or the number was changed recently"
            }
            Self::ChangePhone => {
                "The password is wrong or missing without a fresh sign-in, the code is wrong, or the number is taken"
            }
        }
    }

    /// The action with this name. `None`: no action has it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}
