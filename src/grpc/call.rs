//! A call as handlers see it: its message, and its metadata, caller and language.

use std::pin::pin;
use std::sync::OnceLock;

use tonic::{Request, Response, Status};

use super::metadata::{self, RequestId};
use super::status;
use crate::domain::access::Caller;
use crate::i18n::Language;
use crate::service::error::Error;
use crate::service::sessions::{Actor, Sessions};
use crate::telemetry::tracing::span;

pub(super) type RpcResult<T> = Result<Response<T>, Status>;

/// Turns the outcome of an RPC into its answer.
pub(super) fn answer<T>(call: &Call, outcome: Result<T, Error>) -> RpcResult<T> {
    outcome
        .map(Response::new)
        .map_err(|error| status::of_error(&error, call.language_of_answer()))
}

/// What comes beside the message of a call.
pub(super) struct Call {
    /// The metadata, as HTTP headers.
    pub(super) headers: http::HeaderMap,
    /// The calling service.
    pub(super) caller: Caller,
    /// The language that it asks for.
    pub(super) language: Language,
    /// That of the bearer's person, once it is known who they are.
    language_of_actor: OnceLock<Language>,
}

impl Call {
    /// The bearer's person and session.
    pub(super) async fn actor(&self, sessions: &Sessions) -> Result<Actor, Error> {
        let actor = sessions.actor(metadata::bearer(&self.headers)?, self.caller.clone());
        let actor = span("sessions.actor", pin!(actor)).await?;
        self.language_of_actor
            .get_or_init(|| actor.user.language_or(self.language));
        Ok(actor)
    }

    /// The language in which it is answered: that of the bearer's person, or else that which it asks for.
    fn language_of_answer(&self) -> Language {
        *self.language_of_actor.get().unwrap_or(&self.language)
    }
}

/// What comes beside the message of a call, and the message.
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
