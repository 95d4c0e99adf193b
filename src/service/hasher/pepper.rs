//! Peppers: secrets that go into every hash and are not in the database, so that who has only the database cannot try
//! passwords. Each has a key id, which the PHC string names, so that a pepper can be exchanged step by step.

use std::fmt;

use argon2::KeyId;
use base64ct::{Base64Unpadded, Encoding as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use thiserror::Error;

/// The bytes that a pepper may have.
const SECRET_LENGTH: std::ops::RangeInclusive<usize> = 16..=64;

/// The peppers of this service. The first one goes into new hashes; the others are for older hashes.
#[derive(Clone, Debug, Default)]
pub struct Peppers(Vec<Pepper>);

#[derive(Clone)]
struct Pepper {
    key_id: KeyId,
    secret: SecretSlice<u8>,
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pepper({})", self.key_id.as_bytes().escape_ascii())
    }
}

impl Peppers {
    /// Reads `KEY-ID:SECRET` entries with whitespace or commas between them. A key id has 1 to 8 letters and digits of
    /// ASCII; a secret is standard base64 of 16 to 64 bytes, with padding or without.
    ///
    /// # Errors
    /// Which entry is wrong, and how. The error shows nothing of it, since it might be a secret.
    pub fn parse(text: &str) -> Result<Self, PepperError> {
        let entries = text
            .split(|c: char| c.is_whitespace() || c == ',')
            .filter(|entry| !entry.is_empty());
        let mut peppers: Vec<Pepper> = Vec::new();
        for (index, entry) in entries.enumerate() {
            let number = index + 1;
            let (key_id, secret) = entry.split_once(':').ok_or(PepperError::Form(number))?;
            let is_plain = !key_id.is_empty() && key_id.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let key_id = KeyId::new(key_id.as_bytes())
                .ok()
                .filter(|_| is_plain)
                .ok_or(PepperError::KeyId(number))?;
            if peppers.iter().any(|pepper| pepper.key_id == key_id) {
                return Err(PepperError::Twice(number));
            }
            let secret = Base64Unpadded::decode_vec(secret.trim_end_matches('='))
                .map(SecretSlice::from)
                .map_err(|_| PepperError::Base64(number))?;
            if !SECRET_LENGTH.contains(&secret.expose_secret().len()) {
                return Err(PepperError::Length(number));
            }
            peppers.push(Pepper { key_id, secret });
        }
        Ok(Self(peppers))
    }

    /// The key id of new hashes: empty where there is no pepper.
    pub(super) fn current(&self) -> KeyId {
        self.0.first().map_or(KeyId::EMPTY, |pepper| pepper.key_id)
    }

    /// The secret of a key id: empty for an empty one. `None`: there is no such pepper.
    pub(super) fn secret(&self, key_id: &[u8]) -> Option<&[u8]> {
        if key_id.is_empty() {
            return Some(&[]);
        }
        let pepper = self.0.iter().find(|pepper| pepper.key_id.as_bytes() == key_id)?;
        Some(pepper.secret.expose_secret())
    }
}

/// What is wrong with the peppers. The number is the place of the entry, from 1.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PepperError {
    /// There is no colon in it.
    #[error("entry {0} is not KEY-ID:SECRET")]
    Form(usize),
    /// The key id is not 1 to 8 letters and digits of ASCII.
    #[error("the key id of entry {0} is not 1 to 8 letters and digits")]
    KeyId(usize),
    /// Another entry has this key id.
    #[error("the key id of entry {0} is given twice")]
    Twice(usize),
    /// The secret is not base64.
    #[error("the secret of entry {0} is not base64")]
    Base64(usize),
    /// The secret is too short or too long.
    #[error("the secret of entry {0} does not have 16 to 64 bytes")]
    Length(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_the_current_one_and_all_are_found() {
        let text =
            "new:MDEyMzQ1Njc4OWFiY2RlZg==\nold:ZmVkY2JhOTg3NjU0MzIxMA, 8bytesid:MDEyMzQ1Njc4OWFiY2RlZmZm\n";
        let peppers = Peppers::parse(text).unwrap();
        assert_eq!(peppers.current().as_bytes(), b"new");
        assert_eq!(peppers.secret(b"new"), Some(b"0123456789abcdef".as_slice()));
        assert_eq!(peppers.secret(b"old"), Some(b"fedcba9876543210".as_slice()));
        assert_eq!(peppers.secret(b""), Some([].as_slice()));
        assert_eq!(peppers.secret(b"gone"), None);
        let shown = format!("{peppers:?}");
        assert_eq!(shown, "Peppers([Pepper(new), Pepper(old), Pepper(8bytesid)])");
    }

    #[test]
    fn without_peppers_the_secret_is_empty() {
        for text in ["", " ,\n"] {
            let peppers = Peppers::parse(text).unwrap();
            assert!(peppers.current().is_empty());
            assert_eq!(peppers.secret(b""), Some([].as_slice()));
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_showing_it() {
        let good = "MDEyMzQ1Njc4OWFiY2RlZg";
        for (text, error) in [
            ("c2VjcmV0".to_owned(), PepperError::Form(1)),
            (format!(":{good}"), PepperError::KeyId(1)),
            (format!("ninebytes:{good}"), PepperError::KeyId(1)),
            (format!("k-1:{good}"), PepperError::KeyId(1)),
            (format!("k1:{good},k1:{good}"), PepperError::Twice(2)),
            (format!("k1:{good} k2:!{good}"), PepperError::Base64(2)),
            ("k1:".to_owned(), PepperError::Length(1)),
            ("k1:MDEyMzQ1Njc4OWFiY2Rl".to_owned(), PepperError::Length(1)),
            (format!("k1:{}", "A".repeat(87)), PepperError::Length(1)),
        ] {
            assert_eq!(Peppers::parse(&text).unwrap_err(), error, "{text}");
        }
    }
}
