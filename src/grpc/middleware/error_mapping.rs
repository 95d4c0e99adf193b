//! Error mapping layer: replaces the errors that tonic creates with errors of the contract.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::layer::layer_fn;
use tower::{Layer, Service};

use super::{CallResult, CallService};
use crate::grpc::metadata;
use crate::grpc::refusal_log::RefusedCaller;
use crate::grpc::status::{self, WireError};
use crate::i18n::Language;

/// Returns the layer. `max_message_bytes` is the maximum size of a message, which the error of a larger one names.
pub(in crate::grpc) fn layer<S>(max_message_bytes: usize) -> impl Layer<S, Service = ErrorMappingService<S>> {
    layer_fn(move |inner| ErrorMappingService {
        inner,
        max_message_bytes,
    })
}

/// The service of the layer.
#[derive(Clone)]
pub(in crate::grpc) struct ErrorMappingService<S> {
    inner: S,
    max_message_bytes: usize,
}

impl<S> Service<Request<Body>> for ErrorMappingService<S>
where
    S: CallService,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ErrorMappingFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Clients of health and reflection know tonic's errors.
        let mapping = (!is_foreign(request.uri().path())).then(|| ErrorMapping {
            language: metadata::language_of(&request),
            max_message_bytes: self.max_message_bytes,
        });
        ErrorMappingFuture {
            response: self.inner.call(request),
            mapping,
        }
    }
}

/// The future of the layer.
pub(in crate::grpc) struct ErrorMappingFuture<F> {
    response: F,
    mapping: Option<ErrorMapping>,
}

impl<F> Future for ErrorMappingFuture<F>
where
    F: Future<Output = CallResult> + Unpin,
{
    type Output = CallResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallResult> {
        let Ok(response) = ready!(Pin::new(&mut self.response).poll(cx));
        Poll::Ready(Ok(match &self.mapping {
            None => response,
            Some(mapping) => mapping.map(response),
        }))
    }
}

/// Whether the path belongs to a service of another contract: health or reflection.
fn is_foreign(path: &str) -> bool {
    path.starts_with("/grpc.health.") || path.starts_with("/grpc.reflection.")
}

#[derive(Clone, Copy)]
struct ErrorMapping {
    language: Language,
    max_message_bytes: usize,
}

impl ErrorMapping {
    /// Replaces an error without details: tonic creates errors without details, and ours have details.
    fn map(self, mut response: Response<Body>) -> Response<Body> {
        let Some(status) = Status::from_header_map(response.headers()) else {
            return response;
        };
        if status.code() == Code::Ok || !status.details().is_empty() {
            return response;
        }
        let error = match status.code() {
            // The message cannot be decoded, is incomplete, or is missing.
            Code::Internal | Code::InvalidArgument | Code::Cancelled => WireError::MalformedMessage,
            Code::OutOfRange | Code::ResourceExhausted => WireError::MessageTooLarge {
                limit: self.max_message_bytes,
            },
            Code::Unimplemented if response.headers().contains_key(status::ACCEPT_ENCODING) => {
                WireError::Compressed
            }
            Code::Unimplemented => WireError::NotImplemented,
            _ => return response,
        };
        // The line does not include tonic's message, which quotes headers of the caller.
        tracing::debug!(code = ?status.code(), "refused before the service");
        let caller = response.extensions_mut().remove::<RefusedCaller>();
        let mut mapped = status::of_wire_error(error, self.language).into_http();
        if let Some(caller) = caller {
            mapped.extensions_mut().insert(caller);
        }
        mapped
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    const MAPPING: ErrorMapping = ErrorMapping {
        language: Language::English,
        max_message_bytes: 100,
    };

    /// Returns the reason of an error.
    fn reason(response: &Response<Body>) -> String {
        let status = Status::from_header_map(response.headers()).unwrap();
        status.get_details_error_info().unwrap().reason
    }

    #[test]
    fn errors_of_tonic_get_a_reason_and_keep_their_calling_service() {
        for (code, expected) in [
            (Code::Internal, "MALFORMED_MESSAGE"),
            (Code::Cancelled, "MALFORMED_MESSAGE"),
            (Code::OutOfRange, "MESSAGE_TOO_LARGE"),
            (Code::Unimplemented, "NOT_IMPLEMENTED"),
        ] {
            let mut response = Status::new(code, "text of tonic").into_http::<Body>();
            response.extensions_mut().insert(RefusedCaller("orders".into()));
            let mapped = MAPPING.map(response);
            assert_eq!(reason(&mapped), expected);
            let RefusedCaller(service) = mapped.extensions().get().unwrap();
            assert_eq!(service.as_ref(), "orders");
        }
    }

    #[test]
    fn errors_of_the_contract_and_successes_stay_as_they_are() {
        let ours = status::of_wire_error(WireError::Overloaded, Language::English).into_http::<Body>();
        assert_eq!(reason(&MAPPING.map(ours)), "OVERLOADED");
        let success = MAPPING.map(Response::new(Body::empty()));
        assert!(Status::from_header_map(success.headers()).is_none());
    }
}
