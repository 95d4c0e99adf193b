//! Lines at the end of a message by which phones find its code and the app or site that it is for.

use std::str::FromStr;

use thiserror::Error;

use crate::domain::code::Code;

/// Maximum number of characters of a domain name (RFC 1035 section 2.3.4, without the dot of the root).
const MAX_DOMAIN: usize = 253;

/// The configured lines.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// The Android app that receives the message.
    pub retriever_hash: Option<RetrieverHash>,
    /// The site, or the iOS app, that may read the code.
    pub domain: Option<Domain>,
}

impl Lines {
    /// Returns the lines that follow the text of a message with a code. The specifications require the domain on the
    /// last line, and the hash in the message, at its end if it is alone.
    pub(super) fn after(&self, code: &Code) -> String {
        let mut lines = String::new();
        if let Some(RetrieverHash(hash)) = &self.retriever_hash {
            lines.push('\n');
            lines.push_str(hash);
        }
        if let Some(Domain(domain)) = &self.domain {
            lines.push_str(&format!("\n@{domain} #{}", code.expose()));
        }
        lines
    }
}

/// Hash of an app by which the SMS Retriever of Android finds its messages: the first 11 characters, in base64, of a
/// SHA-256 of its package name and certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RetrieverHash(String);

/// The text is not such a hash.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not an app hash of the Android SMS Retriever: 11 characters of base64")]
pub struct RetrieverHashError;

impl FromStr for RetrieverHash {
    type Err = RetrieverHashError;

    fn from_str(text: &str) -> Result<Self, RetrieverHashError> {
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let is_hash = text.len() == 11 && text.bytes().all(is_base64);
        is_hash.then(|| Self(text.to_owned())).ok_or(RetrieverHashError)
    }
}

/// Domain that a code is bound to (WICG, "Origin-bound one-time codes delivered via SMS").
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Domain(String);

/// The text is not a domain.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not a domain such as example.com, in lower-case ASCII")]
pub struct DomainError;

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let is_label = |label: &str| {
            let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            (1..=63).contains(&label.len())
                && label.bytes().all(is_inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_domain = text.len() <= MAX_DOMAIN && text.contains('.') && text.split('.').all(is_label);
        is_domain.then(|| Self(text.to_owned())).ok_or(DomainError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_follow_the_specifications() {
        let code = Code::parse("012345").unwrap();
        let lines = |hash: Option<&str>, domain: Option<&str>| Lines {
            retriever_hash: hash.map(|hash| hash.parse().unwrap()),
            domain: domain.map(|domain| domain.parse().unwrap()),
        };
        for (lines, expected) in [
            (lines(None, None), ""),
            (lines(Some("FA+9qCX9VSu"), None), "\nFA+9qCX9VSu"),
            (lines(None, Some("example.com")), "\n@example.com #012345"),
            (
                lines(Some("FA+9qCX9VSu"), Some("example.com")),
                "\nFA+9qCX9VSu\n@example.com #012345",
            ),
        ] {
            assert_eq!(lines.after(&code), expected);
        }
    }

    #[test]
    fn an_invalid_hash_or_domain_is_rejected() {
        for invalid in [
            "",
            "FA+9qCX9VS",
            "FA+9qCX9VSuu",
            "FA-9qCX9VSu",
            "FA+9qCX9VS ",
            "FA+9qCX9V\u{e4}",
        ] {
            assert_eq!(
                invalid.parse::<RetrieverHash>(),
                Err(RetrieverHashError),
                "{invalid:?}"
            );
        }
        for valid in [
            "example.com",
            "login.example.co.uk",
            "xn--80ak6aa92e.com",
            "a-b.1c",
        ] {
            assert!(valid.parse::<Domain>().is_ok(), "{valid}");
        }
        for invalid in [
            "",
            "localhost",
            "Example.com",
            "https://example.com",
            "example.com/",
            "example.com:443",
            "-a.com",
            "a-.com",
            ".com",
            "a..b",
            "a b.com",
            "пример.рф",
            &format!("{}.com", "a".repeat(64)),
            &"a.".repeat(127),
        ] {
            assert_eq!(invalid.parse::<Domain>(), Err(DomainError), "{invalid:?}");
        }
    }
}
