//! Secret keys of this service: secrets that are not in the database, each with a key id, so that one can be exchanged
//! step by step. Peppers are such, and what one-time codes are made with.

use std::fmt;

use base64ct::{Base64Unpadded, Encoding as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use thiserror::Error;

/// The most characters of a key id, which a PHC string bounds.
const MAX_KEY_ID_LENGTH: usize = 8;

/// The bytes that a secret may have.
const SECRET_LENGTH: std::ops::RangeInclusive<usize> = 16..=64;

/// Some secret keys. The first one is for what is made new; the others are for what was made with them.
#[derive(Clone, Debug, Default)]
pub struct SecretKeys(Vec<SecretKey>);

#[derive(Clone)]
struct SecretKey {
    id: String,
    secret: SecretSlice<u8>,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.id)
    }
}

impl SecretKeys {
    /// Reads `KEY-ID:SECRET` entries with whitespace or commas between them. A key id has 1 to 8 letters and digits of
    /// ASCII; a secret is standard base64 of 16 to 64 bytes, with padding or without.
    ///
    /// # Errors
    /// Which entry is wrong, and how. The error shows nothing of it, since it might be a secret.
    pub fn parse(text: &str) -> Result<Self, SecretKeyError> {
        let entries = text
            .split(|c: char| c.is_whitespace() || c == ',')
            .filter(|entry| !entry.is_empty());
        let mut keys: Vec<SecretKey> = Vec::new();
        for (index, entry) in entries.enumerate() {
            let number = index + 1;
            let (id, secret) = entry.split_once(':').ok_or(SecretKeyError::Form(number))?;
            let is_good = (1..=MAX_KEY_ID_LENGTH).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !is_good {
                return Err(SecretKeyError::KeyId(number));
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(SecretKeyError::Twice(number));
            }
            let secret = Base64Unpadded::decode_vec(secret.trim_end_matches('='))
                .map(SecretSlice::from)
                .map_err(|_| SecretKeyError::Base64(number))?;
            if !SECRET_LENGTH.contains(&secret.expose_secret().len()) {
                return Err(SecretKeyError::Length(number));
            }
            keys.push(SecretKey {
                id: id.to_owned(),
                secret,
            });
        }
        Ok(Self(keys))
    }

    /// A key that nobody else has, and that nobody will have after this process.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn of_this_process() -> Result<Self, getrandom::Error> {
        let mut secret = vec![0; 32];
        getrandom::fill(&mut secret)?;
        // Another process does not take its own key for this one.
        let id = format!("{:08x}", getrandom::u32()?);
        let secret = SecretSlice::from(secret);
        Ok(Self(vec![SecretKey { id, secret }]))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The id of the key for what is made new. `None`: there are no keys.
    #[must_use]
    pub fn current(&self) -> Option<&str> {
        self.0.first().map(|key| key.id.as_str())
    }

    /// The secret of a key id. `None`: there is no such key.
    #[must_use]
    pub fn secret(&self, key_id: &[u8]) -> Option<&[u8]> {
        let key = self.0.iter().find(|key| key.id.as_bytes() == key_id)?;
        Some(key.secret.expose_secret())
    }
}

/// What is wrong with secret keys. The number is the place of the entry, from 1.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SecretKeyError {
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
        let keys = SecretKeys::parse(text).unwrap();
        assert_eq!(keys.current(), Some("new"));
        assert_eq!(keys.secret(b"new"), Some(b"0123456789abcdef".as_slice()));
        assert_eq!(keys.secret(b"old"), Some(b"fedcba9876543210".as_slice()));
        assert_eq!(keys.secret(b""), None);
        assert_eq!(keys.secret(b"gone"), None);
        let shown = format!("{keys:?}");
        assert_eq!(
            shown,
            "SecretKeys([SecretKey(new), SecretKey(old), SecretKey(8bytesid)])"
        );
    }

    #[test]
    fn nothing_is_no_keys() {
        for text in ["", " ,\n"] {
            let keys = SecretKeys::parse(text).unwrap();
            assert!(keys.is_empty());
            assert_eq!(keys.current(), None);
        }
    }

    #[test]
    fn no_two_processes_make_the_same_key() {
        let (one, other) = (
            SecretKeys::of_this_process().unwrap(),
            SecretKeys::of_this_process().unwrap(),
        );
        let secret = |keys: &SecretKeys| {
            keys.secret(keys.current().unwrap().as_bytes())
                .unwrap()
                .to_owned()
        };
        assert_eq!(secret(&one).len(), 32);
        assert_ne!(secret(&one), secret(&other));
        assert_eq!(one.secret(other.current().unwrap().as_bytes()), None);
    }

    #[test]
    fn what_is_wrong_is_said_without_showing_it() {
        let good = "MDEyMzQ1Njc4OWFiY2RlZg";
        for (text, error) in [
            ("c2VjcmV0".to_owned(), SecretKeyError::Form(1)),
            (format!(":{good}"), SecretKeyError::KeyId(1)),
            (format!("ninebytes:{good}"), SecretKeyError::KeyId(1)),
            (format!("k-1:{good}"), SecretKeyError::KeyId(1)),
            (format!("k1:{good},k1:{good}"), SecretKeyError::Twice(2)),
            (format!("k1:{good} k2:!{good}"), SecretKeyError::Base64(2)),
            ("k1:".to_owned(), SecretKeyError::Length(1)),
            ("k1:MDEyMzQ1Njc4OWFiY2Rl".to_owned(), SecretKeyError::Length(1)),
            (format!("k1:{}", "A".repeat(87)), SecretKeyError::Length(1)),
        ] {
            assert_eq!(SecretKeys::parse(&text).unwrap_err(), error, "{text}");
        }
    }
}
