//! Lines at the end of a message by which phones find the code in it, and whom it is for.

use std::str::FromStr;

use thiserror::Error;

use crate::domain::code::Code;

/// The most characters of a domain name (RFC 1035 section 2.3.4, without the dot of the root).
const MAX_DOMAIN: usize = 253;

/// The lines.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// Which app of Android is given the message.
    pub retriever_hash: Option<RetrieverHash>,
    /// Which site, and which app of iOS, is offered the code.
    pub domain: Option<Domain>,
}

impl Lines {
    /// What comes after the text of a message with a code. That of the domain has to be the last one; the hash has to
    /// be in the message, and at its end where it is alone.
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

/// The hash of an app by which the SMS Retriever of Android finds the messages for it: the first 11 characters, in
/// base64, of a SHA-256 of its package and its certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RetrieverHash(String);

/// The text is not such a hash.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not the 11 characters of base64 by which the SMS Retriever of Android knows an app")]
pub struct RetrieverHashError;

impl FromStr for RetrieverHash {
    type Err = RetrieverHashError;

    fn from_str(text: &str) -> Result<Self, RetrieverHashError> {
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let is_hash = text.len() == 11 && text.bytes().all(is_base64);
        is_hash.then(|| Self(text.to_owned())).ok_or(RetrieverHashError)
    }
}

/// The domain that a code is bound to, as WICG's "Origin-bound one-time codes delivered via SMS" has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Domain(String);

/// The text is not a domain.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not a domain such as example.com, in ASCII and small letters")]
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
    fn lines_are_as_the_specifications_say() {
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
    fn what_is_no_hash_and_no_domain_is_refused() {
        for bad in [
            "",
            "FA+9qCX9VS",
            "FA+9qCX9VSuu",
            "FA-9qCX9VSu",
            "FA+9qCX9VS ",
            "FA+9qCX9V\u{e4}",
        ] {
            assert_eq!(bad.parse::<RetrieverHash>(), Err(RetrieverHashError), "{bad:?}");
        }
        for good in [
            "example.com",
            "login.example.co.uk",
            "xn--80ak6aa92e.com",
            "a-b.1c",
        ] {
            assert!(good.parse::<Domain>().is_ok(), "{good}");
        }
        for bad in [
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
            assert_eq!(bad.parse::<Domain>(), Err(DomainError), "{bad:?}");
        }
    }
}
