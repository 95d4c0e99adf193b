//! The key by which the operator makes superusers over the network.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The operator's key, as its SHA-256. It cannot be printed.
#[derive(Clone)]
pub struct OperatorKey([u8; 32]);

impl OperatorKey {
    /// The fewest characters.
    pub const MIN_LENGTH: usize = 32;

    /// Takes a key. `None`: it has fewer than [`Self::MIN_LENGTH`] characters, and could be guessed.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (text.chars().count() >= Self::MIN_LENGTH).then(|| Self(Sha256::digest(text).into()))
    }

    /// Whether this is the key. How long that takes tells nothing of it.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.0.ct_eq(&given).into()
    }
}

impl fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_and_not_shown() {
        assert!(OperatorKey::new(&"k".repeat(31)).is_none());
        let key = OperatorKey::new(&"k".repeat(32)).unwrap();
        assert!(key.is("k".repeat(32).as_bytes()));
        assert!(!key.is("k".repeat(33).as_bytes()) && !key.is(b""));
        assert_eq!(format!("{key:?}"), "OperatorKey(..)");
    }
}
