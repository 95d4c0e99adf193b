//! Context of a call for its handler: metadata, calling service and language.

use std::pin::pin;
use std::sync::OnceLock;

use tonic::{Request, Response, Status};

use super::middleware::request_id::RequestId;
use super::{metadata, status};
use crate::domain::access::Caller;
use crate::i18n::Language;
use crate::service::error::Error;
use crate::service::sessions::{Actor, Sessions};
use crate::telemetry::tracing::span;

pub(super) type RpcResult<T> = Result<Response<T>, Status>;

/// Returns the response of an RPC, or the status of its error.
pub(super) fn answer<T>(call: &Call, outcome: Result<T, Error>) -> RpcResult<T> {
    outcome
        .map(Response::new)
        .map_err(|error| status::of_error(&error, call.response_language()))
}

/// The context of a call.
pub(super) struct Call {
    /// The metadata, as HTTP headers.
    pub(super) headers: http::HeaderMap,
    /// The calling service.
    pub(super) caller: Caller,
    /// The language that the client requests.
    pub(super) language: Language,
    /// The language of the signed-in user. Unset until the session is checked.
    language_of_actor: OnceLock<Language>,
}

impl Call {
    /// Returns the user and the session of the bearer token.
    ///
    /// # Errors
    /// [`Error::SessionInvalid`] or [`Error::SessionExpired`], or when the database fails.
    pub(super) async fn actor(&self, sessions: &Sessions) -> Result<Actor, Error> {
        let actor = sessions.actor(metadata::bearer(&self.headers)?, self.caller.clone());
        let actor = span("sessions.actor", pin!(actor)).await?;
        self.language_of_actor
            .get_or_init(|| actor.user.language_or(self.language));
        Ok(actor)
    }

    /// Returns the language of the response: the language of the signed-in user, or else the requested one.
    fn response_language(&self) -> Language {
        *self.language_of_actor.get().unwrap_or(&self.language)
    }
}

/// Splits a request into its context and its message.
pub(super) fn split<T>(request: Request<T>) -> (Call, T) {
    let (metadata, mut extensions, message) = request.into_parts();
    let mut caller: Caller = extensions.remove().unwrap_or_default();
    caller.request_id = extensions.remove().map(|RequestId(id)| id);
    let call = Call {
        headers: metadata.into_headers(),
        caller,
        language: extensions.remove().unwrap_or_default(),
        language_of_actor: OnceLock::new(),
    };
    (call, message)
}
