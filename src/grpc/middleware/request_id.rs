//! Request id layer: accepts the `x-request-id` of the caller or creates a random one, and returns it in the response.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::body::Body;
use tower::layer::layer_fn;
use tower::{Layer, Service};
use uuid::Uuid;

use super::{CallResult, CallService, is_logged_only_on_failure};
use crate::domain::access::OperatorKey;
use crate::domain::request_id;

const REQUEST_ID: &str = "x-request-id";

/// The request id of a call, an extension of its request.
///
/// A call that is logged only if it fails may have none. If it fails, the access log creates the id and adds it to the
/// extensions of the response.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct RequestId(pub(in crate::grpc) Arc<str>);

impl RequestId {
    /// Returns a random UUID.
    pub(super) fn generate() -> Self {
        let mut text = Uuid::encode_buffer();
        let text: &str = Uuid::new_v4().hyphenated().encode_lower(&mut text);
        Self(text.into())
    }
}

/// Returns the layer. A request id that equals `operator_key` is replaced, because request ids are logged.
pub(in crate::grpc) fn layer<S>(
    operator_key: Option<OperatorKey>,
) -> impl Layer<S, Service = RequestIdService<S>> {
    layer_fn(move |inner| RequestIdService {
        inner,
        operator_key: operator_key.clone(),
    })
}

/// The service of the layer.
#[derive(Clone)]
pub(in crate::grpc) struct RequestIdService<S> {
    inner: S,
    operator_key: Option<OperatorKey>,
}

impl<S> Service<Request<Body>> for RequestIdService<S>
where
    S: CallService,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RequestIdFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let accepted = accepted_request_id(request.headers(), self.operator_key.as_ref());
        let id = match accepted {
            Some(id) => Some(RequestId(id.into())),
            None if is_logged_only_on_failure(request.uri().path()) => None,
            None => Some(RequestId::generate()),
        };
        if let Some(id) = &id {
            request.extensions_mut().insert(id.clone());
        }
        RequestIdFuture {
            response: self.inner.call(request),
            id,
        }
    }
}

/// The future of the layer.
pub(in crate::grpc) struct RequestIdFuture<F> {
    response: F,
    id: Option<RequestId>,
}

impl<F> Future for RequestIdFuture<F>
where
    F: Future<Output = CallResult> + Unpin,
{
    type Output = CallResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallResult> {
        let Ok(mut response) = ready!(Pin::new(&mut self.response).poll(cx));
        let id = self.id.take().or_else(|| response.extensions_mut().remove());
        if let Some(RequestId(id)) = id
            && let Ok(value) = HeaderValue::from_str(&id)
        {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        Poll::Ready(Ok(response))
    }
}

/// Returns the request id of the caller if it can be logged ([`request_id::is_loggable`]).
///
/// The operator's key has no recognizable form, so it is compared.
pub(in crate::grpc) fn accepted_request_id<'a>(
    headers: &'a HeaderMap,
    operator_key: Option<&OperatorKey>,
) -> Option<&'a str> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let is_operator_key = |key: &OperatorKey| id.len() >= OperatorKey::MIN_LENGTH && key.is(id.as_bytes());
    let is_accepted = request_id::is_loggable(id) && !operator_key.is_some_and(is_operator_key);
    is_accepted.then_some(id)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn a_loggable_request_id_is_accepted_unless_it_is_the_operator_key() {
        let headers = |value| {
            let name = HeaderName::from_static(REQUEST_ID);
            HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
        };
        let key = OperatorKey::new("operator-key-of-thirty-two-characters").unwrap();
        for accepted in ["order-17_b.3", "another-key-of-thirty-two-characters"] {
            let headers = headers(accepted);
            assert_eq!(accepted_request_id(&headers, Some(&key)), Some(accepted));
            assert_eq!(accepted_request_id(&headers, None), Some(accepted));
        }
        for replaced in [
            "operator-key-of-thirty-two-characters",
            "998901234567",
            "x-pdv_0000",
            "",
        ] {
            assert_eq!(
                accepted_request_id(&headers(replaced), Some(&key)),
                None,
                "{replaced:?}"
            );
        }
    }
}
