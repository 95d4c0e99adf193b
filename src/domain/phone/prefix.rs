//! Number prefix: a filter for users by the first digits of their phone numbers.

use std::fmt;

use thiserror::Error;

use super::sanitize::MAX_INPUT_BYTES;
use super::{DIGITS, Folded, fold};

/// A prefix of E.164 forms: `+` and digits, the first one not `0`. `+` alone is a prefix of all numbers.
///
/// A long prefix can identify a user, so `Debug` shows only the number of digits.
#[derive(Clone, Eq, PartialEq)]
pub struct NumberPrefix(String);

/// The text is not a prefix of an international phone number.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("is not + and the first digits of an international phone number")]
pub struct NotAPrefix;

impl NumberPrefix {
    /// Parses a typed or pasted prefix. Ignores spaces, dashes and format characters, as in numbers.
    ///
    /// # Errors
    /// When the input does not begin with `+`, has other characters, or has more digits than any number.
    pub fn parse(input: &str) -> Result<Self, NotAPrefix> {
        if input.len() > MAX_INPUT_BYTES {
            return Err(NotAPrefix);
        }
        let mut prefix = String::new();
        for c in input.chars() {
            match fold(c) {
                Folded::Ascii('+') if prefix.is_empty() => prefix.push('+'),
                Folded::Ascii('+') | Folded::Refused => return Err(NotAPrefix),
                Folded::Ascii(digit) if digit.is_ascii_digit() => prefix.push(digit),
                Folded::Ascii(_) | Folded::Removed => {}
            }
        }
        let digits = prefix.strip_prefix('+').ok_or(NotAPrefix)?;
        if digits.starts_with('0') || digits.len() > *DIGITS.end() {
            return Err(NotAPrefix);
        }
        Ok(Self(prefix))
    }

    /// `+` and the digits: the inclusive lower bound of all numbers with this prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The inclusive upper bound of all numbers with this prefix. Every number between the two bounds has the prefix.
    #[must_use]
    pub fn greatest(&self) -> String {
        let length = 1 + *DIGITS.end();
        format!("{:9<length$}", self.0)
    }
}

impl fmt::Debug for NumberPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NumberPrefix({} digits)", self.0.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_sanitized_as_numbers_are() {
        for (input, expected) in [
            ("+", Some("+")),
            ("+9", Some("+9")),
            ("+998 90-12", Some("+9989012")),
            (" \u{FF0B}99\u{0668}", Some("+998")),
            ("+12345678901234567890", Some("+12345678901234567890")),
            ("+123456789012345678901", None),
            ("", None),
            (" ", None),
            ("998", None),
            ("99+8", None),
            ("++998", None),
            ("+0", None),
            ("+99%", None),
            ("+99_", None),
            ("\u{202a}+99\u{200b}8\u{a0}90\u{202c}\n", Some("+99890")),
            ("+99\t8", None),
        ] {
            let prefix = NumberPrefix::parse(input);
            assert_eq!(
                prefix.as_ref().map(NumberPrefix::as_str).ok(),
                expected,
                "{input:?}"
            );
        }
        assert_eq!(NumberPrefix::parse(&"+ ".repeat(100)), Err(NotAPrefix));
    }

    #[test]
    fn the_range_contains_exactly_the_numbers_with_the_prefix() {
        let prefix = NumberPrefix::parse("+9989").unwrap();
        let (lowest, greatest) = (prefix.as_str(), prefix.greatest());
        for (number, is_in) in [
            ("+9989", true),
            ("+99890", true),
            ("+998901234567", true),
            ("+99899999999999999999", true),
            ("+998999999999999999999", false),
            ("+998", false),
            ("+99888888888888888888", false),
            ("+9990", false),
            ("+1", false),
        ] {
            let is_between = lowest <= number && number <= greatest.as_str();
            // The longest number has 20 digits.
            assert_eq!(is_between && number.len() <= 21, is_in, "{number}");
        }
    }
}
