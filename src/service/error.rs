//! What can go wrong, in the words of the domain. `grpc/status.rs` says what each looks like on the wire.

use std::time::Duration;

use thiserror::Error;

use crate::domain::RandomError;
use crate::domain::code::Sent;
use crate::domain::password::PasswordError;
use crate::domain::phone::PhoneError;
use crate::domain::sms_limits::SmsRefusal;
use crate::domain::throttle::SubjectKind;
use crate::store::StoreError;

/// Why a call failed.
#[derive(Debug, Error)]
pub enum Error {
    /// Fields of the request are not as they have to be. Never empty.
    #[error("invalid input in {} field(s)", .0.len())]
    InvalidInput(Vec<Violation>),
    /// The number is unknown or the password is wrong; nobody is told which.
    #[error("invalid credentials")]
    InvalidCredentials,
    /// The session token is missing, malformed, unknown or revoked.
    #[error("session invalid")]
    SessionInvalid,
    /// The session is past its absolute or idle lifetime.
    #[error("session expired")]
    SessionExpired,
    /// The actor is not a superuser.
    #[error("not a superuser")]
    NotSuperuser,
    /// The actor is neither staff nor a superuser.
    #[error("not staff")]
    NotStaff,
    /// There is no such user, or none that the actor may see.
    #[error("user not found")]
    UserNotFound,
    /// The person was changed since they had the etag that the change was decided on.
    #[error("etag mismatch")]
    EtagMismatch,
    /// `current_password` is not the actor's.
    #[error("current password wrong")]
    CurrentPasswordWrong,
    /// Somebody has the phone number.
    #[error("phone number taken")]
    PhoneNumberTaken,
    /// The password or the code is right, and the account is deactivated.
    #[error("account deactivated")]
    AccountDeactivated,
    /// `current_password` is unset and the sign-in is not fresh.
    #[error("reauthentication required")]
    ReauthenticationRequired,
    /// This would remove the last active superuser.
    #[error("last superuser")]
    LastSuperuser,
    /// The calling service has not proved who it is.
    #[error("calling service unknown")]
    ServiceUnknown,
    /// The calling service may not call this.
    #[error("calling service not allowed")]
    ServiceNotAllowed,
    /// `x-operator-key` is not the operator's key, or there is none.
    #[error("operator key wrong")]
    OperatorKeyWrong,
    /// The one-time code is wrong, expired, used up or of another purpose, or its challenge is not known.
    #[error("code invalid")]
    CodeInvalid,
    /// The number has to be verified by a code first.
    #[error("verification required")]
    VerificationRequired {
        /// The challenge whose code may be on its way. `None`: a code has to be asked for.
        sent: Option<Sent>,
    },
    /// Nobody can register, and accounts are made by superusers.
    #[error("registration closed")]
    RegistrationClosed,
    /// The code is right, and the number was changed so lately that it is not proof enough for this.
    #[error("phone number changed recently")]
    PhoneChangedRecently {
        /// When it will be.
        retry_after: Duration,
    },
    /// No message may be sent.
    #[error("no message may be sent: {}", .why.as_str())]
    SmsRefused {
        /// Why. Of what there were too many is counted, and not told to the caller.
        why: SmsRefusal,
        /// When to try again. `None`: never.
        retry_after: Option<Duration>,
    },
    /// There is no SMS provider.
    #[error("SMS not configured")]
    SmsNotConfigured,
    /// There were too many attempts without success, or too many right passwords from a network.
    #[error("too many attempts")]
    TooManyAttempts {
        /// When to try again.
        retry_after: Duration,
        /// Of what there were too many. It is counted, and not told to the caller.
        by: SubjectKind,
    },
    /// More passwords are waiting to be hashed than the queue takes.
    #[error("hashing queue full")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The database cannot be reached or is busy for too long.
    #[error("database unavailable")]
    DatabaseUnavailable(#[source] StoreError),
    /// A fault of this program, or of what it stands on.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// A fault that should not be possible.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }
}

/// An error and all its causes, on one line. `Display` shows the first only, and so does a log.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        // Some errors say what their cause is, and name it as their cause all the same.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

impl From<RandomError> for Error {
    fn from(error: RandomError) -> Self {
        Self::Internal(Box::new(error))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::PhoneNumberTaken => Self::PhoneNumberTaken,
            StoreError::NotCommitted(_) | StoreError::Unavailable(_) => Self::DatabaseUnavailable(error),
            StoreError::Fault(_) | StoreError::InvalidUrl(_) | StoreError::Unsuitable(_) => {
                Self::internal(error)
            }
        }
    }
}

/// What is wrong with one field of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The path of the field in the request, as in the proto file (`client.ip_address`).
    pub field: &'static str,
    /// The place in a repeated field, from 0. It is put where the path has `[]`, or at its end.
    pub index: Option<usize>,
    /// What is wrong.
    pub problem: Problem,
}

impl Violation {
    /// Says what is wrong with a field.
    #[must_use]
    pub const fn new(field: &'static str, problem: Problem) -> Self {
        Self {
            field,
            index: None,
            problem,
        }
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Problem {
    /// The field has to be given.
    #[error("must be given")]
    Required,
    /// The enum value is not known.
    #[error("is not a known value")]
    EnumValueUnknown,
    /// Two fields that exclude each other are both given.
    #[error("cannot be combined with `{0}`")]
    MutuallyExclusive(&'static str),
    /// More items than the field takes.
    #[error("has more than {0} items")]
    TooManyItems(usize),
    /// Not a session id.
    #[error("is not a session id")]
    SessionIdInvalid,
    /// Not a user id.
    #[error("is not a user id")]
    UserIdInvalid,
    /// Not a token of a page of this list.
    #[error(
        "is not a token of a page of this list: the filters and the order have to be those that it was made with"
    )]
    PageTokenInvalid,
    /// Not the beginning of an international phone number.
    #[error("is not + and the first digits of an international phone number")]
    PhoneNumberPrefixInvalid,
    /// Less than the least, or more than the most, that the field takes.
    #[error("is out of range")]
    OutOfRange,
    /// The field belongs to another purpose of a code.
    #[error("does not belong to this purpose")]
    NotOfPurpose,
    /// Not a time that can be stored.
    #[error("is not a time between the years 1 and 9999")]
    TimeInvalid,
    /// Not the name of a calling service.
    #[error("is not the name of a calling service")]
    ServiceNameInvalid,
    /// Not an IP address.
    #[error("is not an IP address")]
    IpAddressInvalid,
    /// Not a language tag.
    #[error("is not a BCP 47 language tag of at most 35 characters")]
    LocaleInvalid,
    /// The phone number, or its region.
    #[error(transparent)]
    Phone(#[from] PhoneError),
    /// The password.
    #[error(transparent)]
    Password(#[from] PasswordError),
}
