//! Violations of the fields of a request, as field path, reason and text.

use tonic_types::{FieldViolation, LocalizedMessage};

use super::{text_id, wire_name};
use crate::domain::password::{PasswordError, code_point};
use crate::domain::phone::PhoneError;
use crate::i18n::Language;
use crate::proto::v1::ViolationReason;
use crate::service::error::{Problem, Violation};

pub(super) const VIOLATION_PREFIX: &str = "VIOLATION_REASON_";

/// Returns the code point of a character that passwords cannot have. The character itself may be invisible.
pub(super) fn forbidden_character(violation: &Violation) -> Option<String> {
    match violation.problem {
        Problem::Password(PasswordError::CharacterNotAllowed { character }) => Some(code_point(character)),
        _ => None,
    }
}

/// Returns the path of a field, with the index of the item if it is in a list.
fn field_path(violation: &Violation) -> String {
    match violation.index {
        Some(index) if violation.field.contains("[]") => {
            violation.field.replacen("[]", &format!("[{index}]"), 1)
        }
        Some(index) => format!("{}[{index}]", violation.field),
        None => violation.field.to_owned(),
    }
}

/// Returns the English description of a violation.
pub(super) fn describe(violation: &Violation) -> String {
    format!("{} {}", field_path(violation), violation.problem)
}

/// Returns a violation as a message.
pub(super) fn field_violation(violation: &Violation, language: Language) -> FieldViolation {
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

/// Returns the text of a violation for users.
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

pub(super) fn violation_reason(problem: Problem) -> ViolationReason {
    match problem {
        Problem::Required | Problem::Phone(PhoneError::Empty) | Problem::Password(PasswordError::Empty) => {
            ViolationReason::Required
        }
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
