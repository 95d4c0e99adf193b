//! What is fuzzed: everything that reads what others wrote. `fuzz/` has a target for each (`make fuzz`), and the test
//! below does the same with the inputs that were kept in `fuzz/corpus`.
//!
//! None of this is in the program: it is compiled for tests and by cargo-fuzz only.

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

/// What does something with bytes, and panics when it finds a fault.
pub type Target = fn(&[u8]);

/// All of them, by the names that their files in `fuzz/` have. Those of requests are called as their RPCs are.
pub const TARGETS: &[(&str, Target)] = &[
    ("phone", phone),
    ("pasted", pasted),
    ("password", password),
    ("token", token),
    ("phc", phc),
    ("request_id", request_id),
    ("user_agent", user_agent),
    ("metadata", fuzzed::metadata),
    ("register", fuzzed::register),
    ("authenticate", fuzzed::authenticate),
    ("validate_session", fuzzed::validate_session),
    ("revoke_session", fuzzed::revoke_session),
    ("list_sessions", fuzzed::list_sessions),
    ("revoke_sessions", fuzzed::revoke_sessions),
    ("update_profile", fuzzed::update_profile),
    ("deactivate_profile", fuzzed::deactivate_profile),
    ("delete_profile", fuzzed::delete_profile),
    ("create_superuser", fuzzed::create_superuser),
    ("list_users", fuzzed::admin::list_users),
    ("get_user", fuzzed::admin::get_user),
    ("create_user", fuzzed::admin::create_user),
    ("update_user", fuzzed::admin::update_user),
    ("set_password", fuzzed::admin::set_password),
    ("verify_phone", fuzzed::admin::verify_phone),
    ("revoke_user_sessions", fuzzed::admin::revoke_user_sessions),
    ("deactivate_user", fuzzed::admin::deactivate_user),
    ("reactivate_user", fuzzed::admin::reactivate_user),
    ("delete_user", fuzzed::admin::delete_user),
    ("list_audit_events", fuzzed::admin::list_audit_events),
    ("send_code", fuzzed::codes::send_code),
    ("verify_code", fuzzed::codes::verify_code),
];

/// Maximum length of an input of `pasted` in bytes: that of a code, the shortest of its kinds.
const MAX_PASTED_BYTES: usize = 64;

/// Runs the target of this name.
///
/// # Panics
/// When it finds a fault, or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    assert!(target.is_some(), "no target {name}");
    if let Some((_, target)) = target {
        target(bytes);
    }
}

/// A region, a colon, and a phone number: a key is read as itself, everywhere and by both ways.
fn phone(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let (region, number) = text.split_once(':').unwrap_or(("", text));
    let region: Option<Region> = region.parse().ok();
    let found = PhoneNumber::parse(number, region);
    let taken = PhoneNumber::parse_new(number, region, LineTypes::default());
    if let Ok(taken) = &taken {
        assert_eq!(Ok(taken), found.as_ref(), "what is taken cannot be looked up");
    }
    let Ok(key) = found else {
        return;
    };
    for region in [None, region] {
        assert_eq!(
            PhoneNumber::parse(key.as_str(), region),
            Ok(key.clone()),
            "a key is read as another"
        );
    }
    assert_eq!(PhoneNumber::from_stored(key.as_str().to_owned()), Ok(key.clone()));
    let hidden = key.masked().matches('•').count();
    assert!(
        2 * hidden >= key.national_number().len(),
        "a mask shows the number"
    );
}

/// A phone number, a prefix or a code as it was pasted: what is removed from it changes no answer.
fn pasted(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let plain: String = text.chars().filter(|c| !is_removed(*c)).collect();
    // Both have the same limit in bytes, and nothing is not the same as nothing but what is removed.
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
            assert_eq!(again, Ok(query), "a key is looked up as another");
        }
    }
    assert_eq!(NumberPrefix::parse(text), NumberPrefix::parse(&plain));
    let digits = |text: &str| Code::parse(text).map(|code| code.expose().to_owned());
    assert_eq!(digits(text), digits(&plain));
}

/// A password: what is accepted is accepted again as the same, and a refusal names a character that is in it.
fn password(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match Password::parse(text) {
        Ok(password) => {
            let bytes = password.expose_bytes();
            let again = str::from_utf8(bytes).ok().map(Password::parse);
            let is_same = again.is_some_and(|again| again.is_ok_and(|again| again.expose_bytes() == bytes));
            assert!(is_same, "a password is read as another");
            let _ = password.is_common();
        }
        Err(PasswordError::CharacterNotAllowed { character }) => {
            assert!(
                text.contains(character),
                "a refusal names a character that is not there"
            );
        }
        Err(_) => {}
    }
}

/// A token of a session, a device or a service: nothing is one that is not written as one.
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

/// A request id: one that is kept can be sent back, and has neither a token nor the digits of a phone number in it.
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
    // UUID (36 characters, or 45 as a URN), ULID and hexadecimal.
    let is_random = matches!(id.len(), 26 | 36 | 45) || is_hex && id.len() >= 16;
    assert!(is_random || longest.unwrap_or_default() < 7, "a number is logged");
    assert!(digits < id.len() || digits < 7, "a number is logged");
}

/// A user agent: what is stored of it is short, and shows as it is.
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
    // What is stored is stored as it is.
    assert_eq!(
        ClientInfo::new(None, &stored).user_agent.unwrap_or_default(),
        stored
    );
}

/// A stored hash.
fn phc(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        hasher::fuzzed::phc(text);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::proto::DESCRIPTORS;

    fn folder(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
    }

    /// The names of the files in a folder, without what comes after a dot.
    fn names_in(folder: &Path) -> BTreeSet<String> {
        let files = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .map(|name| name.split('.').next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn what_was_found_once_is_still_so() {
        for (name, target) in TARGETS {
            let files =
                fs::read_dir(folder("corpus").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut count = 0;
            for file in files {
                let path = file.unwrap().path();
                // The test's name and the file's are on standard error if it panics.
                eprintln!("{}", path.display());
                target(&fs::read(&path).unwrap());
                count += 1;
            }
            assert!(count > 0, "{name} has no corpus");
        }
    }

    #[test]
    fn everything_that_is_fuzzed_has_a_target_and_a_corpus() {
        let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names, names_in(&folder("fuzz_targets")));
        assert_eq!(names, names_in(&folder("corpus")));
    }

    #[test]
    fn every_request_of_the_contract_is_fuzzed() {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let ours = files
            .iter()
            .filter(|file| file.package().starts_with("phone_identity."));
        let methods = ours
            .flat_map(|file| &file.service)
            .flat_map(|service| &service.method);
        let mut count = 0;
        for method in methods {
            let mut name = String::new();
            for letter in method.name().chars() {
                if letter.is_ascii_uppercase() && !name.is_empty() {
                    name.push('_');
                }
                name.push(letter.to_ascii_lowercase());
            }
            assert!(
                TARGETS.iter().any(|(known, _)| *known == name),
                "{name} is not fuzzed"
            );
            count += 1;
        }
        assert!(count >= 10);
    }
}
