//! What travels in the metadata of a call: who asks, and in which language to answer.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{ACCEPT_LANGUAGE, AUTHORIZATION};

use crate::i18n::Language;
use crate::service::error::Error;

/// The operator's key, with which CreateSuperuser needs no bearer.
pub(super) const OPERATOR_KEY: &str = "x-operator-key";

/// The id of a call, as `edge` has given it or taken it over.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) Arc<str>);

/// The session token of `authorization: Bearer <token>`. The scheme is read in any case (RFC 9110 section 11.1).
///
/// # Errors
/// [`Error::SessionInvalid`] when there is none, or it is not ASCII.
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

/// The language in which a call is answered, which was found out where it came in.
pub(super) fn language_of<T>(request: &http::Request<T>) -> Language {
    request.extensions().get().copied().unwrap_or_default()
}

/// The language of `accept-language`. `None`: it wants none that there is. What cannot be read is no reason to refuse a
/// call.
pub(super) fn language(headers: &HeaderMap) -> Option<Language> {
    let value = headers.get(ACCEPT_LANGUAGE)?;
    Language::accepted(value.to_str().ok()?)
}
