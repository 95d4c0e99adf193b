//! Passwords: normalisation, and the rules for new passwords.
//!
//! The rules follow NIST SP 800-63B section 5.1.1: a minimum length, no composition rules, and a blocklist of the
//! passwords that attackers try first. `service/password_policy.rs` applies the rules; `service/hasher.rs` hashes.

mod common;
mod opaque;

use secrecy::zeroize::Zeroize as _;
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;

use super::phone::{self, Folded, PhoneNumber};

/// Smallest permitted minimum length of a password, in characters: NIST SP 800-63B section 5.1.1.1.
pub const MIN_LENGTH: usize = 8;

/// Maximum length of a password, in characters after normalisation.
pub const MAX_LENGTH: usize = 128;

/// Maximum length of an input, in bytes: enough for [`MAX_LENGTH`] characters of any script, decomposed or not.
const MAX_INPUT_BYTES: usize = MAX_LENGTH * 16;

/// A password in the form that is hashed: normalised as RFC 8265 OpaqueString (NFC, every space an ASCII space, no
/// control characters), with the characters of current Unicode. `Debug` does not show it, and it is wiped from memory
/// when it is dropped.
#[derive(Clone, Debug)]
pub struct Password(SecretString);

impl Password {
    /// Parses a password for verification. The rules for new passwords do not apply, because other rules may have
    /// applied when it was chosen.
    ///
    /// # Errors
    /// [`PasswordError::Empty`], [`PasswordError::TooLong`], or [`PasswordError::CharacterNotAllowed`] when it has a
    /// character that OpaqueString forbids.
    pub fn parse(input: &str) -> Result<Self, PasswordError> {
        if input.is_empty() {
            return Err(PasswordError::Empty);
        }
        if input.len() > MAX_INPUT_BYTES {
            return Err(PasswordError::TooLong);
        }
        let form =
            opaque::enforce(input).map_err(|character| PasswordError::CharacterNotAllowed { character })?;
        let password = Self(SecretString::from(form.as_str()));
        if password.length() > MAX_LENGTH {
            return Err(PasswordError::TooLong);
        }
        Ok(password)
    }

    /// Checks the shape of a new password of an account with these phone numbers. Takes microseconds.
    ///
    /// # Errors
    /// [`PasswordError::TooShort`] for fewer than `min_length` characters, [`PasswordError::ContainsPhoneNumber`].
    pub fn check_shape(&self, min_length: usize, phones: &[&PhoneNumber]) -> Result<(), PasswordError> {
        if self.length() < min_length {
            return Err(PasswordError::TooShort { min_length });
        }
        if phones.iter().any(|phone| self.is_made_of(phone)) {
            return Err(PasswordError::ContainsPhoneNumber);
        }
        Ok(())
    }

    /// The bytes to hash.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }

    fn length(&self) -> usize {
        self.0.expose_secret().chars().count()
    }

    /// Whether this is the phone number, a part of it, or the number with fewer than [`MIN_LENGTH`] other characters,
    /// in any notation.
    fn is_made_of(&self, phone: &PhoneNumber) -> bool {
        let folded = self.0.expose_secret().chars().map(phone::fold);
        let others = folded.clone().filter(|folded| *folded == Folded::Refused).count();
        let mut digits: String = folded
            .filter_map(|folded| match folded {
                Folded::Ascii(digit) if digit.is_ascii_digit() => Some(digit),
                _ => None,
            })
            .collect();
        let is_part = others == 0 && !digits.is_empty() && phone.as_str().contains(&digits);
        let has_number = others < MIN_LENGTH && digits.contains(phone.national_number());
        digits.zeroize();
        is_part || has_number
    }

    /// Whether the whole password is one of those that attackers try first: a common password, name or word, a
    /// repetition, a sequence, a keyboard run or a date, or one of them with a few digits or signs around it. Takes
    /// less than a millisecond.
    #[must_use]
    pub fn is_common(&self) -> bool {
        common::is_common(self.0.expose_secret())
    }
}

/// Why a password is rejected. The text completes a sentence that begins with the field.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PasswordError {
    /// The password is empty.
    #[error("must be given")]
    Empty,
    /// It is shorter than the configured minimum length.
    #[error("is shorter than {min_length} characters")]
    TooShort {
        /// Minimum length, in characters.
        min_length: usize,
    },
    /// It has more than [`MAX_LENGTH`] characters.
    #[error("is longer than {MAX_LENGTH} characters")]
    TooLong,
    /// It has a character that RFC 8265 OpaqueString forbids, such as a control character. Most of these characters are
    /// in no stored password. The few that are allowed in another context reveal one character of an attempt to its own
    /// caller only.
    #[error("has a character that is not allowed: {}", code_point(*.character))]
    CharacterNotAllowed {
        /// The character.
        character: char,
    },
    /// Attackers try it first.
    #[error("is among the passwords that are guessed first")]
    TooCommon,
    /// It is in the operator's list of passwords from data breaches.
    #[error("is known from a data breach")]
    Breached,
    /// It is the phone number, or a part of it.
    #[error("is the phone number or a part of it")]
    ContainsPhoneNumber,
}

impl PasswordError {
    /// One example of each error, for the tests that compare them with the contract.
    #[cfg(test)]
    pub(crate) const EXAMPLES: [Self; 7] = [
        Self::Empty,
        Self::TooShort {
            min_length: MIN_LENGTH,
        },
        Self::TooLong,
        Self::CharacterNotAllowed { character: '\0' },
        Self::TooCommon,
        Self::Breached,
        Self::ContainsPhoneNumber,
    ];

    /// Returns the name of the `ViolationReason` of the contract, without its prefix.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Empty => "REQUIRED",
            Self::TooShort { .. } => "PASSWORD_TOO_SHORT",
            Self::TooLong => "PASSWORD_TOO_LONG",
            Self::CharacterNotAllowed { .. } => "PASSWORD_CHARACTER_NOT_ALLOWED",
            Self::TooCommon => "PASSWORD_TOO_COMMON",
            Self::Breached => "PASSWORD_BREACHED",
            Self::ContainsPhoneNumber => "PASSWORD_CONTAINS_PHONE_NUMBER",
        }
    }
}

/// The name of a character that may not be visible, as in the Unicode standard: `U+0007`.
#[must_use]
pub fn code_point(character: char) -> String {
    format!("U+{:04X}", u32::from(character))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(input: &str) -> Result<(), PasswordError> {
        let phone = PhoneNumber::parse("+998901234567", None).unwrap();
        let password = Password::parse(input)?;
        password.check_shape(8, &[&phone])?;
        if password.is_common() {
            Err(PasswordError::TooCommon)
        } else {
            Ok(())
        }
    }

    #[test]
    fn length_is_counted_in_characters_after_normalisation() {
        assert_eq!(check(""), Err(PasswordError::Empty));
        assert_eq!(check("zqvkxwj"), Err(PasswordError::TooShort { min_length: 8 }));
        assert_eq!(check("zqvkxwjy"), Ok(()));
        assert_eq!(check("пароль-мой"), Ok(()));
        // Eight code points, seven characters: e and a combining acute become one.
        assert_eq!(
            check("zqvkxwe\u{301}"),
            Err(PasswordError::TooShort { min_length: 8 })
        );
        let long = "horse battery staple, ".repeat(6);
        assert_eq!(check(&long[..128]), Ok(()));
        assert_eq!(check(&long[..129]), Err(PasswordError::TooLong));
        assert_eq!(check(&"x".repeat(1024 * 1024)), Err(PasswordError::TooLong));
    }

    #[test]
    fn composed_and_decomposed_passwords_are_equal() {
        let composed = Password::parse("caf\u{e9} au\u{a0}lait").unwrap();
        let decomposed = Password::parse("cafe\u{301} au lait").unwrap();
        assert_eq!(composed.expose_bytes(), decomposed.expose_bytes());
        assert_eq!(composed.expose_bytes(), "café au lait".as_bytes());
    }

    #[test]
    fn control_characters_are_rejected_by_name() {
        for (input, character, name) in [
            ("zqvk\nxwjy", '\n', "U+000A"),
            ("zqvk\0xwjy", '\0', "U+0000"),
            ("zqvk\u{7f}xwjy", '\u{7f}', "U+007F"),
            ("zqvk\u{200b}xwjyz\u{202a}", '\u{200b}', "U+200B"),
            ("zqvk\u{e0001}xwjyz", '\u{e0001}', "U+E0001"),
        ] {
            let refused = PasswordError::CharacterNotAllowed { character };
            assert_eq!(check(input), Err(refused), "{input:?}");
            assert_eq!(
                refused.to_string(),
                format!("has a character that is not allowed: {name}")
            );
        }
    }

    #[test]
    fn common_passwords_are_rejected() {
        for input in [
            "password",
            "Password1",
            "PASSWORD",
            "p4ssw0rd",
            "drowssap",
            "12345678",
            "87654321",
            "qwertyuiop",
            "iloveyou",
            "11111111",
            "aaaaaaaaaaaa",
            "abcdefgh",
            "abcabcabc",
            "sunshine",
            "1qaz2wsx",
        ] {
            assert_eq!(check(input), Err(PasswordError::TooCommon), "{input:?}");
        }
        for input in [
            "correct horse battery staple",
            "Str0ng!Pass1",
            "zqvkxwjy",
            "tog'lar va daryolar",
        ] {
            assert_eq!(check(input), Ok(()), "{input:?}");
        }
    }

    #[test]
    fn the_phone_number_and_its_parts_are_rejected() {
        for input in [
            "+998901234567",
            "998901234567",
            "901234567",
            "90123456",
            "+998 90 123-45-67",
            "(90) 123-45-67",
            "00998901234567",
            "8901234567",
            "٩٩٨٩٠١٢٣٤٥٦٧",
            "901234567901234567",
            "+998901234567!",
            "x901234567yz",
        ] {
            assert_eq!(check(input), Err(PasswordError::ContainsPhoneNumber), "{input:?}");
        }
        assert_eq!(check("901234567 is not mine"), Ok(()));
        assert_eq!(check("917253846152"), Ok(()));
    }

    /// NFC of U+0387, a Greek semicolon, is U+00B7, which OpaqueString allows between two l only.
    #[test]
    fn characters_whose_normal_form_is_forbidden_are_rejected() {
        let character = '\u{387}';
        assert_eq!(
            check("zqvkx\u{387}wjy"),
            Err(PasswordError::CharacterNotAllowed { character })
        );
        assert_eq!(check("zqvkxl\u{00b7}lwjy"), Ok(()));
    }

    #[test]
    fn debug_does_not_show_a_password() {
        assert!(!format!("{:?}", Password::parse("zqvkxwjy").unwrap()).contains("zqvk"));
    }

    proptest! {
        #[test]
        fn checking_never_panics(input in any::<String>()) {
            let _ = check(&input);
        }

        /// Normalisation is idempotent, so an accepted password can always be verified.
        #[test]
        fn an_accepted_password_is_accepted_again_unchanged(input in "\\PC{1,40}") {
            if let Ok(password) = Password::parse(&input) {
                let text = password.0.expose_secret();
                let again = Password::parse(text).unwrap();
                prop_assert_eq!(again.expose_bytes(), password.expose_bytes());
            }
        }
    }
}
