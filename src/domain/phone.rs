//! Phone numbers: the key of a user. Each number has exactly one key: the E.164 form that Google's libphonenumber
//! computes.
//!
//! The sanitizer (`phone/sanitize.rs`) cleans an input, `rlibphonenumber` parses it, and parsing its E.164 form again
//! must give the same number. There are two entry points. **Registration** ([`PhoneNumber::parse_new`]) requires a
//! valid number of an allowed line type. **Look-up** ([`NumberQuery::parse`]) accepts every length, so that a
//! registered number can always be looked up, even after a change of the numbering plans.
//!
//! `tests/phone_differential.rs` shows why the `phonenumber` crate is not used.

mod error;
mod line_type;
mod prefix;
mod query;
mod region;
mod sanitize;
#[cfg(test)]
mod tests;

use std::fmt;

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, ParseError, PhoneNumber as LibraryNumber, PhoneNumberFormat,
    ValidationError,
};

#[cfg(any(test, fuzzing))]
pub(crate) use self::sanitize::is_removed;
pub(crate) use self::sanitize::{Folded, fold};
pub use self::{
    error::PhoneError,
    line_type::{LineType, LineTypes, UnknownLineType},
    prefix::{NotAPrefix, NumberPrefix},
    query::NumberQuery,
    region::{NumberRegion, Region},
    sanitize::MAX_INPUT_CHARS,
};

/// Range of the length of an E.164 form, in digits including the country calling code.
///
/// E.164 allows 15 digits, but libphonenumber accepts longer numbers that are in use, as in Germany: up to 3 digits of
/// calling code and 17 of national number. The shortest number has two digits of calling code and two of national
/// number.
const DIGITS: std::ops::RangeInclusive<usize> = 4..=20;

/// A phone number in E.164 form: `+`, country calling code and national number, such as `+998901234567`.
///
/// Equality and order are those of the text. A number is personal data: it has no `Display`, and `Debug` is masked.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber(Box<str>);

impl PhoneNumber {
    /// Parses a number of a possible length, whether or not a user has it. [`NumberQuery::parse`] is for look-ups.
    ///
    /// A number that starts with `+` and a country calling code does not depend on `default_region`. A national number
    /// is parsed by the rules of `default_region`, and rejected without one. (`+` followed by an international prefix,
    /// as in `+00 44 ...`, has no calling code: as in libphonenumber, only a region with that prefix can parse it.)
    ///
    /// # Errors
    /// Any [`PhoneError`] but `RegionUnknown`, `LocalOnly`, `NotValid` and `LineTypeNotAllowed`.
    pub fn parse(input: &str, default_region: Option<Region>) -> Result<Self, PhoneError> {
        ParsedInput::of(input, default_region).map(|parsed| parsed.key)
    }

    /// Parses a number for registration: as [`PhoneNumber::parse`], and the number must be valid (libphonenumber's
    /// `isValidNumber`) and of one of the `allowed` line types.
    ///
    /// # Errors
    /// Any [`PhoneError`] but `RegionUnknown`.
    pub fn parse_new(
        input: &str,
        default_region: Option<Region>,
        allowed: LineTypes,
    ) -> Result<Self, PhoneError> {
        let parsed = ParsedInput::of(input, default_region)?;
        if !parsed.number.is_valid() {
            return Err(if parsed.length == NumberLengthType::IsPossibleLocalOnly {
                PhoneError::LocalOnly
            } else {
                PhoneError::NotValid
            });
        }
        if !allowed.contains(LineType::of(parsed.number.get_type())) {
            return Err(PhoneError::LineTypeNotAllowed);
        }
        Ok(parsed.key)
    }

    /// Wraps a stored key unchanged. Checks only its form (`+` and 4 to 20 ASCII digits, the first one not `0`), not
    /// the numbering plans of today.
    ///
    /// # Errors
    /// [`PhoneError::NotANumber`] for another form. This program did not write such a value.
    pub fn from_stored(key: String) -> Result<Self, PhoneError> {
        let well_formed = key.strip_prefix('+').is_some_and(|digits| {
            DIGITS.contains(&digits.len())
                && !digits.starts_with('0')
                && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        if well_formed {
            Ok(Self(key.into()))
        } else {
            Err(PhoneError::NotANumber)
        }
    }

    /// The E.164 form, including `+`. Do not log it: log [`PhoneNumber::masked`].
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The national number: the digits after the calling code, with leading zeros. All digits if the calling code of a
    /// stored number is no longer assigned.
    #[must_use]
    pub fn national_number(&self) -> &str {
        self.split().1
    }

    /// The masked form for logs, such as `+998•••••4567`: the country calling code, a bullet for each hidden digit, and
    /// the last four digits. At least half of the national number is hidden, so a short number shows fewer digits.
    /// Shows at most the last two digits if the calling code is unknown.
    #[must_use]
    pub fn masked(&self) -> String {
        let (code, national) = self.split();
        let max_shown = if code.is_empty() { 2 } else { 4 };
        let shown = max_shown.min(national.len() / 2);
        let hidden = national.len() - shown;
        format!("+{code}{}{}", "•".repeat(hidden), &national[hidden..])
    }

    /// The line type of the number by the current numbering plans. [`LineType::Unknown`] if they have none, which
    /// cannot happen directly after [`PhoneNumber::parse_new`].
    #[must_use]
    pub fn line_type(&self) -> LineType {
        self.library()
            .map_or(LineType::Unknown, |number| LineType::of(number.get_type()))
    }

    /// The country or territory of the number by the current numbering plans. `None` if they have none, which cannot
    /// happen directly after [`PhoneNumber::parse_new`].
    #[must_use]
    pub fn region(&self) -> Option<NumberRegion> {
        self.library()?.get_region_code().map(NumberRegion::of)
    }

    /// The calling code and the national number, both without `+`. The code is empty when it is not assigned.
    fn split(&self) -> (&str, &str) {
        let digits = self.0.trim_start_matches('+');
        // No calling code is a prefix of another one (ITU-T E.164), so the first match is the only one.
        (1..=3)
            .filter_map(|length| digits.split_at_checked(length))
            .find(|(code, _)| {
                code.parse()
                    .is_ok_and(|code| PHONE_NUMBER_UTIL.get_region_for_country_code(code).is_some())
            })
            .unwrap_or(("", digits))
    }

    /// The number as a value of the library.
    fn library(&self) -> Option<LibraryNumber> {
        PHONE_NUMBER_UTIL.parse(&self.0, None).ok()
    }
}

/// Masked, so that no log shows a number through a struct that contains it.
impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PhoneNumber")
            .field(&format_args!("{}", self.masked()))
            .finish()
    }
}

/// A parsed input with its key, for registration and look-up.
struct ParsedInput {
    number: LibraryNumber,
    length: NumberLengthType,
    key: PhoneNumber,
}

impl ParsedInput {
    fn of(input: &str, default_region: Option<Region>) -> Result<Self, PhoneError> {
        let input = sanitize::sanitize(input)?;
        let number = PHONE_NUMBER_UTIL
            .parse(&input, default_region.map(Region::library))
            .map_err(|error| Self::unreadable(&error, &input, default_region))?;
        // The sanitizer rejects the characters of extensions. If the parser still found one, two users behind one
        // switchboard would share a key, so the number is rejected with the same error.
        if number.extension.is_some() {
            return Err(PhoneError::CharacterNotAllowed);
        }
        let length = number.is_possible_with_reason().map_err(|error| match error {
            // Cannot happen: a parsed number has a known calling code.
            ValidationError::InvalidCountryCode => PhoneError::CountryCodeUnknown,
            ValidationError::TooShort => PhoneError::TooShort,
            ValidationError::InvalidLength => PhoneError::LengthNotPossible,
            ValidationError::TooLong => PhoneError::TooLong,
        })?;
        let key = number.format_as(PhoneNumberFormat::E164).into_owned();
        // A number has no key if parsing its E.164 form gives another number. That happens if the national number
        // begins with a trunk prefix for the parser, and still does after the parser has removed it once.
        let again = PHONE_NUMBER_UTIL.parse(&key, None);
        if !again.is_ok_and(|again| again.format_as(PhoneNumberFormat::E164) == key) {
            return Err(PhoneError::NotStable);
        }
        Ok(Self {
            number,
            length,
            key: PhoneNumber(key.into()),
        })
    }

    fn unreadable(error: &ParseError, input: &str, default_region: Option<Region>) -> PhoneError {
        match error {
            // The parser also returns this error if the input has neither a `+` nor a region.
            ParseError::InvalidCountryCode if default_region.is_none() && !input.contains('+') => {
                PhoneError::RegionRequired
            }
            ParseError::InvalidCountryCode => PhoneError::CountryCodeUnknown,
            ParseError::NotANumber(_) => PhoneError::NotANumber,
            ParseError::TooShortAfterIdd | ParseError::TooShortNsn => PhoneError::TooShort,
            ParseError::TooLongNsn => PhoneError::TooLong,
        }
    }
}
