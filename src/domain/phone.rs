//! Phone numbers: the key of a person. One person, one key: the E.164 form that Google's libphonenumber
//! gives.
//!
//! An input goes through the door (`phone/door.rs`), then through `rlibphonenumber`, and must come out of it
//! the same when it is read again. There are two ways in. **Taking** a number ([`PhoneNumber::parse_new`])
//! asks for a valid number of an allowed line type. **Looking one up** ([`NumberQuery::parse`]) accepts every
//! length, so that a number that was taken once can always be looked up, whatever becomes of the numbering
//! plans.
//!
//! The `phonenumber` crate is not used: `tests/phone_differential.rs` shows why.

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

/// How many digits an E.164 form can have here, the country calling code included.
///
/// E.164 allows 15, but libphonenumber knows longer numbers that are in use, as in Germany: up to 3 digits of
/// calling code and 17 of national number. The shortest has two digits of calling code and two of national
/// number.
const DIGITS: std::ops::RangeInclusive<usize> = 4..=20;

/// A phone number in E.164 form: `+`, country calling code, national number, digits only, such as
/// `+998901234567`.
///
/// Two are equal, and order, as their text does. It is personal data: there is no `Display`, and `Debug` is
/// masked.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneNumber(Box<str>);

impl PhoneNumber {
    /// Reads a number of a possible length, whether or not a user has it. [`NumberQuery::parse`] is for
    /// look-ups.
    ///
    /// A number that starts with `+` and a country calling code is read the same under every
    /// `default_region`. A national number is read by the rules of `default_region`, and refused without one.
    /// (`+` followed by a region's prefix for calling abroad, as in `+00 44 ...`, has no calling code: as in
    /// libphonenumber, only a region with that prefix can make sense of it.)
    ///
    /// # Errors
    /// Any [`PhoneError`] but `RegionUnknown`, `LocalOnly`, `NotValid` and `LineTypeNotAllowed`.
    pub fn parse(input: &str, default_region: Option<Region>) -> Result<Self, PhoneError> {
        ParsedInput::of(input, default_region).map(|reading| reading.key)
    }

    /// Reads a number to **take**: as [`PhoneNumber::parse`] does, and it must be valid (libphonenumber's
    /// `isValidNumber`) and of one of the `allowed` line types.
    ///
    /// # Errors
    /// Any [`PhoneError`] but `RegionUnknown`.
    pub fn parse_new(
        input: &str,
        default_region: Option<Region>,
        allowed: LineTypes,
    ) -> Result<Self, PhoneError> {
        let reading = ParsedInput::of(input, default_region)?;
        if !reading.number.is_valid() {
            return Err(if reading.length == NumberLengthType::IsPossibleLocalOnly {
                PhoneError::LocalOnly
            } else {
                PhoneError::NotValid
            });
        }
        if !allowed.contains(LineType::of(reading.number.get_type())) {
            return Err(PhoneError::LineTypeNotAllowed);
        }
        Ok(reading.key)
    }

    /// Takes back a key that was stored before. It is never rewritten, and not measured by today's numbering
    /// plans: only its shape is checked, `+` and 4 to 20 ASCII digits of which the first is not `0`.
    ///
    /// # Errors
    /// [`PhoneError::NotANumber`] when the shape is another. The database then holds something that this
    /// program did not write.
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

    /// The E.164 form, `+` included. Do not log it: log [`PhoneNumber::masked`].
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The national number as it stands in the E.164 form, after the calling code: digits only, leading zeros
    /// kept.
    ///
    /// All digits, when the calling code of a stored number is no longer assigned.
    #[must_use]
    pub fn national_number(&self) -> &str {
        self.split().1
    }

    /// A form for logs and for people who only need to recognise it, as `+998•••••4567`: the country calling
    /// code, a bullet for every hidden digit, the last four digits. At least half of the national number
    /// stays hidden, so of a short one fewer digits are shown. When the calling code is not known, at most
    /// the last two digits are shown.
    #[must_use]
    pub fn masked(&self) -> String {
        let (code, national) = self.split();
        let most = if code.is_empty() { 2 } else { 4 };
        let shown = most.min(national.len() / 2);
        let hidden = national.len() - shown;
        format!("+{code}{}{}", "•".repeat(hidden), &national[hidden..])
    }

    /// What kind of line the number belongs to, by today's numbering plans; [`LineType::Unknown`] when they
    /// know none, which cannot happen right after [`PhoneNumber::parse_new`].
    #[must_use]
    pub fn line_type(&self) -> LineType {
        self.library()
            .map_or(LineType::Unknown, |number| LineType::of(number.get_type()))
    }

    /// Which country or territory the number belongs to, by today's numbering plans; `None` when they do not
    /// say, which cannot happen right after [`PhoneNumber::parse_new`].
    #[must_use]
    pub fn region(&self) -> Option<NumberRegion> {
        self.library()?.get_region_code().map(NumberRegion::of)
    }

    /// The calling code and the national number, both without `+`. The code is empty when it is not assigned.
    fn split(&self) -> (&str, &str) {
        let digits = self.0.trim_start_matches('+');
        // No calling code is the start of another one (ITU-T E.164), so the first that fits is the only one.
        (1..=3)
            .filter_map(|length| digits.split_at_checked(length))
            .find(|(code, _)| {
                code.parse()
                    .is_ok_and(|code| PHONE_NUMBER_UTIL.get_region_for_country_code(code).is_some())
            })
            .unwrap_or(("", digits))
    }

    /// Reads the key again, to ask the library about it.
    fn library(&self) -> Option<LibraryNumber> {
        PHONE_NUMBER_UTIL.parse(&self.0, None).ok()
    }
}

/// Masked, so that a number does not reach a log through a struct that contains it.
impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PhoneNumber")
            .field(&format_args!("{}", self.masked()))
            .finish()
    }
}

/// What taking and looking up have in common: an input that the parser read, and its key.
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
        // An extension cannot be written with what the door lets through. If the parser found one all the
        // same, two people behind one switchboard would share a key, so it is refused as the characters would
        // have been.
        if number.extension.is_some() {
            return Err(PhoneError::CharacterNotAllowed);
        }
        let length = number.is_possible_with_reason().map_err(|error| match error {
            // Cannot happen: a number was read, so its calling code is known.
            ValidationError::InvalidCountryCode => PhoneError::CountryCodeUnknown,
            ValidationError::TooShort => PhoneError::TooShort,
            ValidationError::InvalidLength => PhoneError::LengthNotPossible,
            ValidationError::TooLong => PhoneError::TooLong,
        })?;
        let key = number.format_as(PhoneNumberFormat::E164).into_owned();
        // A number whose key is read as another number has no key. It happens when the national number starts
        // with what the parser takes for a trunk prefix, and goes on to do so after that was cut off once.
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
            // The parser says so too when it has neither a `+` nor a region to find the country by.
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
