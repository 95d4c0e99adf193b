//! Metadata of a call: credentials and language.

use http::HeaderMap;
use http::header::{ACCEPT_LANGUAGE, AUTHORIZATION};

use crate::i18n::Language;
use crate::service::error::Error;

/// The metadata key of the operator's key. CreateSuperuser accepts it instead of a session token.
pub(super) const OPERATOR_KEY: &str = "x-operator-key";

/// Returns the session token of `authorization: Bearer <token>`. The scheme is case-insensitive (RFC 9110 section
/// 11.1).
///
/// # Errors
/// [`Error::SessionInvalid`] when the header is missing, has another scheme, or is not ASCII.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, Error> {
    let value = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .ok_or(Error::SessionInvalid)?;
    let (scheme, token) = value.split_once(' ').ok_or(Error::SessionInvalid)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(token.trim())
    } else {
        Err(Error::SessionInvalid)
    }
}

/// Returns the language of the response, which [`super::server`] read from `accept-language`.
pub(super) fn language_of<T>(request: &http::Request<T>) -> Language {
    request.extensions().get().copied().unwrap_or_default()
}

/// Returns the language of `accept-language`. `None`: the header is missing or invalid, or no language of it is
/// available.
pub(super) fn language(headers: &HeaderMap) -> Option<Language> {
    let value = headers.get(ACCEPT_LANGUAGE)?;
    Language::accepted(value.to_str().ok()?)
}
