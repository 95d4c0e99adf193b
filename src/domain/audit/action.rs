//! What the audit log tells of.

/// What somebody did, or was refused. The names are stored, so they never change.
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
    VerifyPhone,
    /// RevokeUserSessions, and `users revoke-sessions`.
    RevokeUserSessions,
    /// DeactivateUser, and `users deactivate`.
    DeactivateUser,
    /// ReactivateUser, and `users reactivate`.
    ReactivateUser,
    /// DeleteUser, and `users delete`.
    DeleteUser,
    /// SendCode.
    SendCode,
    /// A provider was given a code.
    DeliverCode,
    /// A provider was given a message that something has happened.
    DeliverNotice,
    /// VerifyCode, to sign in.
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
    /// All of them.
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

    /// What only staff, superusers and the operator do. [`Self::VerifyPhone`] is not among them: users do it to
    /// themselves, too.
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

    /// When there is such an event, for the documentation, which a test compares with it.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Register => {
                "Somebody registered and is signed in by it; refused: the number is taken (whose it is, is not noted), or the \
                 code is not right"
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
                "A superuser or the operator made a superuser; refused: the actor is none, the sign-in is not fresh, or the \
                 number is taken"
            }
            Self::CreateUser => {
                "A superuser or the operator created a person; refused: the actor may not, the sign-in is not fresh, or the \
                 number is taken"
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
                "Administration noted that a person holds their number, an event for each of them, and none if it was noted \
                 before; or the person showed it by a code; or, with another actor, somebody showed by a code to hold the \
                 number of this account, which nobody had verified: its sessions ended, and with `password` in `fields` \
                 its password is gone; refused: the actor may not, or not to this person, or the code \
                 is not right"
            }
            Self::RevokeUserSessions => {
                "Administration revoked all sessions, device tokens and codes of a user; refused: the actor may not, or not \
                 to this user, or the sign-in is not fresh"
            }
            Self::DeactivateUser => {
                "Administration deactivated a person and ended their sessions; none if it had done so before; refused: the \
                 actor may not, or not to this person, the sign-in is not fresh, or it is the last superuser"
            }
            Self::ReactivateUser => {
                "A superuser or the operator brought a person back; none if they were active; refused: the actor may not, or \
                 the sign-in is not fresh"
            }
            Self::DeleteUser => {
                "A superuser or the operator deleted a user; the event has the id of staff and superusers only; refused: the \
                 actor may not, the sign-in is not fresh, or it is the last superuser"
            }
            Self::SendCode => {
                "Somebody asked for a code, or for the same one once more, or wanted to register where numbers are verified \
                 first; the subject is whoever has the number, or is to have it. It is the same whether or not a message is sent"
            }
            Self::DeliverCode => {
                "An SMS provider took a message with a code; refused: none did before the code expired"
            }
            Self::DeliverNotice => {
                "An SMS provider took a message that tells a person that their number was changed, or that somebody wanted to \
                 register with it; refused: none did in time"
            }
            Self::SignInByCode => {
                "Somebody signed in by a code; with `phone_number` in `fields` the account is new, with `password` there was a \
                 password that nobody who held the number had set, and it is gone; refused: the code is not right, or the \
                 account is deactivated"
            }
            Self::ResetPassword => {
                "Somebody set a new password by a code, which ended all sessions; refused: as before, or the number was changed \
                 lately"
            }
            Self::ChangePhone => {
                "A person changed their number to one that they showed by a code to hold; refused: the current password is \
                 wrong or was left out too late, the code is not right, or the number is taken"
            }
            Self::ChangePassword => "The operator set somebody's password and ended their sessions",
            Self::AfterRestore => "The operator said that the database was restored",
            Self::CreateServiceKey => "The operator made a key for the calling service that the event names",
            Self::RevokeServiceKey => {
                "The operator revoked a key of the calling service that the event names; none if it was revoked before"
            }
        }
    }

    /// Takes a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}
