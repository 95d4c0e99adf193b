//! What errors look like on the wire. This is the only place that makes a [`Status`].
//!
//! Every status has exactly one ErrorInfo and a LocalizedMessage; invalid input has a BadRequest with all violations;
//! what passes by waiting has a RetryInfo. Faults are logged here, once, and tell the caller nothing.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::SecondsFormat;
use thiserror::Error;

use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, LocalizedMessage, StatusExt as _};

use crate::clock::Timestamp;
use crate::domain::code::Sent;
use crate::domain::password::{PasswordError, code_point};
use crate::domain::phone::PhoneError;
use crate::domain::sms_limits::SmsRefusal;
use crate::domain::throttle::SubjectKind;
use crate::i18n::Language;
use crate::proto::v1::{ErrorReason, ViolationReason};
use crate::service::error::{Error, Problem, Violation, chain};

/// The domain of every ErrorInfo.
pub const ERROR_DOMAIN: &str = "phone-identity";

/// The header with the encodings of messages that the server accepts.
pub(super) const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// When to try again after the database was away.
const DATABASE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// When to try again after there were too many calls in flight.
const CALLS_RETRY_AFTER: Duration = Duration::from_secs(1);

/// How many violations the message of a status describes. All of them are in its details; but a status travels in
/// headers, which some clients bound at 8 KiB.
const MAX_DESCRIBED: usize = 4;

/// The status of a domain error.
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

/// Of what there were too many attempts: the cause of a status, which is not told to the caller.
#[derive(Clone, Copy, Debug, Error)]
#[error("too many attempts by {}", .0.as_str())]
pub(super) struct Throttled(pub(super) SubjectKind);

/// Of what there were too many attempts, if that is why a call was refused.
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
        // As Google's AIP-154 has it: what was read before is out of date, and has to be read again.
        Error::EtagMismatch => (Code::Aborted, ErrorReason::EtagMismatch),
        // Not UNAUTHENTICATED: middleware would take that for a dead session and sign the person out.
        Error::CurrentPasswordWrong => (Code::PermissionDenied, ErrorReason::CurrentPasswordWrong),
        // Nor these, for the same reason.
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

/// What is refused before a domain error is possible.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WireError {
    /// The bytes are not the message of this RPC.
    MalformedMessage,
    /// The message is over the size limit, in bytes.
    MessageTooLarge { limit: usize },
    /// The deadline has passed.
    DeadlineExceeded,
    /// The metadata is over the size limit, in bytes.
    MetadataTooLarge { limit: u32 },
    /// No such RPC.
    NotImplemented,
    /// The message is compressed.
    Compressed,
    /// There are too many calls in flight, or too much of them in memory.
    Overloaded,
}

/// The status of what is refused before a domain error is possible.
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

/// How a stream of health or reflection ends when its connection does. It is no error of ours, and has no details:
/// their clients know that they have to ask again, on another connection.
pub(super) fn of_ended_stream() -> Status {
    Status::unavailable("the connection is closing")
}

const ERROR_PREFIX: &str = "ERROR_REASON_";
const VIOLATION_PREFIX: &str = "VIOLATION_REASON_";

/// The name of an enum value without its prefix.
fn wire_name(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// The id of the text that belongs to a reason, in `locales/`.
fn text_id(kind: &str, name: &str) -> String {
    format!("{kind}-{}", name.to_ascii_lowercase().replace('_', "-"))
}

fn details(reason: ErrorReason, language: Language) -> ErrorDetails {
    let name = wire_name(reason.as_str_name(), ERROR_PREFIX);
    let mut details = ErrorDetails::with_error_info(name, ERROR_DOMAIN, HashMap::new());
    details.set_localized_message(language.tag(), language.text(&text_id("error", name), &[]));
    details
}

/// Puts what else there is to know of an error into its ErrorInfo.
fn set_metadata<const N: usize>(
    details: &mut ErrorDetails,
    reason: ErrorReason,
    metadata: [(&str, String); N],
) {
    let name = wire_name(reason.as_str_name(), ERROR_PREFIX);
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    details.set_error_info(name, ERROR_DOMAIN, HashMap::from(metadata));
}

/// A challenge as metadata: what SendCodeResponse has, by the names that it has in JSON.
fn challenge(sent: &Sent) -> [(&'static str, String); 4] {
    let time = |time: Timestamp| time.to_rfc3339_opts(SecondsFormat::Micros, true);
    [
        ("challengeId", sent.challenge.to_string()),
        ("resendAfter", time(sent.resend_after)),
        ("expiresAt", time(sent.expires_at)),
        ("codeLength", sent.code_length.to_string()),
    ]
}

/// The character that a password may not have, by its code point: it may be one that cannot be seen.
fn forbidden_character(violation: &Violation) -> Option<String> {
    match violation.problem {
        Problem::Password(PasswordError::CharacterNotAllowed { character }) => Some(code_point(character)),
        _ => None,
    }
}

fn field_path(violation: &Violation) -> String {
    match violation.index {
        Some(index) if violation.field.contains("[]") => {
            violation.field.replacen("[]", &format!("[{index}]"), 1)
        }
        Some(index) => format!("{}[{index}]", violation.field),
        None => violation.field.to_owned(),
    }
}

fn describe(violation: &Violation) -> String {
    format!("{} {}", field_path(violation), violation.problem)
}

fn field_violation(violation: &Violation, language: Language) -> FieldViolation {
    let name = wire_name(
        violation_reason(violation.problem).as_str_name(),
        VIOLATION_PREFIX,
    );
    FieldViolation {
        field: field_path(violation),
        description: violation.problem.to_string(),
        reason: name.to_owned(),
        localized_message: Some(LocalizedMessage {
            locale: language.tag().to_owned(),
            message: violation_text(violation.problem, language),
        }),
    }
}

/// What people are told of a field that is wrong.
pub(crate) fn violation_text(problem: Problem, language: Language) -> String {
    let name = wire_name(violation_reason(problem).as_str_name(), VIOLATION_PREFIX);
    let id = text_id("violation", name);
    match problem {
        Problem::Password(PasswordError::TooShort { min_length }) => {
            language.text(&id, &[("min", min_length.into())])
        }
        Problem::Password(PasswordError::CharacterNotAllowed { character }) => {
            language.text(&id, &[("character", code_point(character).as_str().into())])
        }
        _ => language.text(&id, &[]),
    }
}

fn violation_reason(problem: Problem) -> ViolationReason {
    match problem {
        Problem::Required | Problem::Phone(PhoneError::Empty) => ViolationReason::Required,
        Problem::EnumValueUnknown => ViolationReason::EnumValueUnknown,
        Problem::MutuallyExclusive(_) => ViolationReason::MutuallyExclusive,
        Problem::TooManyItems(_) => ViolationReason::TooManyItems,
        Problem::SessionIdInvalid => ViolationReason::SessionIdInvalid,
        Problem::UserIdInvalid => ViolationReason::UserIdInvalid,
        Problem::PageTokenInvalid => ViolationReason::PageTokenInvalid,
        Problem::PhoneNumberPrefixInvalid => ViolationReason::PhoneNumberPrefixInvalid,
        Problem::OutOfRange => ViolationReason::OutOfRange,
        Problem::NotOfPurpose => ViolationReason::NotOfPurpose,
        Problem::TimeInvalid => ViolationReason::TimeInvalid,
        Problem::ServiceNameInvalid => ViolationReason::ServiceNameInvalid,
        Problem::IpAddressInvalid => ViolationReason::IpAddressInvalid,
        Problem::LocaleInvalid => ViolationReason::LocaleInvalid,
        Problem::Phone(problem) => match problem {
            PhoneError::Empty => ViolationReason::Required,
            PhoneError::InputTooLong => ViolationReason::PhoneNumberInputTooLong,
            PhoneError::CharacterNotAllowed => ViolationReason::PhoneNumberCharacterNotAllowed,
            PhoneError::RegionUnknown => ViolationReason::RegionUnknown,
            PhoneError::RegionRequired => ViolationReason::PhoneNumberRegionRequired,
            PhoneError::NotANumber => ViolationReason::PhoneNumberNotANumber,
            PhoneError::CountryCodeUnknown => ViolationReason::PhoneNumberCountryCodeUnknown,
            PhoneError::TooShort => ViolationReason::PhoneNumberTooShort,
            PhoneError::TooLong => ViolationReason::PhoneNumberTooLong,
            PhoneError::LengthNotPossible => ViolationReason::PhoneNumberLengthNotPossible,
            PhoneError::LocalOnly => ViolationReason::PhoneNumberLocalOnly,
            PhoneError::NotStable => ViolationReason::PhoneNumberNotStable,
            PhoneError::NotValid => ViolationReason::PhoneNumberNotValid,
            PhoneError::LineTypeNotAllowed => ViolationReason::PhoneNumberLineTypeNotAllowed,
        },
        // By name, so that a new password rule needs no change here. A test compares the names with the contract.
        Problem::Password(problem) => {
            let name = format!("{VIOLATION_PREFIX}{}", problem.reason());
            ViolationReason::from_str_name(&name).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::proto::DESCRIPTORS;

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
