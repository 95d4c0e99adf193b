//! Operator key: it authorizes the creation of superusers over the network.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The SHA-256 of the operator key. `Debug` does not show it.
#[derive(Clone)]
pub struct OperatorKey([u8; 32]);

impl OperatorKey {
    /// Minimum length of a key, in characters. A shorter key could be guessed.
    pub const MIN_LENGTH: usize = 32;

    /// Hashes a key. `None`: the key has fewer than [`Self::MIN_LENGTH`] characters.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (text.chars().count() >= Self::MIN_LENGTH).then(|| Self(Sha256::digest(text).into()))
    }

    /// Whether `given` is the key. Compares hashes in constant time.
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
    fn a_key_matches_itself_and_debug_hides_it() {
        assert!(OperatorKey::new(&"k".repeat(31)).is_none());
        let key = OperatorKey::new(&"k".repeat(32)).unwrap();
        assert!(key.is("k".repeat(32).as_bytes()));
        assert!(!key.is("k".repeat(33).as_bytes()) && !key.is(b""));
        assert_eq!(format!("{key:?}"), "OperatorKey(..)");
    }
}
