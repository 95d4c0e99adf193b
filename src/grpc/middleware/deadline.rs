//! Deadline layer: a call that exceeds its timeout fails with DEADLINE_EXCEEDED.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::time::{Timeout, timeout};
use tonic::body::Body;
use tower::layer::layer_fn;
use tower::{Layer, Service};

use super::{CallResult, CallService};
use crate::grpc::metadata;
use crate::grpc::status::{self, WireError};
use crate::i18n::Language;

/// Returns the layer. `max_timeout` applies to each call; a caller can set a shorter timeout (`grpc-timeout`).
pub(in crate::grpc) fn layer<S>(max_timeout: Duration) -> impl Layer<S, Service = DeadlineService<S>> {
    layer_fn(move |inner| DeadlineService { inner, max_timeout })
}

/// The service of the layer.
#[derive(Clone)]
pub(in crate::grpc) struct DeadlineService<S> {
    inner: S,
    max_timeout: Duration,
}

impl<S> Service<Request<Body>> for DeadlineService<S>
where
    S: CallService,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let time =
            grpc_timeout(request.headers()).map_or(self.max_timeout, |time| time.min(self.max_timeout));
        let language = metadata::language_of(&request);
        // The timeout starts here, and not when the future is polled for the first time.
        DeadlineFuture {
            response: Box::pin(timeout(time, self.inner.call(request))),
            language,
        }
    }
}

/// The future of the layer. It can be moved, because the timer is in a box.
pub(in crate::grpc) struct DeadlineFuture<F> {
    response: Pin<Box<Timeout<F>>>,
    language: Language,
}

impl<F> Future for DeadlineFuture<F>
where
    F: Future<Output = CallResult>,
{
    type Output = CallResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallResult> {
        Poll::Ready(match ready!(self.response.as_mut().poll(cx)) {
            Ok(response) => response,
            Err(_) => Ok(status::of_wire_error(WireError::DeadlineExceeded, self.language).into_http()),
        })
    }
}

/// Returns the timeout of the caller: `grpc-timeout`, one to eight digits and a unit
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>). An invalid one is ignored.
pub(in crate::grpc) fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn timeouts_follow_the_grpc_protocol() {
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000n", None),
            ("1", None),
            ("S", None),
            ("-1S", None),
            ("+1S", None),
            ("1s", None),
            ("", None),
        ] {
            let name = HeaderName::from_static("grpc-timeout");
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            assert_eq!(grpc_timeout(&headers), expected, "{value:?}");
        }
    }
}
