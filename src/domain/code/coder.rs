//! Derivation of one-time codes: HMAC-SHA256 of the challenge with a key of this service.
//!
//! A code is computed again whenever it is sent or checked. So the database contains no codes, and a code for one
//! purpose, number or user is invalid for another.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{Challenge, Code, LENGTHS};
use crate::domain::secret_keys::SecretKeys;

/// Derives codes from challenges.
#[derive(Clone, Debug)]
pub struct Coder {
    keys: SecretKeys,
    length: u8,
}

impl Coder {
    /// Creates a coder for codes of `length` digits. The length is clamped to [`LENGTHS`].
    #[must_use]
    pub fn new(keys: SecretKeys, length: u8) -> Self {
        let length = length.clamp(*LENGTHS.start(), *LENGTHS.end());
        Self { keys, length }
    }

    /// Length of a code, in digits.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The ID of the key for new challenges. `None`: no key is configured.
    #[must_use]
    pub fn current_key(&self) -> Option<&str> {
        self.keys.current()
    }

    /// The code of a challenge. `None`: its key is no longer configured.
    #[must_use]
    pub fn code(&self, challenge: &Challenge) -> Option<Code> {
        let secret = self.keys.secret(challenge.key_id.as_bytes())?;
        let codes = 10_u64.pow(u32::from(self.length));
        // Rejection sampling: numbers at or above the last multiple of `codes` are skipped, because otherwise the first
        // codes would be slightly more likely. That affects at most one number in a billion.
        let end = u64::MAX - u64::MAX % codes;
        let number = (0..=u8::MAX).find_map(|round| {
            let number = number(secret, challenge, round)?;
            (number < end).then_some(number % codes)
        })?;
        let length = usize::from(self.length);
        Some(Code(format!("{number:0length$}").into()))
    }
}

/// A pseudorandom number of a challenge: the first 64 bits of the HMAC. It is unpredictable without the secret.
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

    use uuid::Uuid;

    use super::super::{ChallengeId, Purpose};
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::phone::PhoneNumber;
    use crate::domain::user::UserId;
    use crate::i18n::Language;

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
    fn codes_match_another_implementation() {
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
    fn a_different_challenge_or_key_gives_a_different_code() {
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
        // Neither the time of sending nor the version of the credentials changes the code: an older replica does not
        // know the version.
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

    /// Chi-squared test of the digits at each position of 20,000 codes, with 9 degrees of freedom: a uniform
    /// distribution exceeds 33.7 once in 10,000 times. IDs come from a fixed sequence, so the result never changes.
    #[test]
    fn all_digits_are_equally_likely() {
        let coder = coder(6);
        let mut counts = [[0_u32; 10]; 6];
        for id in 0..20_000 {
            let one = Challenge {
                id: ChallengeId(Uuid::from_u128(id)),
                ..challenge()
            };
            for (position, digit) in coder.code(&one).unwrap().expose().bytes().enumerate() {
                counts[position][usize::from(digit - b'0')] += 1;
            }
        }
        for (position, counts) in counts.iter().enumerate() {
            let expected = 2000.0;
            let chi: f64 = counts
                .iter()
                .map(|count| (f64::from(*count) - expected).powi(2) / expected)
                .sum();
            assert!(chi < 33.7, "position {position}: {chi}");
        }
    }
}
