//! One-time codes, by which people show that they hold a phone number.
//!
//! A code is not stored. It is HMAC-SHA256 of its challenge with a key of this service, and computed again whenever it
//! is sent or checked; so whoever has the database has no codes, and a code for one purpose, number or person is none
//! for another.

mod times;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

pub use times::plausible_expiries;

use super::phone::{Folded, PhoneNumber, fold};
use super::secret_keys::SecretKeys;
use super::sms_limits::CounterId;
use super::user::UserId;
use crate::clock::Timestamp;
use crate::i18n::Language;

/// How many digits a code may have. NIST 800-63B section 3.1.3.2 asks for six at least; fewer are for those who bound
/// attempts elsewhere.
pub const LENGTHS: RangeInclusive<u8> = 4..=10;

/// The longest that a code may be set to be good. NIST 800-63B section 3.1.3.2 allows ten minutes; longer is for those
/// whose messages take longer.
pub const MAX_LIFETIME: Duration = Duration::from_mins(30);

/// Maximum length of an input in bytes, with everything that is removed from it.
const MAX_INPUT_BYTES: usize = 64;

/// What a code is exchanged for. The names are stored and are part of codes, so they never change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// That a person holds their number.
    VerifyPhone,
    /// A session.
    SignIn,
    /// A new password.
    ResetPassword,
    /// A new phone number for the account.
    ChangePhone,
    /// An account.
    Register,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::VerifyPhone,
        Self::SignIn,
        Self::ResetPassword,
        Self::ChangePhone,
        Self::Register,
    ];

    /// The name, of at most 16 characters.
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

    /// Takes a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == name)
    }
}

/// A challenge's id, a random UUID: whoever has it may try codes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChallengeId(pub Uuid);

impl ChallengeId {
    /// A new id.
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

/// That somebody is to show that they hold a number.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// The id.
    pub id: ChallengeId,
    /// What for.
    pub purpose: Purpose,
    /// Which number.
    pub phone_number: PhoneNumber,
    /// The person who had it when the challenge was made; to change a number, the one who wants it.
    pub person: Option<UserId>,
    /// The version of the user's credentials at the request. `None`: there is no user, or an older version of this
    /// program made the challenge.
    pub credential_version: Option<i64>,
    /// The id of the key that its code is made with.
    pub key_id: String,
    /// Whether the code is sent at all. It is not where nobody has the number, or it takes no SMS.
    pub is_sent: bool,
    /// Whether it was requested on a known device or with a session of the user. Wrong codes of such a challenge count
    /// apart, so that strangers do not stop the owner of the number.
    pub is_known: bool,
    /// By which counter the pumping guard watches whether its code is used: that of the prefix and of the source that
    /// asked for it. `None`: it does not.
    pub watched: Option<CounterId>,
    /// The language of the message.
    pub language: Language,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its code was last sent.
    pub sent_at: Timestamp,
    /// When its code expires.
    pub expires_at: Timestamp,
}

/// A challenge whose code may be on its way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sent {
    /// The challenge.
    pub challenge: ChallengeId,
    /// When the code may be sent once more.
    pub resend_after: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// How many digits it has.
    pub code_length: u8,
}

/// A code in plain text. It cannot be printed.
#[derive(Debug)]
pub struct Code(SecretString);

impl Code {
    /// Reads a typed or pasted code: decimal digits of any script. Spaces, hyphens, line ends and format characters are
    /// removed, as from phone numbers. `None`: it is no code.
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

    /// The digits, for the message. Keep them nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether two codes are the same. It takes as long wherever they differ.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
    }
}

/// Makes codes.
#[derive(Clone, Debug)]
pub struct Coder {
    keys: SecretKeys,
    length: u8,
}

impl Coder {
    /// Makes codes of `length` digits, which is brought into [`LENGTHS`].
    #[must_use]
    pub fn new(keys: SecretKeys, length: u8) -> Self {
        let length = length.clamp(*LENGTHS.start(), *LENGTHS.end());
        Self { keys, length }
    }

    /// How many digits a code has.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The id of the key for new challenges. `None`: there is no key.
    #[must_use]
    pub fn current_key(&self) -> Option<&str> {
        self.keys.current()
    }

    /// The code of a challenge. `None`: its key is gone.
    #[must_use]
    pub fn code(&self, challenge: &Challenge) -> Option<Code> {
        let secret = self.keys.secret(challenge.key_id.as_bytes())?;
        let codes = 10_u64.pow(u32::from(self.length));
        // Numbers from the last whole run of all codes are passed over: the first codes would come a little more often.
        let end = u64::MAX - u64::MAX % codes;
        // One in a billion is passed over, if that.
        let number = (0..=u8::MAX).find_map(|round| {
            let number = number(secret, challenge, round)?;
            (number < end).then_some(number % codes)
        })?;
        let length = usize::from(self.length);
        Some(Code(format!("{number:0length$}").into()))
    }
}

/// A number of a challenge, of which nobody without the secret knows anything.
fn number(secret: &[u8], challenge: &Challenge, round: u8) -> Option<u64> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(b"phone-identity one-time code\0");
    mac.update(challenge.id.0.as_bytes());
    mac.update(challenge.purpose.as_str().as_bytes());
    mac.update(b"\0");
    mac.update(challenge.phone_number.as_str().as_bytes());
    mac.update(b"\0");
    match challenge.person {
        Some(person) => {
            mac.update(b"person\0");
            mac.update(person.0.as_bytes());
        }
        None => mac.update(b"nobody\0"),
    }
    mac.update(&[round]);
    let bytes: [u8; 32] = mac.finalize().into_bytes().into();
    let first: [u8; 8] = bytes.first_chunk().copied()?;
    Some(u64::from_be_bytes(first))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const KEYS: &str = "k1:AAECAwQFBgcICQoLDA0ODw== k2:Dw4NDAsKCQgHBgUEAwIBAA==";

    fn challenge() -> Challenge {
        let now = Timestamp::UNIX_EPOCH;
        Challenge {
            id: ChallengeId(Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f)),
            purpose: Purpose::SignIn,
            phone_number: PhoneNumber::parse("+998901234567", None).unwrap(),
            person: Some(UserId(Uuid::from_u128(1))),
            credential_version: Some(0),
            key_id: "k1".to_owned(),
            is_sent: true,
            is_known: false,
            watched: None,
            language: Language::English,
            created_at: now,
            sent_at: now,
            expires_at: now + Duration::from_secs(300),
        }
    }

    fn coder(length: u8) -> Coder {
        Coder::new(SecretKeys::parse(KEYS).unwrap(), length)
    }

    fn code(challenge: &Challenge) -> String {
        coder(10).code(challenge).unwrap().expose().to_owned()
    }

    /// Computed with Python:
    /// `m = hmac.new(bytes(range(16)), b"phone-identity one-time code\0" + bytes(range(16)) + b"sign_in\0" +
    /// b"+998901234567\0" + b"person\0" + bytes(15) + b"\1" + b"\0", "sha256")`,
    /// `int.from_bytes(m.digest()[:8], "big") % 10**n`.
    #[test]
    fn codes_are_those_of_another_implementation() {
        for (length, expected) in [(4, "0556"), (6, "240556"), (10, "5492240556")] {
            assert_eq!(coder(length).code(&challenge()).unwrap().expose(), expected);
        }
        let nobody = Challenge {
            person: None,
            ..challenge()
        };
        assert_eq!(coder(10).code(&nobody).unwrap().expose(), "4908719910");
    }

    #[test]
    fn whatever_differs_makes_another_code() {
        let one = challenge();
        let codes = [
            code(&one),
            code(&Challenge {
                id: ChallengeId(Uuid::from_u128(7)),
                ..one.clone()
            }),
            code(&Challenge {
                purpose: Purpose::ResetPassword,
                ..one.clone()
            }),
            code(&Challenge {
                phone_number: PhoneNumber::parse("+998901234568", None).unwrap(),
                ..one.clone()
            }),
            code(&Challenge {
                person: Some(UserId(Uuid::from_u128(2))),
                ..one.clone()
            }),
            code(&Challenge {
                person: None,
                ..one.clone()
            }),
            code(&Challenge {
                key_id: "k2".to_owned(),
                ..one.clone()
            }),
        ];
        for (index, code) in codes.iter().enumerate() {
            assert!(!codes.iter().take(index).any(|other| other == code), "{index}");
        }
        // The time of sending makes no difference, nor does the version of the credentials, which an older replica does
        // not know.
        let again = Challenge {
            sent_at: one.expires_at,
            credential_version: None,
            ..one.clone()
        };
        assert_eq!(code(&again), code(&one));
        assert!(
            coder(6)
                .code(&Challenge {
                    key_id: "k3".to_owned(),
                    ..one
                })
                .is_none()
        );
    }

    /// Chi-squared of the digits at each place of 20,000 codes: 9 degrees of freedom, of which 33.7 is exceeded once in
    /// 10,000 times. Ids come from a fixed sequence, so the outcome is always the same.
    #[test]
    fn no_digit_comes_more_often() {
        let coder = coder(6);
        let mut counts = [[0_u32; 10]; 6];
        for id in 0..20_000 {
            let one = Challenge {
                id: ChallengeId(Uuid::from_u128(id)),
                ..challenge()
            };
            for (place, digit) in coder.code(&one).unwrap().expose().bytes().enumerate() {
                counts[place][usize::from(digit - b'0')] += 1;
            }
        }
        for (place, counts) in counts.iter().enumerate() {
            let expected = 2000.0;
            let chi: f64 = counts
                .iter()
                .map(|count| (f64::from(*count) - expected).powi(2) / expected)
                .sum();
            assert!(chi < 33.7, "place {place}: {chi}");
        }
    }

    #[test]
    fn what_people_type_is_read() {
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
    fn codes_of_other_digits_or_lengths_are_others() {
        let code = Code::parse("123456").unwrap();
        assert!(code.is(&Code::parse("123 456").unwrap()));
        for other in ["123457", "023456", "1234567", "12345"] {
            assert!(!code.is(&Code::parse(other).unwrap()), "{other}");
        }
    }
}
