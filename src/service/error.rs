//! Error type of the service layer. `grpc/status.rs` maps each error to a gRPC status.

use std::time::Duration;

use thiserror::Error;

use crate::domain::RandomError;
use crate::domain::code::Sent;
use crate::domain::password::PasswordError;
use crate::domain::phone::PhoneError;
use crate::domain::sms_limits::SmsRefusal;
use crate::domain::throttle::SubjectKind;
use crate::store::StoreError;

/// Reason for which a call failed.
#[derive(Debug, Error)]
pub enum Error {
    /// One or more fields of the request are invalid. Never empty.
    #[error("invalid input in {} field(s)", .0.len())]
    InvalidInput(Vec<Violation>),
    /// The number is unknown or the password is wrong. The response does not reveal which.
    #[error("invalid credentials")]
    InvalidCredentials,
    /// The session token is missing, malformed, unknown or revoked.
    #[error("session invalid")]
    SessionInvalid,
    /// The session has reached its absolute or idle lifetime.
    #[error("session expired")]
    SessionExpired,
    /// The actor is not a superuser.
    #[error("not a superuser")]
    NotSuperuser,
    /// The actor is neither staff nor a superuser.
    #[error("not staff")]
    NotStaff,
    /// The user does not exist, or the actor may not see the user.
    #[error("user not found")]
    UserNotFound,
    /// The user was changed after the etag of the request was read.
    #[error("etag mismatch")]
    EtagMismatch,
    /// `current_password` is not the password of the actor.
    #[error("current password wrong")]
    CurrentPasswordWrong,
    /// Another user has the phone number.
    #[error("phone number taken")]
    PhoneNumberTaken,
    /// The password or the code is correct, but the account is deactivated.
    #[error("account deactivated")]
    AccountDeactivated,
    /// `current_password` is unset and the sign-in is not fresh.
    #[error("reauthentication required")]
    ReauthenticationRequired,
    /// The change would remove the last active superuser.
    #[error("last superuser")]
    LastSuperuser,
    /// The calling service is not authenticated.
    #[error("calling service unknown")]
    ServiceUnknown,
    /// The calling service has no permission for this RPC.
    #[error("calling service not allowed")]
    ServiceNotAllowed,
    /// `x-operator-key` is missing or is not the operator key.
    #[error("operator key wrong")]
    OperatorKeyWrong,
    /// The one-time code is wrong, expired, used or of another purpose, or its challenge is unknown.
    #[error("code invalid")]
    CodeInvalid,
    /// The number has to be verified by a one-time code first.
    #[error("verification required")]
    VerificationRequired {
        /// The challenge of a code that may be on its way. `None`: the client has to request a code.
        sent: Option<Sent>,
    },
    /// Registration is closed. Only superusers create accounts.
    #[error("registration closed")]
    RegistrationClosed,
    /// The code is correct, but the number was changed so recently that it does not prove ownership of the account.
    #[error("phone number changed recently")]
    PhoneChangedRecently {
        /// Time until the number is sufficient proof.
        retry_after: Duration,
    },
    /// The service refuses to send a message.
    #[error("no message may be sent: {}", .why.as_str())]
    SmsRefused {
        /// Reason of the refusal. Metrics count the exceeded limit; the caller does not learn it.
        why: SmsRefusal,
        /// Time until the next attempt is allowed. `None`: never.
        retry_after: Option<Duration>,
    },
    /// No SMS provider is configured.
    #[error("SMS not configured")]
    SmsNotConfigured,
    /// Too many failed attempts, or too many correct passwords from one network.
    #[error("too many attempts")]
    TooManyAttempts {
        /// Time until the next attempt is allowed.
        retry_after: Duration,
        /// Subject of the exceeded limit. Metrics count it; the caller does not learn it.
        by: SubjectKind,
    },
    /// The hashing queue is full.
    #[error("hashing queue full")]
    Overloaded {
        /// Time until the next attempt is allowed.
        retry_after: Duration,
    },
    /// The database cannot be reached, or stays busy beyond the timeout.
    #[error("database unavailable")]
    DatabaseUnavailable(#[source] StoreError),
    /// A fault of this program or of its environment.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps the cause of a fault that the callers of this program cannot correct.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }
}

/// Returns an error and all its causes on one line. `Display` shows only the first of them, and so does a log field.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let cause_text = next.to_string();
        // Some errors include their cause in their text and also return it as their source.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
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

/// A violated rule of one field of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Path of the field in the request, as in the proto file (`client.ip_address`).
    pub field: &'static str,
    /// Index in a repeated field, from 0. It is inserted where the path has `[]`, or else appended.
    pub index: Option<usize>,
    /// The violated rule.
    pub problem: Problem,
}

impl Violation {
    /// A violation of a field that is not repeated.
    #[must_use]
    pub const fn new(field: &'static str, problem: Problem) -> Self {
        Self {
            field,
            index: None,
            problem,
        }
    }
}

/// Rule that a field of a request violates.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Problem {
    /// The field is required.
    #[error("must be given")]
    Required,
    /// The enum value is unknown.
    #[error("is not a known value")]
    EnumValueUnknown,
    /// Two mutually exclusive fields are set.
    #[error("cannot be combined with `{0}`")]
    MutuallyExclusive(&'static str),
    /// The field has more items than its maximum.
    #[error("has more than {0} items")]
    TooManyItems(usize),
    /// The value is not a session id.
    #[error("is not a session id")]
    SessionIdInvalid,
    /// The value is not a user id.
    #[error("is not a user id")]
    UserIdInvalid,
    /// The value is not a page token of this list.
    #[error(
        "is not a token of a page of this list: the filters and the order have to be those that it was made with"
    )]
    PageTokenInvalid,
    /// The value is not the beginning of an international phone number.
    #[error("is not + and the first digits of an international phone number")]
    PhoneNumberPrefixInvalid,
    /// The value is below the minimum or above the maximum of the field.
    #[error("is out of range")]
    OutOfRange,
    /// The field belongs to another purpose of a code.
    #[error("does not belong to this purpose")]
    NotOfPurpose,
    /// The value is not a time that can be stored.
    #[error("is not a time between the years 1 and 9999")]
    TimeInvalid,
    /// The value is not the name of a calling service.
    #[error("is not the name of a calling service")]
    ServiceNameInvalid,
    /// The value is not an IP address.
    #[error("is not an IP address")]
    IpAddressInvalid,
    /// The value is not a language tag.
    #[error("is not a BCP 47 language tag of at most 35 characters")]
    LocaleInvalid,
    /// The phone number or its region is invalid.
    #[error(transparent)]
    Phone(#[from] PhoneError),
    /// The password is invalid.
    #[error(transparent)]
    Password(#[from] PasswordError),
}
