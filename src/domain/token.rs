//! Opaque bearer tokens of sessions, devices and calling services.
//!
//! A token has 54 characters: a prefix (`pid_` for a session, `pdv_` for a device, `pis_` for a service), 44 characters
//! of base62 (32 random bytes as two halves of 128 bits, 22 characters each), and 6 characters of base62 with the
//! CRC-32 of all characters before them. Secret scanners find leaked tokens by the prefix. The checksum rejects
//! malformed tokens without a look-up. Only the SHA-256 of a token is stored: a token has 256 bits of entropy, so it
//! needs neither a salt nor a slow hash.

use std::borrow::Cow;
use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::RandomError;

/// Prefix of session tokens.
const PREFIX: &str = "pid_";
/// Prefix of device tokens. All prefixes have the same length.
const DEVICE_PREFIX: &str = "pdv_";
/// Prefix of service keys.
const SERVICE_PREFIX: &str = "pis_";
/// The prefixes of all kinds of tokens.
const PREFIXES: [&str; 3] = [PREFIX, DEVICE_PREFIX, SERVICE_PREFIX];
const HALF_LENGTH: usize = 22;
const CHECKSUM_LENGTH: usize = 6;
const CHECKSUM_START: usize = PREFIX.len() + 2 * HALF_LENGTH;

/// Length of a token, in ASCII characters.
pub const TOKEN_LENGTH: usize = CHECKSUM_START + CHECKSUM_LENGTH;

/// A token in plain text. A client receives it once. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct PlainToken(SecretString);

impl PlainToken {
    /// Generates a session token.
    ///
    /// # Errors
    /// When the operating system returns no random bytes.
    pub fn generate() -> Result<Self, RandomError> {
        Self::generate_with(PREFIX)
    }

    /// Generates a device token.
    ///
    /// # Errors
    /// When the operating system returns no random bytes.
    pub fn generate_for_device() -> Result<Self, RandomError> {
        Self::generate_with(DEVICE_PREFIX)
    }

    /// Generates a key of a calling service.
    ///
    /// # Errors
    /// When the operating system returns no random bytes.
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

    /// Wraps a token from a request. The caller of this function has checked its form.
    pub(crate) fn given(token: SecretString) -> Self {
        Self(token)
    }

    /// The hash by which the session, the device or the service key is stored.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.expose_secret()).into())
    }

    /// The token, for the response to the caller only.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// The SHA-256 of a token: the stored form, by which tokens are looked up.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Checks the form of a session token, and hashes it.
    ///
    /// # Errors
    /// When the length, the prefix, a character or the checksum is not that of a token.
    pub fn of(token: &str) -> Result<Self, MalformedToken> {
        Self::of_kind(token, PREFIX)
    }

    /// As [`Self::of`], for a device token.
    ///
    /// # Errors
    /// Those of [`Self::of`].
    pub fn of_device(token: &str) -> Result<Self, MalformedToken> {
        Self::of_kind(token, DEVICE_PREFIX)
    }

    /// As [`Self::of`], for a service key.
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

    /// Wraps a hash that was read from the database. `None`: it does not have 32 bytes.
    pub(crate) fn from_stored(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// The first eight bytes as a number, uniformly distributed.
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

/// Minimum number of characters after a prefix for a token, or a part of one. Fewer known characters do not help to
/// guess the rest.
const MIN_PIECE_LENGTH: usize = 16;

/// Whether a text contains the prefix of a token. Case is ignored.
#[must_use]
pub fn has_prefix(text: &str) -> bool {
    prefixes_in(text).next().is_some()
}

/// Replaces the characters after the prefix of each token, or part of a token, by `…`. Other words that contain a
/// prefix (`rapid_test`) remain.
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

/// The positions of token prefixes in a text.
fn prefixes_in(text: &str) -> impl Iterator<Item = usize> {
    let windows = text.as_bytes().windows(PREFIX.len()).enumerate();
    windows.filter_map(|(start, window)| {
        let is_prefix = |prefix: &&str| window.eq_ignore_ascii_case(prefix.as_bytes());
        PREFIXES.iter().any(is_prefix).then_some(start)
    })
}

/// The text is not a token.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("malformed token")]
pub struct MalformedToken;

/// The last characters of a token that begins with `signed`.
fn checksum(signed: &str) -> [u8; CHECKSUM_LENGTH] {
    base62(crc32fast::hash(signed.as_bytes()).into())
}

/// `value` in base62, zero-padded on the left. The value must fit into `WIDTH` characters.
fn base62<const WIDTH: usize>(value: u128) -> [u8; WIDTH] {
    let mut text = [b'0'; WIDTH];
    // A value that does not fit is not written, which would make all tokens invalid. The tests would detect that.
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

    /// Computed with Python's zlib.crc32 and hashlib and a separate base62 (digits, upper case, lower case) for the
    /// halves 1 and 2^128 - 1.
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
    fn a_device_token_is_not_a_session_token() {
        let token = PlainToken::generate_for_device().unwrap();
        let text = token.expose();
        assert_eq!((text.len(), &text[..4]), (54, "pdv_"));
        assert_eq!(TokenHash::of_device(text), Ok(token.hash()));
        assert_eq!(TokenHash::of(text), Err(MalformedToken));
        assert_eq!(TokenHash::of_device(KNOWN), Err(MalformedToken));
    }

    #[test]
    fn a_service_key_is_not_a_session_token() {
        let key = PlainToken::generate_for_service().unwrap();
        let text = key.expose();
        assert_eq!((text.len(), &text[..4]), (54, "pis_"));
        assert_eq!(TokenHash::of_service(text), Ok(key.hash()));
        assert_eq!(TokenHash::of(text), Err(MalformedToken));
        assert_eq!(TokenHash::of_service(KNOWN), Err(MalformedToken));
    }

    #[test]
    fn checksum_and_hash_match_another_implementation() {
        let hash = TokenHash::of(KNOWN).unwrap();
        let hex: String = hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "6a266dda89279a3a4816d71d632499b21e6c3575f805db22c9bea17919d5ee28"
        );
    }

    #[test]
    fn debug_shows_neither_token_nor_hash() {
        let token = PlainToken::generate().unwrap();
        let printed = format!("{token:?} {:?}", token.hash());
        assert!(!printed.contains(&token.expose()[4..]), "{printed}");
        assert!(printed.ends_with("TokenHash(..)"), "{printed}");
    }

    #[test]
    fn truncated_extended_or_mistyped_tokens_are_rejected() {
        for length in 0..KNOWN.len() {
            assert_eq!(TokenHash::of(&KNOWN[..length]), Err(MalformedToken));
        }
        assert_eq!(TokenHash::of(&format!("{KNOWN}0")), Err(MalformedToken));
        assert_eq!(TokenHash::of(&"x".repeat(10 * 1024)), Err(MalformedToken));
        assert_eq!(TokenHash::of(&"é".repeat(TOKEN_LENGTH / 2)), Err(MalformedToken));
    }

    #[test]
    fn tokens_are_redacted_and_other_words_remain() {
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
        fn parsing_never_panics(text in any::<String>()) {
            prop_assert_eq!(TokenHash::of(&text), Err(MalformedToken));
        }

        #[test]
        fn a_redacted_text_contains_no_token(before in any::<String>(), after in any::<String>()) {
            let redacted = redact(&format!("{before}{KNOWN}{after}")).into_owned();
            prop_assert!(!redacted.contains(&KNOWN[4..]), "{}", redacted);
        }

        /// A CRC detects every change of a single character.
        #[test]
        fn a_changed_character_is_detected(position in 0..TOKEN_LENGTH, replacement in "[0-9A-Za-z]") {
            let mut changed = KNOWN.to_owned();
            changed.replace_range(position..=position, &replacement);
            prop_assert_eq!(TokenHash::of(&changed).is_ok(), changed == KNOWN);
        }
    }
}
