//! Number query: the E.164 form by which an existing account is looked up.
//!
//! Numbering plans change: Ivory Coast went from eight digits to ten, and Mexico dropped the 1 of mobile numbers. An
//! account keeps the number that it was registered with, so a look-up accepts what the plan of today no longer allows.
//! Nothing is registered by a query: that needs [`PhoneNumber::parse_new`].

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat};

use super::{PhoneError, PhoneNumber, Region, sanitize};

/// Minimum number of digits of a form that no plan of today has: no number that libphonenumber ever called valid has
/// fewer. Fewer are a number that is not complete.
const MIN_DIGITS: usize = 6;

/// The E.164 form of a number to look up, whether or not an account has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NumberQuery(PhoneNumber);

impl NumberQuery {
    /// Reads a number to look up: as [`PhoneNumber::parse`] does, or in its exact form if its country has no numbers of
    /// this length today. The exact form of an international number is `+` and its digits as they are written; that of
    /// a national one is what libphonenumber makes of it.
    ///
    /// # Errors
    /// Those of [`PhoneNumber::parse`]. A length is an error only if no number ever had it: fewer than 6 digits with
    /// the calling code, or more than 20.
    pub fn parse(input: &str, default_region: Option<Region>) -> Result<Self, PhoneError> {
        match PhoneNumber::parse(input, default_region) {
            Ok(number) => Ok(Self(number)),
            Err(error) if is_of_length(error) => exact(input, default_region).map(Self).ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// The key that accounts, limits and challenges are found by.
    #[must_use]
    pub fn key(&self) -> &PhoneNumber {
        &self.0
    }

    /// Gives the key up. It is that of a stored account, or of none: nothing is registered under it.
    #[must_use]
    pub fn into_key(self) -> PhoneNumber {
        self.0
    }
}

/// A number that was read is looked up by its own form.
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

/// The form under which an older plan stored this number, if it has one.
fn exact(input: &str, default_region: Option<Region>) -> Option<PhoneNumber> {
    let input = sanitize::sanitize(input).ok()?;
    if let Some(digits) = international_digits(&input) {
        return stored(format!("+{digits}"));
    }
    let number = PHONE_NUMBER_UTIL
        .parse(&input, default_region.map(Region::library))
        .ok()?;
    let key = number.format_as(PhoneNumberFormat::E164).into_owned();
    // A key that reads as another number would find the account of another user.
    let is_stable = PhoneNumber::parse(&key, None).is_err_and(is_of_length);
    stored(key).filter(|_| is_stable)
}

/// The key, if an account can have been registered under it.
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

    /// Mobile numbers that were valid once, by the national numbering plans of the ITU: Ivory Coast until January 2021,
    /// Mexico until August 2019. The last one is of a length between those of Andorra.
    #[test]
    fn numbers_of_older_plans_are_looked_up_in_their_exact_form() {
        for key in ["+22507123456", "+5215512345678", "+3767123456"] {
            let refused = PhoneNumber::parse(key, None);
            assert!(refused.clone().is_err_and(is_of_length), "{key}: {refused:?}");
            for region in [None, Some("UZ"), Some("CI"), Some("US")] {
                assert_eq!(look_up(key, region).as_deref(), Ok(key));
            }
            // However it is written.
            let written = format!("\u{202a}({}) {}-{}\n", &key[..4], &key[4..8], &key[8..]);
            assert_eq!(look_up(&written, None).as_deref(), Ok(key), "{written:?}");
            let taken = PhoneNumber::parse_new(key, None, super::super::LineTypes::all());
            assert!(taken.is_err(), "{key} may be registered");
        }
    }

    #[test]
    fn national_numbers_of_older_plans_are_looked_up_with_their_region() {
        assert_eq!(look_up("07 12 34 56", Some("CI")).as_deref(), Ok("+22507123456"));
        assert_eq!(look_up("07 12 34 56", None), Err(PhoneError::RegionRequired));
    }

    #[test]
    fn a_number_that_is_possible_has_the_key_of_the_parser() {
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
    fn what_no_number_can_be_is_refused_as_before() {
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
