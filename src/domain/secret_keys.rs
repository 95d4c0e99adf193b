//! Keyring of secrets that are not in the database: peppers, and keys for one-time codes. Each key has an ID, so that
//! keys can be rotated.

use std::fmt;

use base64ct::{Base64Unpadded, Encoding as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use thiserror::Error;

/// Maximum length of a key ID, in characters: the limit in a PHC string.
const MAX_KEY_ID_LENGTH: usize = 8;

/// Range of the length of a secret, in bytes.
const SECRET_LENGTH: std::ops::RangeInclusive<usize> = 16..=64;

/// A keyring. The first key is for new values; the others are for values that were created with them.
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
    /// Parses `KEY-ID:SECRET` entries, separated by whitespace or commas. A key ID has 1 to 8 ASCII letters and digits.
    /// A secret is standard base64 of 16 to 64 bytes, with or without padding.
    ///
    /// # Errors
    /// The position and the error of the first invalid entry. The error shows no part of the entry, because it may be
    /// secret.
    pub fn parse(text: &str) -> Result<Self, SecretKeyError> {
        let entries = text
            .split(|c: char| c.is_whitespace() || c == ',')
            .filter(|entry| !entry.is_empty());
        let mut keys: Vec<SecretKey> = Vec::new();
        for (index, entry) in entries.enumerate() {
            let number = index + 1;
            let (id, secret) = entry.split_once(':').ok_or(SecretKeyError::Form(number))?;
            let is_valid = (1..=MAX_KEY_ID_LENGTH).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !is_valid {
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

    /// Generates a random key that exists only in this process.
    ///
    /// # Errors
    /// When the operating system returns no random bytes.
    pub fn of_this_process() -> Result<Self, getrandom::Error> {
        let mut secret = vec![0; 32];
        getrandom::fill(&mut secret)?;
        // The ID is random, so that another process does not use its own key in place of this one.
        let id = format!("{:08x}", getrandom::u32()?);
        let secret = SecretSlice::from(secret);
        Ok(Self(vec![SecretKey { id, secret }]))
    }

    /// Whether the keyring has no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ID of the key for new values. `None`: the keyring has no keys.
    #[must_use]
    pub fn current(&self) -> Option<&str> {
        self.0.first().map(|key| key.id.as_str())
    }

    /// The secret of a key. `None`: the keyring does not have the key.
    #[must_use]
    pub fn secret(&self, key_id: &[u8]) -> Option<&[u8]> {
        let key = self.0.iter().find(|key| key.id.as_bytes() == key_id)?;
        Some(key.secret.expose_secret())
    }
}

/// Why a list of secret keys is invalid. The number is the position of the entry, from 1.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SecretKeyError {
    /// The entry has no colon.
    #[error("entry {0} is not KEY-ID:SECRET")]
    Form(usize),
    /// The key ID is not 1 to 8 ASCII letters and digits.
    #[error("the key id of entry {0} is not 1 to 8 letters and digits")]
    KeyId(usize),
    /// Another entry has the same key ID.
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
    fn the_first_key_is_current_and_all_keys_are_found() {
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
    fn an_empty_list_has_no_keys() {
        for text in ["", " ,\n"] {
            let keys = SecretKeys::parse(text).unwrap();
            assert!(keys.is_empty());
            assert_eq!(keys.current(), None);
        }
    }

    #[test]
    fn processes_generate_different_keys() {
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
    fn errors_name_the_entry_without_showing_it() {
        let valid = "MDEyMzQ1Njc4OWFiY2RlZg";
        for (text, error) in [
            ("c2VjcmV0".to_owned(), SecretKeyError::Form(1)),
            (format!(":{valid}"), SecretKeyError::KeyId(1)),
            (format!("ninebytes:{valid}"), SecretKeyError::KeyId(1)),
            (format!("k-1:{valid}"), SecretKeyError::KeyId(1)),
            (format!("k1:{valid},k1:{valid}"), SecretKeyError::Twice(2)),
            (format!("k1:{valid} k2:!{valid}"), SecretKeyError::Base64(2)),
            ("k1:".to_owned(), SecretKeyError::Length(1)),
            ("k1:MDEyMzQ1Njc4OWFiY2Rl".to_owned(), SecretKeyError::Length(1)),
            (format!("k1:{}", "A".repeat(87)), SecretKeyError::Length(1)),
        ] {
            assert_eq!(SecretKeys::parse(&text).unwrap_err(), error, "{text}");
        }
    }
}
