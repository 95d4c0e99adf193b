//! Fuzz targets: one for each parser of untrusted input. `make fuzz` runs them, and a test replays the inputs of
//! `fuzz/corpus`.
//!
//! The release binary does not contain this module: only tests and cargo-fuzz compile it.

use std::str;

use crate::domain::code::Code;
use crate::domain::password::{Password, PasswordError};
use crate::domain::phone::{LineTypes, NumberPrefix, NumberQuery, PhoneNumber, Region, is_removed};
use crate::domain::request_id::{MAX_LENGTH, is_loggable};
use crate::domain::session::ClientInfo;
use crate::domain::text::is_control_or_format;
use crate::domain::token::{TOKEN_LENGTH, TokenHash};
use crate::grpc::fuzzed;
use crate::service::hasher;

pub use crate::grpc::fuzzed::Target;

/// Targets of values. [`targets`] adds those of requests.
const VALUES: &[(&str, Target)] = &[
    ("phone", phone),
    ("pasted", pasted),
    ("password", password),
    ("token", token),
    ("phc", phc),
    ("request_id", request_id),
    ("user_agent", user_agent),
    ("metadata", fuzzed::metadata),
];

/// Returns all targets with their names. The target of an RPC has the name of the method in snake case.
pub fn targets() -> impl Iterator<Item = (&'static str, Target)> {
    VALUES.iter().chain(fuzzed::REQUESTS).copied()
}

/// Maximum length of an input of `pasted`, in bytes. It is that of a code, the shortest of the values.
const MAX_PASTED_BYTES: usize = 64;

/// A region, a colon, and a phone number. Both parsers return the same key, and parse a key as itself in every region.
fn phone(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let (region, number) = text.split_once(':').unwrap_or(("", text));
    let region: Option<Region> = region.parse().ok();
    let found = PhoneNumber::parse(number, region);
    let taken = PhoneNumber::parse_new(number, region, LineTypes::default());
    if let Ok(taken) = &taken {
        assert_eq!(
            Ok(taken),
            found.as_ref(),
            "a registered number cannot be looked up"
        );
    }
    let Ok(key) = found else {
        return;
    };
    for region in [None, region] {
        assert_eq!(
            PhoneNumber::parse(key.as_str(), region),
            Ok(key.clone()),
            "a key is parsed as a different one"
        );
    }
    assert_eq!(PhoneNumber::from_stored(key.as_str().to_owned()), Ok(key.clone()));
    let hidden = key.masked().matches('•').count();
    assert!(
        2 * hidden >= key.national_number().len(),
        "a mask shows half of the number or more"
    );
}

/// A pasted phone number, prefix or code. The parsers ignore the characters that they remove.
fn pasted(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let plain: String = text.chars().filter(|c| !is_removed(*c)).collect();
    // The limit in bytes applies to both. An empty input and one that is empty after removal have different errors.
    if text.len() > MAX_PASTED_BYTES || plain.is_empty() {
        return;
    }
    for region in [None, "UZ".parse().ok()] {
        let all = LineTypes::all();
        assert_eq!(
            PhoneNumber::parse(text, region),
            PhoneNumber::parse(&plain, region)
        );
        assert_eq!(
            PhoneNumber::parse_new(text, region, all),
            PhoneNumber::parse_new(&plain, region, all)
        );
        let query = NumberQuery::parse(text, region);
        assert_eq!(query, NumberQuery::parse(&plain, region));
        if let Ok(query) = query {
            let again = NumberQuery::parse(query.key().as_str(), region);
            assert_eq!(again, Ok(query), "a key is parsed as a different query");
        }
    }
    assert_eq!(NumberPrefix::parse(text), NumberPrefix::parse(&plain));
    let digits = |text: &str| Code::parse(text).map(|code| code.expose().to_owned());
    assert_eq!(digits(text), digits(&plain));
}

/// A password. A normalised password is parsed as itself, and an error names a character of the input.
fn password(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match Password::parse(text) {
        Ok(password) => {
            let bytes = password.expose_bytes();
            let again = str::from_utf8(bytes).ok().map(Password::parse);
            let is_same = again.is_some_and(|again| again.is_ok_and(|again| again.expose_bytes() == bytes));
            assert!(is_same, "a password is parsed as a different one");
            let _ = password.is_common();
        }
        Err(PasswordError::CharacterNotAllowed { character }) => {
            assert!(
                text.contains(character),
                "an error names a character that the input lacks"
            );
        }
        Err(_) => {}
    }
}

/// A token of a session, a device or a service. The parsers accept only ASCII of the right length and prefix.
fn token(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    for (prefix, hash) in [
        ("pid_", TokenHash::of(text)),
        ("pdv_", TokenHash::of_device(text)),
        ("pis_", TokenHash::of_service(text)),
    ] {
        let Ok(hash) = hash else { continue };
        assert!(text.is_ascii() && text.len() == TOKEN_LENGTH && text.starts_with(prefix));
        assert_eq!(TokenHash::from_stored(hash.as_bytes()), Some(hash));
    }
}

/// A request id. A loggable one is a valid header value, and contains neither a token nor the digits of a phone number.
fn request_id(bytes: &[u8]) {
    let Ok(id) = str::from_utf8(bytes) else {
        return;
    };
    if !is_loggable(id) {
        return;
    }
    assert!((1..=MAX_LENGTH).contains(&id.len()) && http::HeaderValue::from_str(id).is_ok());
    let of_any_kind = [TokenHash::of, TokenHash::of_device, TokenHash::of_service];
    for piece in id
        .as_bytes()
        .windows(TOKEN_LENGTH)
        .filter_map(|piece| str::from_utf8(piece).ok())
    {
        assert!(
            of_any_kind.iter().all(|of| of(piece).is_err()),
            "a token is logged"
        );
    }
    let digits = id.bytes().filter(u8::is_ascii_digit).count();
    let longest = id.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
    let is_hex = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    // UUID (36 characters, or 45 as a URN), ULID (26), and hexadecimal.
    let is_random = matches!(id.len(), 26 | 36 | 45) || is_hex && id.len() >= 16;
    assert!(is_random || longest.unwrap_or_default() < 7, "a number is logged");
    assert!(digits < id.len() || digits < 7, "a number is logged");
}

/// A user agent. The stored text is short, printable, contains no token, and is stored again unchanged.
fn user_agent(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let stored = ClientInfo::new(None, text).user_agent.unwrap_or_default();
    assert!(stored.len() <= ClientInfo::MAX_USER_AGENT_BYTES);
    assert!(!stored.chars().any(is_control_or_format));
    for kind in ["pid_", "pdv_", "pis_"] {
        let after = stored.split(kind).skip(1);
        let longest = after
            .map(|rest| rest.bytes().take_while(u8::is_ascii_alphanumeric).count())
            .max();
        assert!(longest.unwrap_or_default() < 16, "a token is stored");
    }
    assert_eq!(
        ClientInfo::new(None, &stored).user_agent.unwrap_or_default(),
        stored
    );
}

/// A stored password hash.
fn phc(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        hasher::fuzzed::phc(text);
    }
}

#[cfg(test)]
mod tests;
