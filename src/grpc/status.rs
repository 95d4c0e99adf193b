//! gRPC status of errors. Only this module creates a [`Status`].
//!
//! Every status has exactly one ErrorInfo and one LocalizedMessage. A status of invalid input has a BadRequest with all
//! violations, and one that a later retry can avoid has a RetryInfo. Internal errors are logged here, once, and their
//! status reveals no details.

mod violations;

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::SecondsFormat;
use thiserror::Error;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::clock::Timestamp;
use crate::domain::code::Sent;
use crate::domain::sms_limits::SmsRefusal;
use crate::domain::throttle::SubjectKind;
use crate::i18n::Language;
use crate::proto::v1::ErrorReason;
use crate::service::error::{Error, chain};
pub(crate) use violations::violation_text;
use violations::{describe, field_violation, forbidden_character};

/// The domain of every ErrorInfo.
pub const ERROR_DOMAIN: &str = "phone-identity";

/// The metadata key of the message encodings that the server accepts.
pub(super) const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// RetryInfo of DATABASE_UNAVAILABLE.
const DATABASE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// RetryInfo of OVERLOADED, if too many calls are in flight.
const CALLS_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Maximum number of violations in the message of a status. The details have all of them. A status is sent in headers,
/// which some clients limit to 8 KiB.
const MAX_DESCRIBED: usize = 4;

/// Returns the status of a domain error.
pub(super) fn of_error(error: &Error, language: Language) -> Status {
    let (code, reason) = classify(error);
    let mut details = details(reason, language);
    let mut message = error.to_string();
    match error {
        Error::InvalidInput(violations) => {
            message = violations
                .iter()
                .take(MAX_DESCRIBED)
                .map(describe)
                .collect::<Vec<_>>()
                .join("; ");
            if let Some(more) = violations
                .len()
                .checked_sub(MAX_DESCRIBED)
                .filter(|more| *more > 0)
            {
                message.push_str(&format!("; and {more} more"));
            }
            if let Some(character) = violations.iter().find_map(forbidden_character) {
                set_metadata(&mut details, reason, [("character", character)]);
            }
            let violations = violations
                .iter()
                .map(|violation| field_violation(violation, language));
            details.set_bad_request(violations.collect::<Vec<_>>());
        }
        Error::Overloaded { retry_after }
        | Error::TooManyAttempts { retry_after, .. }
        | Error::PhoneChangedRecently { retry_after } => {
            details.set_retry_info(Some(*retry_after));
        }
        Error::SmsRefused { retry_after, .. } => {
            "no message may be sent".clone_into(&mut message);
            details.set_retry_info(*retry_after);
        }
        Error::VerificationRequired { sent: Some(sent) } => {
            set_metadata(&mut details, reason, challenge(sent));
        }
        Error::DatabaseUnavailable(_) => {
            tracing::warn!(error = chain(error), "database unavailable");
            details.set_retry_info(Some(DATABASE_RETRY_AFTER));
        }
        Error::Internal(_) => tracing::error!(error = chain(error), "internal error"),
        _ => {}
    }
    let mut status = Status::with_error_details(code, message, details);
    if let Error::TooManyAttempts { by, .. } = error {
        status.set_source(Arc::new(Throttled(*by)));
    }
    status
}

/// The kind of throttle subject that refused a call. It is the source of the status, and is not sent to the caller.
#[derive(Clone, Copy, Debug, Error)]
#[error("too many attempts by {}", .0.as_str())]
pub(super) struct Throttled(pub(super) SubjectKind);

/// Returns the kind of throttle subject that refused a call. `None`: the call was not throttled.
pub(super) fn throttled_by(response: &http::Response<Body>) -> Option<SubjectKind> {
    let cause = response.extensions().get::<Status>()?.source()?;
    cause.downcast_ref().map(|Throttled(by)| *by)
}

fn classify(error: &Error) -> (Code, ErrorReason) {
    match error {
        Error::InvalidInput(_) => (Code::InvalidArgument, ErrorReason::InvalidInput),
        Error::InvalidCredentials => (Code::Unauthenticated, ErrorReason::InvalidCredentials),
        Error::SessionInvalid => (Code::Unauthenticated, ErrorReason::SessionInvalid),
        Error::SessionExpired => (Code::Unauthenticated, ErrorReason::SessionExpired),
        Error::NotSuperuser => (Code::PermissionDenied, ErrorReason::NotSuperuser),
        Error::NotStaff => (Code::PermissionDenied, ErrorReason::NotStaff),
        Error::UserNotFound => (Code::NotFound, ErrorReason::UserNotFound),
        // Google's AIP-154: the client has to read the resource again.
        Error::EtagMismatch => (Code::Aborted, ErrorReason::EtagMismatch),
        // Not UNAUTHENTICATED: middleware would take that for an invalid session and sign the user out.
        Error::CurrentPasswordWrong => (Code::PermissionDenied, ErrorReason::CurrentPasswordWrong),
        // These are not UNAUTHENTICATED either, for the same reason.
        Error::ServiceUnknown => (Code::PermissionDenied, ErrorReason::ServiceUnknown),
        Error::ServiceNotAllowed => (Code::PermissionDenied, ErrorReason::ServiceNotAllowed),
        Error::OperatorKeyWrong => (Code::PermissionDenied, ErrorReason::OperatorKeyWrong),
        Error::PhoneNumberTaken => (Code::AlreadyExists, ErrorReason::PhoneNumberTaken),
        Error::AccountDeactivated => (Code::FailedPrecondition, ErrorReason::AccountDeactivated),
        Error::ReauthenticationRequired => (Code::FailedPrecondition, ErrorReason::ReauthenticationRequired),
        Error::LastSuperuser => (Code::FailedPrecondition, ErrorReason::LastSuperuser),
        Error::CodeInvalid => (Code::InvalidArgument, ErrorReason::CodeInvalid),
        Error::VerificationRequired { .. } => (Code::FailedPrecondition, ErrorReason::VerificationRequired),
        Error::RegistrationClosed => (Code::PermissionDenied, ErrorReason::RegistrationClosed),
        Error::PhoneChangedRecently { .. } => (Code::FailedPrecondition, ErrorReason::PhoneChangedRecently),
        Error::SmsRefused { why, .. } => match why {
            SmsRefusal::CountryNotAllowed => (Code::FailedPrecondition, ErrorReason::SmsCountryNotAllowed),
            SmsRefusal::Number
            | SmsRefusal::Prefix
            | SmsRefusal::Address
            | SmsRefusal::Service
            | SmsRefusal::Country
            | SmsRefusal::Total => (Code::ResourceExhausted, ErrorReason::SmsLimitReached),
            SmsRefusal::Budget => (Code::ResourceExhausted, ErrorReason::SmsBudgetExhausted),
            SmsRefusal::Paused | SmsRefusal::PausedForSource => {
                (Code::ResourceExhausted, ErrorReason::SmsPaused)
            }
        },
        Error::SmsNotConfigured => (Code::FailedPrecondition, ErrorReason::SmsNotConfigured),
        Error::TooManyAttempts { .. } => (Code::ResourceExhausted, ErrorReason::TooManyAttempts),
        Error::Overloaded { .. } => (Code::Unavailable, ErrorReason::Overloaded),
        Error::DatabaseUnavailable(_) => (Code::Unavailable, ErrorReason::DatabaseUnavailable),
        Error::Internal(_) => (Code::Internal, ErrorReason::Internal),
    }
}

/// An error of the protocol: the call is refused before its handler.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WireError {
    /// The bytes are not a message of this RPC.
    MalformedMessage,
    /// The message exceeds the size limit, in bytes.
    MessageTooLarge { limit: usize },
    /// The timeout of the call has passed.
    DeadlineExceeded,
    /// The metadata exceeds the size limit, in bytes.
    MetadataTooLarge { limit: u32 },
    /// The RPC does not exist.
    NotImplemented,
    /// The message is compressed.
    Compressed,
    /// Too many calls are in flight, or they use too much memory.
    Overloaded,
}

/// Returns the status of an error of the protocol.
pub(super) fn of_wire_error(error: WireError, language: Language) -> Status {
    let (code, reason, message) = match error {
        WireError::MalformedMessage => (
            Code::InvalidArgument,
            ErrorReason::MalformedMessage,
            "malformed message",
        ),
        WireError::MessageTooLarge { .. } => (
            Code::ResourceExhausted,
            ErrorReason::MessageTooLarge,
            "message too large",
        ),
        WireError::MetadataTooLarge { .. } => (
            Code::ResourceExhausted,
            ErrorReason::MetadataTooLarge,
            "metadata too large",
        ),
        WireError::Compressed => (
            Code::Unimplemented,
            ErrorReason::CompressionNotSupported,
            "compressed messages are not supported",
        ),
        WireError::DeadlineExceeded => (
            Code::DeadlineExceeded,
            ErrorReason::DeadlineExceeded,
            "deadline exceeded",
        ),
        WireError::NotImplemented => (
            Code::Unimplemented,
            ErrorReason::NotImplemented,
            "not implemented",
        ),
        WireError::Overloaded => (
            Code::Unavailable,
            ErrorReason::Overloaded,
            "too many calls in flight",
        ),
    };
    let mut details = details(reason, language);
    if error == WireError::Overloaded {
        details.set_retry_info(Some(CALLS_RETRY_AFTER));
    }
    if let WireError::MessageTooLarge { limit } = error {
        set_metadata(&mut details, reason, [("maxBytes", limit.to_string())]);
    }
    if let WireError::MetadataTooLarge { limit } = error {
        set_metadata(&mut details, reason, [("maxBytes", limit.to_string())]);
    }
    let mut status = Status::with_error_details(code, message, details);
    if error == WireError::Compressed {
        // https://github.com/grpc/grpc/blob/master/doc/compression.md
        let accepted = MetadataValue::from_static("identity");
        status.metadata_mut().insert(ACCEPT_ENCODING, accepted);
    }
    status
}

/// Returns the status of an endless stream whose connection closes. Clients of health and reflection expect a plain
/// status, and then open the stream again on another connection.
pub(super) fn of_ended_stream() -> Status {
    Status::unavailable("the connection is closing")
}

const ERROR_PREFIX: &str = "ERROR_REASON_";

/// Returns the name of an enum value without its prefix.
fn wire_name(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// Returns the id of the text of a reason, in `locales/`.
fn text_id(kind: &str, name: &str) -> String {
    format!("{kind}-{}", name.to_ascii_lowercase().replace('_', "-"))
}

/// Returns the details that every status has.
fn details(reason: ErrorReason, language: Language) -> ErrorDetails {
    let name = wire_name(reason.as_str_name(), ERROR_PREFIX);
    let mut details = ErrorDetails::with_error_info(name, ERROR_DOMAIN, HashMap::new());
    details.set_localized_message(language.tag(), language.text(&text_id("error", name), &[]));
    details
}

/// Sets the metadata of the ErrorInfo.
fn set_metadata<const N: usize>(
    details: &mut ErrorDetails,
    reason: ErrorReason,
    metadata: [(&str, String); N],
) {
    let name = wire_name(reason.as_str_name(), ERROR_PREFIX);
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    details.set_error_info(name, ERROR_DOMAIN, HashMap::from(metadata));
}

/// Returns a challenge as metadata: the fields of SendCodeResponse by their JSON names.
fn challenge(sent: &Sent) -> [(&'static str, String); 4] {
    let time = |time: Timestamp| time.to_rfc3339_opts(SecondsFormat::Micros, true);
    [
        ("challengeId", sent.challenge.to_string()),
        ("resendAfter", time(sent.resend_after)),
        ("expiresAt", time(sent.expires_at)),
        ("codeLength", sent.code_length.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::violations::{VIOLATION_PREFIX, violation_reason};
    use super::*;
    use crate::domain::password::PasswordError;
    use crate::proto::DESCRIPTORS;
    use crate::proto::v1::ViolationReason;
    use crate::service::error::Problem;

    /// Returns the number of values of an enum of the contract, without its first one, UNSPECIFIED.
    fn count_of(name: &str) -> usize {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let mut enums = files.iter().flat_map(|file| &file.enum_type);
        enums.find(|found| found.name() == name).unwrap().value.len() - 1
    }

    #[test]
    fn every_password_rule_has_its_reason_in_the_contract() {
        let rules = PasswordError::EXAMPLES.map(PasswordError::reason);
        let expected: BTreeSet<&str> = (1..100)
            .filter_map(|number| ViolationReason::try_from(number).ok())
            .map(|reason| wire_name(reason.as_str_name(), VIOLATION_PREFIX))
            .filter(|name| name.starts_with("PASSWORD_") || *name == "REQUIRED")
            .collect();
        assert_eq!(BTreeSet::from(rules), expected);
        for (rule, reason) in PasswordError::EXAMPLES.into_iter().zip(rules) {
            let found = violation_reason(Problem::Password(rule));
            assert_eq!(wire_name(found.as_str_name(), VIOLATION_PREFIX), reason);
        }
    }

    /// Every reason of the contract has a text of its own in every language.
    #[test]
    fn no_reason_lacks_a_text() {
        let errors = (1..100).filter_map(|number| ErrorReason::try_from(number).ok());
        let errors: Vec<String> = errors
            .map(|reason| text_id("error", wire_name(reason.as_str_name(), ERROR_PREFIX)))
            .collect();
        let violations = (1..100).filter_map(|number| ViolationReason::try_from(number).ok());
        let violations: Vec<String> = violations
            .map(|reason| text_id("violation", wire_name(reason.as_str_name(), VIOLATION_PREFIX)))
            .collect();
        assert_eq!(errors.len(), count_of("ErrorReason"));
        assert_eq!(violations.len(), count_of("ViolationReason"));
        for id in errors.iter().chain(&violations) {
            let english = Language::English.text(id, &[("min", 8.into())]);
            assert_ne!(english, *id, "no English text");
            for language in [Language::Uzbek, Language::Russian, Language::Turkish] {
                let text = language.text(id, &[("min", 8.into())]);
                assert!(text != english && text != *id, "{id} has no text in {language:?}");
            }
        }
    }
}
