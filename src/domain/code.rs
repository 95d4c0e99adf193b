//! One-time codes and their challenges: proof that a user holds a phone number.
//!
//! Codes are not stored: `code/coder.rs` derives a code from its challenge.

mod coder;
mod times;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

pub use coder::Coder;
pub use times::plausible_expiries;

use super::phone::{Folded, PhoneNumber, fold};
use super::sms_limits::CounterId;
use super::user::UserId;
use crate::clock::Timestamp;
use crate::i18n::Language;

/// Range of the length of a code, in digits. NIST 800-63B section 3.1.3.2 requires at least six; fewer are for
/// deployments that limit attempts elsewhere.
pub const LENGTHS: RangeInclusive<u8> = 4..=10;

/// Maximum lifetime of a code. NIST 800-63B section 3.1.3.2 allows ten minutes; more is for slow message delivery.
pub const MAX_LIFETIME: Duration = Duration::from_mins(30);

/// Maximum length of an input in bytes, with everything that is removed from it.
const MAX_INPUT_BYTES: usize = 64;

/// The purpose of a code. The names are stored and are part of the derivation of codes, so they never change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Verify the number of an account.
    VerifyPhone,
    /// Sign in.
    SignIn,
    /// Set a new password.
    ResetPassword,
    /// Change the number of an account.
    ChangePhone,
    /// Register.
    Register,
}

impl Purpose {
    /// All purposes.
    pub const ALL: [Self; 5] = [
        Self::VerifyPhone,
        Self::SignIn,
        Self::ResetPassword,
        Self::ChangePhone,
        Self::Register,
    ];

    /// The name, at most 16 characters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyPhone => "verify_phone",
            Self::SignIn => "sign_in",
            Self::ResetPassword => "reset_password",
            Self::ChangePhone => "change_phone",
            Self::Register => "register",
        }
    }

    /// The purpose with this name. `None`: no purpose has it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == name)
    }
}

/// The ID of a challenge, a random UUID. A client needs it to submit codes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChallengeId(pub Uuid);

impl ChallengeId {
    /// Creates a new ID.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for ChallengeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A request for proof that a client holds a phone number.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// The ID.
    pub id: ChallengeId,
    /// The purpose.
    pub purpose: Purpose,
    /// The number that receives the code.
    pub phone_number: PhoneNumber,
    /// The user with this number at the request; for a change of number, the user that requests it.
    pub person: Option<UserId>,
    /// The version of the user's credentials at the request. `None`: there is no user, or an older version of this
    /// program created the challenge.
    pub credential_version: Option<i64>,
    /// The ID of the key that derives the code.
    pub key_id: String,
    /// Whether the code is sent. False if no account has the number, or if the number cannot receive SMS.
    pub is_sent: bool,
    /// Whether it was requested on a known device or with a session of the user. Wrong codes of such a challenge have
    /// their own limit, so that strangers cannot block the owner of the number.
    pub is_known: bool,
    /// The counter by which the pumping guard tracks whether the code is used: that of the prefix and the requesting
    /// source. `None`: the guard does not track the code.
    pub watched: Option<CounterId>,
    /// The language of the message.
    pub language: Language,
    /// Time of the request.
    pub created_at: Timestamp,
    /// Time at which the code was last sent.
    pub sent_at: Timestamp,
    /// Time at which the code expires.
    pub expires_at: Timestamp,
}

/// The public part of a challenge, which is the same whether or not its code is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sent {
    /// The challenge.
    pub challenge: ChallengeId,
    /// Time from which the code can be sent again.
    pub resend_after: Timestamp,
    /// Time at which the code expires.
    pub expires_at: Timestamp,
    /// Length of the code, in digits.
    pub code_length: u8,
}

/// A code in plain text. `Debug` does not show it.
#[derive(Debug)]
pub struct Code(SecretString);

impl Code {
    /// Parses a typed or pasted code: decimal digits of any script. Removes spaces, hyphens, line ends and format
    /// characters, as from phone numbers. `None`: the input is not a code.
    #[must_use]
    pub fn parse(input: &str) -> Option<Self> {
        if input.len() > MAX_INPUT_BYTES {
            return None;
        }
        let mut digits = String::with_capacity(usize::from(*LENGTHS.end()));
        for c in input.chars() {
            match fold(c) {
                Folded::Ascii(' ' | '-') | Folded::Removed => {}
                Folded::Ascii(digit) if digit.is_ascii_digit() => digits.push(digit),
                Folded::Ascii(_) | Folded::Refused => return None,
            }
        }
        let is_possible = u8::try_from(digits.len()).is_ok_and(|length| LENGTHS.contains(&length));
        is_possible.then(|| Self(digits.into()))
    }

    /// The digits, for the message. Do not store or log them.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether two codes are equal. Compares in constant time.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_and_pasted_codes_are_parsed() {
        for (input, expected) in [
            ("123456", Some("123456")),
            (" 123-456 ", Some("123456")),
            ("\u{0661}\u{0662}\u{0663}\u{0664}", Some("1234")),
            ("0000000000", Some("0000000000")),
            ("123", None),
            ("12345678901", None),
            ("12345a", None),
            ("+12345", None),
            ("(12345)", None),
            ("374\u{a0}798", Some("374798")),
            ("374798\n", Some("374798")),
            ("\u{202a}374\u{202f}798\u{202c}\r\n", Some("374798")),
            ("\u{feff}12345\u{200b}6\u{2029}", Some("123456")),
            ("374\t798", None),
            ("374\u{fe0f}798", None),
            ("\u{a0}\n", None),
            ("", None),
        ] {
            let code = Code::parse(input);
            assert_eq!(code.as_ref().map(Code::expose), expected, "{input:?}");
        }
        assert!(Code::parse(&format!("1234{}", " ".repeat(61))).is_none());
        assert_eq!(
            format!("{:?}", Code::parse("123456").unwrap())
                .matches("123456")
                .count(),
            0
        );
    }

    #[test]
    fn codes_with_other_digits_or_lengths_differ() {
        let code = Code::parse("123456").unwrap();
        assert!(code.is(&Code::parse("123 456").unwrap()));
        for other in ["123457", "023456", "1234567", "12345"] {
            assert!(!code.is(&Code::parse(other).unwrap()), "{other}");
        }
    }
}
