//! Number query: the E.164 form by which an existing account is looked up.
//!
//! Numbering plans change: Ivory Coast went from eight digits to ten, and Mexico dropped the 1 of mobile numbers. An
//! account keeps the number of its registration, so a look-up accepts lengths that current plans no longer allow. A
//! registration needs [`PhoneNumber::parse_new`].

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat};

use super::{PhoneError, PhoneNumber, Region, sanitize};

/// Minimum number of digits of a form outside of the current plans: no number that libphonenumber ever accepted as
/// valid has fewer. An input with fewer digits is an incomplete number.
const MIN_DIGITS: usize = 6;

/// The E.164 form of a number to look up, whether or not an account has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NumberQuery(PhoneNumber);

impl NumberQuery {
    /// Parses a number to look up: as [`PhoneNumber::parse`], or in its exact form if its country has no numbers of
    /// this length today. The exact form of an international number is `+` and its digits; that of a national number is
    /// the E.164 form that libphonenumber computes.
    ///
    /// # Errors
    /// As [`PhoneNumber::parse`]. A length is an error only if no number ever had it: fewer than 6 digits including the
    /// calling code, or more than 20.
    pub fn parse(input: &str, default_region: Option<Region>) -> Result<Self, PhoneError> {
        match PhoneNumber::parse(input, default_region) {
            Ok(number) => Ok(Self(number)),
            Err(error) if is_of_length(error) => exact(input, default_region).map(Self).ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// The key of accounts, limits and challenges.
    #[must_use]
    pub fn key(&self) -> &PhoneNumber {
        &self.0
    }

    /// Returns the key. It is for look-ups only: the number may be invalid for a registration.
    #[must_use]
    pub fn into_key(self) -> PhoneNumber {
        self.0
    }
}

/// The key of a parsed number is its own form.
impl From<PhoneNumber> for NumberQuery {
    fn from(number: PhoneNumber) -> Self {
        Self(number)
    }
}

fn is_of_length(error: PhoneError) -> bool {
    matches!(
        error,
        PhoneError::TooShort | PhoneError::TooLong | PhoneError::LengthNotPossible
    )
}

/// The form of this number under an older plan. `None`: it has none.
fn exact(input: &str, default_region: Option<Region>) -> Option<PhoneNumber> {
    let input = sanitize::sanitize(input).ok()?;
    if let Some(digits) = international_digits(&input) {
        return stored(format!("+{digits}"));
    }
    let number = PHONE_NUMBER_UTIL
        .parse(&input, default_region.map(Region::library))
        .ok()?;
    let key = number.format_as(PhoneNumberFormat::E164).into_owned();
    // A key that parses as another number would find the account of another user.
    let is_stable = PhoneNumber::parse(&key, None).is_err_and(is_of_length);
    stored(key).filter(|_| is_stable)
}

/// The key, if an account could have been registered with it.
fn stored(key: String) -> Option<PhoneNumber> {
    let is_complete = key.len() > MIN_DIGITS;
    PhoneNumber::from_stored(key).ok().filter(|_| is_complete)
}

/// The digits of a number that begins with its only `+`. `None`: it is national.
fn international_digits(input: &str) -> Option<String> {
    let start = input.find(|c: char| c == '+' || c.is_ascii_digit())?;
    let digits = input.get(start..)?.strip_prefix('+')?;
    let is_one_number = !digits.contains('+');
    is_one_number.then(|| digits.chars().filter(char::is_ascii_digit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(input: &str, region: Option<&str>) -> Result<String, PhoneError> {
        let region = region.map(|code| Region::parse(code).unwrap());
        NumberQuery::parse(input, region).map(|query| query.key().as_str().to_owned())
    }

    /// Mobile numbers that were valid, from the national numbering plans of the ITU: Ivory Coast until January 2021,
    /// Mexico until August 2019. The length of the last number is between the lengths of Andorra.
    #[test]
    fn numbers_of_older_plans_are_looked_up_in_their_exact_form() {
        for key in ["+22507123456", "+5215512345678", "+3767123456"] {
            let rejected = PhoneNumber::parse(key, None);
            assert!(rejected.clone().is_err_and(is_of_length), "{key}: {rejected:?}");
            for region in [None, Some("UZ"), Some("CI"), Some("US")] {
                assert_eq!(look_up(key, region).as_deref(), Ok(key));
            }
            // In another notation.
            let written = format!("\u{202a}({}) {}-{}\n", &key[..4], &key[4..8], &key[8..]);
            assert_eq!(look_up(&written, None).as_deref(), Ok(key), "{written:?}");
            let registered = PhoneNumber::parse_new(key, None, super::super::LineTypes::all());
            assert!(registered.is_err(), "{key} can be registered");
        }
    }

    #[test]
    fn national_numbers_of_older_plans_are_looked_up_with_their_region() {
        assert_eq!(look_up("07 12 34 56", Some("CI")).as_deref(), Ok("+22507123456"));
        assert_eq!(look_up("07 12 34 56", None), Err(PhoneError::RegionRequired));
    }

    #[test]
    fn a_possible_number_has_the_key_of_the_parser() {
        for (input, region) in [
            ("+998 90 123 45 67", None),
            ("90 123 45 67", Some("UZ")),
            ("+44 (0)20 7946 0958", None),
            ("00 998 90 123 45 67", Some("MK")),
        ] {
            let parsed = PhoneNumber::parse(input, region.map(|code| Region::parse(code).unwrap()));
            assert_eq!(
                look_up(input, region),
                parsed.map(|number| number.as_str().to_owned())
            );
        }
    }

    #[test]
    fn impossible_numbers_are_rejected_as_by_the_parser() {
        use PhoneError as E;
        for (input, error) in [
            ("", E::Empty),
            ("+", E::NotANumber),
            ("+99", E::NotANumber),
            ("+998", E::TooShort),
            ("+998 90", E::TooShort),
            ("+1 234567890123456789012", E::TooLong),
            ("+999 99 999 99 99", E::CountryCodeUnknown),
            ("+355008001234", E::NotStable),
            ("+12015550123x5", E::CharacterNotAllowed),
            ("+1 201 555 0123/+1 201 555 0124", E::NotANumber),
        ] {
            assert_eq!(look_up(input, None), Err(error), "{input}");
        }
        assert_eq!(look_up("7", Some("UZ")), Err(E::NotANumber));
    }
}
