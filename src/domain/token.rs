//! Tokens: opaque secrets that stand for a session, for a device, or for a calling service.
//!
//! A token is `pid_` (of a device `pdv_`, of a service `pis_`), 44 characters of base62 (32 random bytes as two halves
//! of 128 bits, 22 characters each), and 6 characters of base62 with the CRC-32 of all that stands before them: 54
//! characters. The prefix lets secret scanners find leaked tokens, and the checksum refuses garbage before anything is
//! looked up. Only the SHA-256 of a token is stored; a token has 256 bits of chance, so neither salt nor slow hash is
//! needed.

use std::borrow::Cow;
use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::RandomError;

/// Of sessions.
const PREFIX: &str = "pid_";
/// Of devices. Of the same length.
const DEVICE_PREFIX: &str = "pdv_";
/// Of calling services. Of the same length.
const SERVICE_PREFIX: &str = "pis_";
/// The prefixes of all kinds of tokens.
const PREFIXES: [&str; 3] = [PREFIX, DEVICE_PREFIX, SERVICE_PREFIX];
const HALF_LENGTH: usize = 22;
const CHECKSUM_LENGTH: usize = 6;
const CHECKSUM_START: usize = PREFIX.len() + 2 * HALF_LENGTH;

/// The length of a token in characters, all of them ASCII.
pub const TOKEN_LENGTH: usize = CHECKSUM_START + CHECKSUM_LENGTH;

/// A token in plain text, as it is handed to the person once. It cannot be printed.
#[derive(Clone, Debug)]
pub struct PlainToken(SecretString);

impl PlainToken {
    /// Makes a new token of a session.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate() -> Result<Self, RandomError> {
        Self::generate_with(PREFIX)
    }

    /// Makes a new token of a device.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate_for_device() -> Result<Self, RandomError> {
        Self::generate_with(DEVICE_PREFIX)
    }

    /// Makes a new key of a calling service.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate_for_service() -> Result<Self, RandomError> {
        Self::generate_with(SERVICE_PREFIX)
    }

    fn generate_with(prefix: &str) -> Result<Self, RandomError> {
        let mut token = String::with_capacity(TOKEN_LENGTH);
        token.push_str(prefix);
        for _ in 0..2 {
            let mut half = [0; 16];
            getrandom::fill(&mut half)?;
            token.extend(base62::<HALF_LENGTH>(u128::from_be_bytes(half)).map(char::from));
        }
        token.extend(checksum(&token).map(char::from));
        Ok(Self(token.into()))
    }

    /// A token that a caller sent, whose form was checked.
    pub(crate) fn given(token: SecretString) -> Self {
        Self(token)
    }

    /// The hash under which the session, the device or the service is stored.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.expose_secret()).into())
    }

    /// The token itself, for the answer to the caller and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// The SHA-256 of a token: what is stored and looked up.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Checks the form of a session token that a caller sent, and hashes it.
    ///
    /// # Errors
    /// When the length, the prefix, a character or the checksum is not that of a token.
    pub fn of(token: &str) -> Result<Self, MalformedToken> {
        Self::of_kind(token, PREFIX)
    }

    /// As [`Self::of`], for the token of a device.
    ///
    /// # Errors
    /// Those of [`Self::of`].
    pub fn of_device(token: &str) -> Result<Self, MalformedToken> {
        Self::of_kind(token, DEVICE_PREFIX)
    }

    /// As [`Self::of`], for the key of a calling service.
    ///
    /// # Errors
    /// Those of [`Self::of`].
    pub fn of_service(token: &str) -> Result<Self, MalformedToken> {
        Self::of_kind(token, SERVICE_PREFIX)
    }

    fn of_kind(token: &str, prefix: &str) -> Result<Self, MalformedToken> {
        if token.len() != TOKEN_LENGTH
            || !token.starts_with(prefix)
            || !token.as_bytes()[PREFIX.len()..]
                .iter()
                .all(u8::is_ascii_alphanumeric)
        {
            return Err(MalformedToken);
        }
        let (signed, given) = token.split_at(CHECKSUM_START);
        if given.as_bytes() != checksum(signed) {
            return Err(MalformedToken);
        }
        Ok(Self(Sha256::digest(token).into()))
    }

    /// A hash that was read from the database. `None`: it has not 32 bytes.
    pub(crate) fn from_stored(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// Eight of the bytes as a number: as random as a token is.
    #[must_use]
    pub fn random(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// Minimum number of characters after a prefix that count as a token, or as a piece of one: with fewer known, the rest
/// of a token cannot be guessed.
const MIN_PIECE_LENGTH: usize = 16;

/// Whether a text has the prefix of a token anywhere in it, in any case.
#[must_use]
pub fn has_prefix(text: &str) -> bool {
    prefixes_in(text).next().is_some()
}

/// The text with `…` in the place of each token, or piece of a token, behind its prefix. Other words may have a prefix
/// in them (`rapid_test`), and stay.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut redacted = String::new();
    let mut rest = 0;
    for start in prefixes_in(text) {
        let secret = start + PREFIX.len();
        let length = text
            .bytes()
            .skip(secret)
            .take_while(u8::is_ascii_alphanumeric)
            .count();
        if length < MIN_PIECE_LENGTH {
            continue;
        }
        redacted.push_str(&text[rest..secret]);
        redacted.push('…');
        rest = secret + length;
    }
    if rest == 0 {
        return Cow::Borrowed(text);
    }
    redacted.push_str(&text[rest..]);
    Cow::Owned(redacted)
}

/// Where prefixes of tokens begin in a text.
fn prefixes_in(text: &str) -> impl Iterator<Item = usize> {
    let windows = text.as_bytes().windows(PREFIX.len()).enumerate();
    windows.filter_map(|(start, window)| {
        let is_prefix = |prefix: &&str| window.eq_ignore_ascii_case(prefix.as_bytes());
        PREFIXES.iter().any(is_prefix).then_some(start)
    })
}

/// The text is not a token: it is cut off, mistyped, or something else.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("malformed token")]
pub struct MalformedToken;

/// The characters at the end of a token that begins with `signed`.
fn checksum(signed: &str) -> [u8; CHECKSUM_LENGTH] {
    base62(crc32fast::hash(signed.as_bytes()).into())
}

/// `value` in base62, zero-padded on the left. It has to fit.
fn base62<const WIDTH: usize>(value: u128) -> [u8; WIDTH] {
    let mut text = [b'0'; WIDTH];
    // What does not fit is not written at all, and then no token is ever good: the tests see it.
    let length = base62::encode_bytes(value, &mut text).unwrap_or(WIDTH);
    if length < WIDTH {
        text[length..].fill(b'0');
        text.rotate_right(WIDTH - length);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Made with Python's zlib.crc32, hashlib and a base62 of its own (digits, then capitals, then small letters) for
    /// the halves 1 and 2^128 - 1.
    const KNOWN: &str = "pid_00000000000000000000017n42DGM5Tflk9n8mt7Fhc742FZm0";

    #[test]
    fn a_token_has_the_documented_form() {
        let token = PlainToken::generate().unwrap();
        let text = token.expose();
        assert_eq!(text.len(), 54);
        assert!(text.starts_with("pid_"));
        assert_eq!(TokenHash::of(text), Ok(token.hash()));
        assert_ne!(text, PlainToken::generate().unwrap().expose());
    }

    #[test]
    fn a_token_of_a_device_is_none_of_a_session() {
        let token = PlainToken::generate_for_device().unwrap();
        let text = token.expose();
        assert_eq!((text.len(), &text[..4]), (54, "pdv_"));
        assert_eq!(TokenHash::of_device(text), Ok(token.hash()));
        assert_eq!(TokenHash::of(text), Err(MalformedToken));
        assert_eq!(TokenHash::of_device(KNOWN), Err(MalformedToken));
    }

    #[test]
    fn a_key_of_a_service_is_none_of_a_session() {
        let key = PlainToken::generate_for_service().unwrap();
        let text = key.expose();
        assert_eq!((text.len(), &text[..4]), (54, "pis_"));
        assert_eq!(TokenHash::of_service(text), Ok(key.hash()));
        assert_eq!(TokenHash::of(text), Err(MalformedToken));
        assert_eq!(TokenHash::of_service(KNOWN), Err(MalformedToken));
    }

    #[test]
    fn a_known_token_has_the_checksum_and_hash_of_another_implementation() {
        let hash = TokenHash::of(KNOWN).unwrap();
        let hex: String = hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "6a266dda89279a3a4816d71d632499b21e6c3575f805db22c9bea17919d5ee28"
        );
    }

    #[test]
    fn neither_token_nor_hash_can_be_printed() {
        let token = PlainToken::generate().unwrap();
        let printed = format!("{token:?} {:?}", token.hash());
        assert!(!printed.contains(&token.expose()[4..]), "{printed}");
        assert!(printed.ends_with("TokenHash(..)"), "{printed}");
    }

    #[test]
    fn what_is_cut_off_extended_or_mistyped_is_refused() {
        for length in 0..KNOWN.len() {
            assert_eq!(TokenHash::of(&KNOWN[..length]), Err(MalformedToken));
        }
        assert_eq!(TokenHash::of(&format!("{KNOWN}0")), Err(MalformedToken));
        assert_eq!(TokenHash::of(&"x".repeat(10 * 1024)), Err(MalformedToken));
        assert_eq!(TokenHash::of(&"é".repeat(TOKEN_LENGTH / 2)), Err(MalformedToken));
    }

    #[test]
    fn a_token_is_redacted_and_other_words_stay() {
        for (text, expected) in [
            ("", ""),
            ("rapid_assessment pid_", "rapid_assessment pid_"),
            ("pid_123456789012345", "pid_123456789012345"),
            ("pid_1234567890123456", "pid_…"),
            (&format!("é {KNOWN}!"), "é pid_…!"),
            (
                &format!("{KNOWN}{KNOWN} PDV_{0} pis_{0}é", "x".repeat(20)),
                "pid_…_… PDV_… pis_…é",
            ),
        ] {
            assert_eq!(redact(text), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text in any::<String>()) {
            prop_assert_eq!(TokenHash::of(&text), Err(MalformedToken));
        }

        #[test]
        fn no_token_is_left_in_a_redacted_text(before in any::<String>(), after in any::<String>()) {
            let redacted = redact(&format!("{before}{KNOWN}{after}")).into_owned();
            prop_assert!(!redacted.contains(&KNOWN[4..]), "{}", redacted);
        }

        /// A CRC finds every change of a single character.
        #[test]
        fn a_changed_character_is_noticed(position in 0..TOKEN_LENGTH, replacement in "[0-9A-Za-z]") {
            let mut changed = KNOWN.to_owned();
            changed.replace_range(position..=position, &replacement);
            prop_assert_eq!(TokenHash::of(&changed).is_ok(), changed == KNOWN);
        }
    }
}
