//! The outermost layer of a call: its request id, its deadline, its line in the log, and the answers that tonic gives
//! by itself, which are put into the form that all our errors have.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::time::Timeout;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, field};
use uuid::Uuid;

use super::authorization::CallerAuthorizer;
use super::metadata::{self, RequestId};
use super::metrics::{CountedCall, Metrics, RpcIndex, VALIDATE_SESSION};
use super::refusal_log::{RefusalLog, RefusedCaller};
use super::status::{self, WireError};
use super::validate_session::ValidateSessionService;
use crate::domain::access::{Caller, OperatorKey};
use crate::domain::request_id;
use crate::i18n::Language;
use crate::telemetry::tracing::{CallTrace, Tracer};

const REQUEST_ID: &str = "x-request-id";

/// Puts [`Edge`] around all services.
#[derive(Clone)]
pub(super) struct EdgeLayer {
    /// How long a call may take, if the caller does not ask for less.
    timeout: Duration,
    /// The most bytes of a message.
    max_message_bytes: usize,
    /// Counts all calls, and knows the paths of our RPCs. Any other path is the caller's own text, and is not logged.
    metrics: Arc<Metrics>,
    /// Begins traces, if there are any.
    tracer: Option<Tracer>,
    /// Takes the calls of ValidateSession.
    checks: ValidateSessionService,
    /// Says who may call what.
    gate: CallerAuthorizer,
    /// Samples the lines of refused calls.
    refusals: RefusalLog,
    /// The operator's key, which is never used as a request id.
    operator_key: Option<OperatorKey>,
}

impl EdgeLayer {
    pub(super) fn new(
        timeout: Duration,
        max_message_bytes: usize,
        metrics: Arc<Metrics>,
        tracer: Option<Tracer>,
        checks: ValidateSessionService,
        gate: CallerAuthorizer,
        refusals: RefusalLog,
    ) -> Self {
        Self {
            timeout,
            max_message_bytes,
            metrics,
            tracer,
            checks,
            gate,
            refusals,
            operator_key: None,
        }
    }

    /// Replaces request ids that are the operator's key.
    pub(super) fn with_operator_key(self, operator_key: Option<OperatorKey>) -> Self {
        Self { operator_key, ..self }
    }
}

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Edge<S> {
        Edge {
            inner,
            layer: self.clone(),
        }
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct Edge<S> {
    inner: S,
    layer: EdgeLayer,
}

type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for Edge<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> ResponseFuture {
        let begun = Instant::now();
        let path = request.uri().path();
        let place = self.layer.metrics.place(path);
        let timeout = grpc_timeout(request.headers())
            .map_or(self.layer.timeout, |timeout| timeout.min(self.layer.timeout));
        let language = metadata::language_of(&request);
        let given_id = given_request_id(request.headers(), self.layer.operator_key.as_ref());
        let limit = self.layer.max_message_bytes;
        let tracer = self.layer.tracer.as_ref();
        if path == VALIDATE_SESSION {
            let trace = tracer.and_then(|tracer| tracer.call(request.headers(), path));
            // The time runs from here, and not from when the task is first polled.
            let checks = self.layer.checks.clone();
            let answer = admitted(self.layer.gate.clone(), request, place, language, |request| {
                checks.call(request)
            });
            let answer = tokio::time::timeout(timeout, answer);
            let counted = self.layer.metrics.begin(place, begun).with_trace(trace.as_ref());
            let checked = check(
                answer,
                counted,
                trace.clone(),
                language,
                limit,
                given_id,
                self.layer.refusals.clone(),
            );
            return match trace {
                None => Box::pin(checked),
                Some(trace) => Box::pin(async move { trace.current().scope(checked).await }),
            };
        }
        let is_ours = self.layer.metrics.is_ours(place);
        let tracer = tracer.filter(|_| is_ours);
        let trace = tracer.and_then(|tracer| tracer.call(request.headers(), path));
        let counted = self.layer.metrics.begin(place, begun).with_trace(trace.as_ref());
        let request_id = given_id.unwrap_or_else(new_request_id);
        let span = if is_ours {
            call_span(path, &request_id, trace.as_ref())
        } else {
            tracing::debug_span!("call", request_id)
        };
        // Health and reflection have streams without end, and errors that their clients know.
        let is_foreign = is_foreign(path);
        let id = RequestId(request_id.as_str().into());
        request.extensions_mut().insert(id);
        let mut inner = self.inner.clone();
        let answer = admitted(
            self.layer.gate.clone(),
            request,
            place,
            language,
            async move |request| match inner.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        );
        let answer = tokio::time::timeout(timeout, answer);
        let refusals = self.layer.refusals.clone();
        let call = async move {
            let response = answer.await;
            let caller = response.as_ref().ok().and_then(refused_caller);
            let mut response = match response {
                Ok(response) if is_foreign => response,
                Ok(response) => in_our_words(response, language, limit),
                Err(_) => status::of_wire_error(WireError::DeadlineExceeded, language).into_http(),
            };
            let (code, reason) = outcome(response.headers());
            let microseconds = microseconds(counted.elapsed());
            if let Some(kind) = status::throttled_by(&response) {
                counted.throttled(kind);
            }
            counted.end(code);
            if is_ours && refusals.has_line(reason.as_deref(), caller.as_ref()) {
                tracing::info!(?code, reason, microseconds, "call ended");
            } else {
                tracing::debug!(?code, reason, microseconds, "call ended");
            }
            set_request_id(&mut response, request_id);
            Ok(response)
        };
        let call = call.instrument(span);
        match trace {
            None => Box::pin(call),
            Some(trace) => Box::pin(async move { trace.current().scope(call).await }),
        }
    }
}

/// The answer of a call, if its caller may make it.
async fn admitted<F>(
    gate: CallerAuthorizer,
    mut request: Request<Body>,
    place: RpcIndex,
    language: Language,
    call: impl FnOnce(Request<Body>) -> F,
) -> Response<Body>
where
    F: Future<Output = Response<Body>>,
{
    match gate.authorize(&mut request, place).await {
        Ok(()) => {
            let caller = request.extensions().get::<Caller>();
            let service = caller.and_then(|caller| caller.service.clone());
            let mut response = call(request).await;
            if let Some(service) = service
                && response.headers().contains_key(Status::GRPC_STATUS)
            {
                response.extensions_mut().insert(RefusedCaller(service));
            }
            response
        }
        Err(error) => status::of_error(&error, language).into_http(),
    }
}

/// ValidateSession, the call that comes with every request to every other service. What goes well is not logged here:
/// the check engine counts it. It has a span only if it is traced, and a request id only if the caller gave one.
async fn check(
    answer: Timeout<impl Future<Output = Response<Body>>>,
    counted: CountedCall,
    trace: Option<CallTrace>,
    language: Language,
    limit: usize,
    given_id: Option<String>,
    refusals: RefusalLog,
) -> Result<Response<Body>, Infallible> {
    let mut response = match answer.await {
        Ok(response) => response,
        Err(_) => status::of_wire_error(WireError::DeadlineExceeded, language).into_http(),
    };
    // Only what is no answer of the handler has its status here and not in the trailers.
    if !response.headers().contains_key(Status::GRPC_STATUS) {
        counted.end(Code::Ok);
        if let Some(id) = given_id {
            set_request_id(&mut response, id);
        }
        return Ok(response);
    }
    let caller = refused_caller(&response);
    response = in_our_words(response, language, limit);
    let request_id = given_id.unwrap_or_else(new_request_id);
    let span = call_span(VALIDATE_SESSION, &request_id, trace.as_ref());
    span.in_scope(|| {
        let (code, reason) = outcome(response.headers());
        let microseconds = microseconds(counted.elapsed());
        counted.end(code);
        if refusals.has_line(reason.as_deref(), caller.as_ref()) {
            tracing::info!(?code, reason, microseconds, "call ended");
        } else {
            tracing::debug!(?code, reason, microseconds, "call ended");
        }
    });
    set_request_id(&mut response, request_id);
    Ok(response)
}

/// The calling service of a call that was refused, if it is known.
fn refused_caller(response: &Response<Body>) -> Option<RefusedCaller> {
    response.extensions().get::<RefusedCaller>().cloned()
}

/// The span in which all lines of the log are that belong to a call. If it is traced, they say to which trace they
/// belong.
fn call_span(path: &str, request_id: &str, trace: Option<&CallTrace>) -> Span {
    let span = tracing::info_span!(
        "call",
        rpc = &path[1..],
        request_id,
        trace_id = field::Empty,
        span_id = field::Empty
    );
    if let Some(trace) = trace {
        let (trace_id, span_id) = trace.ids();
        span.record("trace_id", trace_id);
        span.record("span_id", span_id);
    }
    span
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn set_request_id(response: &mut Response<Body>, id: String) {
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
}

/// The code of an answer and, where it is an error of ours, the reason.
fn outcome(headers: &HeaderMap) -> (Code, Option<String>) {
    let Some(status) = Status::from_header_map(headers) else {
        return (Code::Ok, None);
    };
    (
        status.code(),
        status.get_details_error_info().map(|info| info.reason),
    )
}

/// Whether the path is that of a service that is not ours.
fn is_foreign(path: &str) -> bool {
    path.starts_with("/grpc.health.") || path.starts_with("/grpc.reflection.")
}

/// The request id that the caller gave, if it can be logged ([`request_id::is_loggable`]) and is not the operator's
/// key, which has no form of its own.
pub(super) fn given_request_id(headers: &HeaderMap, operator_key: Option<&OperatorKey>) -> Option<String> {
    let given = headers.get(REQUEST_ID)?.to_str().ok()?;
    let is_operator_key =
        |key: &OperatorKey| given.len() >= OperatorKey::MIN_LENGTH && key.is(given.as_bytes());
    let is_kept = request_id::is_loggable(given) && !operator_key.is_some_and(is_operator_key);
    is_kept.then(|| given.to_owned())
}

fn new_request_id() -> String {
    Uuid::new_v4().to_string()
}

/// How long the caller waits for the answer: `grpc-timeout`, at most eight digits and a unit
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
pub(super) fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
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

/// Puts an error that tonic made into the form that ours have. Ours have details, tonic's have none. `limit` is the
/// most bytes of a message.
fn in_our_words(response: Response<Body>, language: Language, limit: usize) -> Response<Body> {
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    if status.code() == Code::Ok || !status.details().is_empty() {
        return response;
    }
    let error = match status.code() {
        // A message that cannot be decoded, or is cut off, or is none at all.
        Code::Internal | Code::InvalidArgument | Code::Cancelled => WireError::MalformedMessage,
        Code::OutOfRange | Code::ResourceExhausted => WireError::MessageTooLarge { limit },
        Code::Unimplemented if response.headers().contains_key(status::ACCEPT_ENCODING) => {
            WireError::Compressed
        }
        Code::Unimplemented => WireError::NotImplemented,
        _ => return response,
    };
    // Without tonic's message, which quotes headers of the caller.
    tracing::debug!(code = ?status.code(), "refused before the service");
    status::of_wire_error(error, language).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )])
    }

    #[test]
    fn timeouts_are_read_as_the_protocol_says() {
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
            assert_eq!(
                grpc_timeout(&headers("grpc-timeout", value)),
                expected,
                "{value:?}"
            );
        }
    }

    #[test]
    fn a_request_id_that_can_be_logged_is_kept_unless_it_is_the_operators_key() {
        let key = OperatorKey::new("operator-key-of-thirty-two-characters").unwrap();
        let given = |value| given_request_id(&headers(REQUEST_ID, value), Some(&key));
        for kept in ["order-17_b.3", "another-key-of-thirty-two-characters"] {
            assert_eq!(given(kept).as_deref(), Some(kept));
            assert_eq!(
                given_request_id(&headers(REQUEST_ID, kept), None).as_deref(),
                Some(kept)
            );
        }
        for replaced in [
            "operator-key-of-thirty-two-characters",
            "998901234567",
            "x-pdv_0000",
            "",
        ] {
            assert_eq!(given(replaced), None, "{replaced:?}");
        }
    }
}
