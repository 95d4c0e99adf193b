//! Requests and metadata, from the bytes of a caller to the domain: decoding, parsing, and the answer if they are
//! refused.

pub(crate) mod admin;
pub(crate) mod codes;

use std::fmt::Debug;
use std::sync::OnceLock;

use clap::Parser;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::{metadata, middleware, parse, status};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Settings;
use crate::domain::access::Caller;
use crate::domain::password::Password;
use crate::domain::phone::PhoneNumber;
use crate::domain::rules::Rules;
use crate::domain::session::SessionId;
use crate::domain::token::TokenHash;
use crate::domain::user::{User, UserId, UserStatus};
use crate::i18n::Language;
use crate::proto::v1;
use crate::service::error::Error;

/// The most that a status may take in headers, in bytes, so that all clients take it: some bound them at 8 KiB.
const MAX_STATUS_BYTES: usize = 8 * 1024;

/// What the parser of requests stands on.
struct FuzzedHandlers {
    rules: Rules,
    user: User,
}

impl FuzzedHandlers {
    /// Made once. `None` where the machine does not let it.
    fn get() -> Option<&'static Self> {
        static DESK: OnceLock<Option<FuzzedHandlers>> = OnceLock::new();
        DESK.get_or_init(Self::make).as_ref()
    }

    fn make() -> Option<Self> {
        #[derive(Parser)]
        struct Flags {
            #[command(flatten)]
            settings: Settings,
        }
        let rules = Flags::parse_from(["fuzzed"]).settings.rules();
        let now = SystemClock.now();
        let user = User {
            id: UserId::generate(now),
            phone_number: PhoneNumber::parse("+998901234567", None).ok()?,
            status: UserStatus::Active,
            is_staff: false,
            is_superuser: false,
            has_password: true,
            phone_verified_at: None,
            locale: None,
            created_at: now,
            updated_at: now,
            last_login_at: None,
        };
        Some(Self { rules, user })
    }
}

/// A message, if the bytes are one. What is written is read as the same.
fn decoded<M: Message + Default + PartialEq>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = M::decode(message.encode_to_vec().as_slice());
    assert!(again.as_ref() == Ok(&message), "a message is read as another one");
    Some(message)
}

/// A refusal is one that all clients can read.
fn refused<T: Debug>(outcome: Result<T, Error>) {
    let Err(error) = outcome else {
        return;
    };
    assert!(!matches!(error, Error::Internal(_)), "{error:?}");
    for language in Language::ALL {
        let status = status::of_error(&error, language);
        assert!(status.get_details_error_info().is_some(), "{status:?}");
        let mut headers = HeaderMap::new();
        assert!(status.add_header(&mut headers).is_ok(), "{status:?}");
        let bytes: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        assert!(bytes <= MAX_STATUS_BYTES, "{bytes} bytes: {status:?}");
    }
}

pub(crate) fn register(bytes: &[u8]) {
    let (Some(request), Some(desk)) = (decoded(bytes), FuzzedHandlers::get()) else {
        return;
    };
    let caller = Caller::default();
    refused(parse::registration(request, &caller, &desk.rules));
}

pub(crate) fn authenticate(bytes: &[u8]) {
    if let (Some(request), Some(desk)) = (decoded(bytes), FuzzedHandlers::get()) {
        refused(parse::credentials(request, &Caller::default(), &desk.rules));
    }
}

pub(crate) fn validate_session(bytes: &[u8]) {
    if let Some(request) = decoded::<v1::ValidateSessionRequest>(bytes) {
        refused(parse::consistency(request.consistency));
        refused(TokenHash::of(&request.session_token).map_err(|_| Error::SessionInvalid));
    }
}

pub(crate) fn revoke_session(bytes: &[u8]) {
    if let Some(request) = decoded::<v1::RevokeSessionRequest>(bytes) {
        refused(TokenHash::of(&request.session_token).map_err(|_| Error::SessionInvalid));
    }
}

pub(crate) fn list_sessions(bytes: &[u8]) {
    decoded::<v1::ListSessionsRequest>(bytes);
}

pub(crate) fn revoke_sessions(bytes: &[u8]) {
    if let Some(request) = decoded::<v1::RevokeSessionsRequest>(bytes) {
        refused(parse::selection(&request, SessionId(Uuid::nil())));
    }
}

pub(crate) fn update_profile(bytes: &[u8]) {
    let (Some(request), Some(desk)) = (decoded(bytes), FuzzedHandlers::get()) else {
        return;
    };
    let parsed = parse::profile_update(request, &desk.rules, &desk.user, Language::default());
    if let Ok((_, update)) = &parsed {
        update.password.as_ref().map(Password::is_common);
    }
    refused(parsed);
}

pub(crate) fn deactivate_profile(bytes: &[u8]) {
    if let Some(request) = decoded::<v1::DeactivateProfileRequest>(bytes) {
        refused(parse::current_password(request.current_password));
    }
}

pub(crate) fn delete_profile(bytes: &[u8]) {
    if let Some(request) = decoded::<v1::DeleteProfileRequest>(bytes) {
        refused(parse::current_password(request.current_password));
    }
}

pub(crate) fn create_superuser(bytes: &[u8]) {
    let (Some(request), Some(desk)) = (decoded(bytes), FuzzedHandlers::get()) else {
        return;
    };
    let parsed = parse::superuser(request, &desk.rules);
    if let Ok((_, password)) = &parsed {
        let _ = password.is_common();
    }
    refused(parsed);
}

/// A line is a header, as `name: value`.
pub(crate) fn metadata(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            // Fewer than a map may have.
            if headers.len() < 100 {
                headers.append(name, value);
            }
        }
    }
    let _ = metadata::language(&headers);
    refused(
        metadata::bearer(&headers).and_then(|token| TokenHash::of(token).map_err(|_| Error::SessionInvalid)),
    );
    let _ = middleware::deadline::grpc_timeout(&headers);
    if let Some(id) = middleware::request_id::accepted_request_id(&headers, None) {
        assert!(HeaderValue::try_from(id).is_ok(), "{id:?} cannot be sent back");
        assert!(TokenHash::of(id).is_err(), "a token would be logged");
    }
}
