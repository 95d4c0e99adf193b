//! Admission control: a call gets a permit of [`super::in_flight`], or is refused before it reaches the middleware.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::body::Body;
use tower::Service;

use super::body::{RequestBody, ResponseBody};
use super::in_flight::{CallPermit, InFlight, ServerLimits};
use crate::grpc::metadata;
use crate::grpc::status::{self, WireError};

/// Bytes that RFC 9113 section 6.5.2 adds to the size of each header field.
const FIELD_BYTES: usize = 32;

/// Serves the calls of one connection.
#[derive(Debug)]
pub(super) struct CallAdmission<S, I> {
    pub(super) service: S,
    /// Added to the extensions of each request.
    pub(super) connect_info: I,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) shared: ServerLimits,
    /// Ends endless streams.
    pub(super) closing: CancellationToken,
}

impl<S, I> hyper::service::Service<Request<Incoming>> for CallAdmission<S, I>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
    S::Future: Unpin,
    I: Clone + Send + Sync + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = AdmissionFuture<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let is_stream = is_stream(request.uri().path());
        let language = metadata::language(request.headers()).unwrap_or(self.shared.default_language);
        let path = request
            .uri()
            .path_and_query()
            .map_or(0, |path| path.as_str().len());
        let bytes = header_bytes(request.headers());
        let limit = self.shared.max_header_bytes;
        if bytes.max(path) > usize::try_from(limit).unwrap_or(usize::MAX) {
            tracing::debug!(bytes, "call refused: its metadata is too large");
            self.shared
                .metrics
                .refused(request.uri().path(), Code::ResourceExhausted);
            let refusal = status::of_wire_error(WireError::MetadataTooLarge { limit }, language);
            return AdmissionFuture::Refused(Some(refusal.into_http()));
        }
        let Some(permit) = self.in_flight.begin(&self.shared, is_stream, bytes + path) else {
            tracing::debug!("call refused: too many calls in flight");
            self.shared
                .metrics
                .refused(request.uri().path(), Code::Unavailable);
            let refusal = status::of_wire_error(WireError::Overloaded, language).into_http();
            return AdmissionFuture::Refused(Some(refusal));
        };
        let mut request =
            request.map(|body| Body::new(RequestBody::new(body, self.shared.clone(), language)));
        request.extensions_mut().insert(self.connect_info.clone());
        request.extensions_mut().insert(language);
        AdmissionFuture::Admitted {
            // The middleware and the routes are always ready.
            response: self.service.clone().call(request),
            permit: Some(permit),
            closing: is_stream.then(|| self.closing.clone()),
        }
    }
}

/// The future of a call.
#[derive(Debug)]
pub(super) enum AdmissionFuture<F> {
    Refused(Option<Response<Body>>),
    Admitted {
        response: F,
        permit: Option<CallPermit>,
        closing: Option<CancellationToken>,
    },
}

impl<F> Future for AdmissionFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match &mut *self {
            Self::Refused(refusal) => {
                let refusal = refusal.take().unwrap_or_default();
                refusal.map(|body| ResponseBody::new(body, None, None))
            }
            Self::Admitted {
                response,
                permit,
                closing,
            } => {
                let Ok(response) = ready!(Pin::new(response).poll(cx));
                response.map(|body| ResponseBody::new(body, permit.take(), closing.take()))
            }
        };
        Poll::Ready(Ok(response))
    }
}

/// Whether a call of this path is an endless stream.
fn is_stream(path: &str) -> bool {
    path == "/grpc.health.v1.Health/Watch" || path.starts_with("/grpc.reflection.")
}

/// Returns the size of headers in bytes, as RFC 9113 section 6.5.2 counts it, without pseudo-headers.
fn header_bytes(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES)
        .sum()
}
