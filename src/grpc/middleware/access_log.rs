//! Access log layer: the log span, the log line, the metrics and the trace of a call.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use tokio_util::either::Either;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::layer::layer_fn;
use tower::{Layer, Service};
use tracing::instrument::Instrumented;
use tracing::{Instrument as _, Span, field};

use super::request_id::RequestId;
use super::{CallResult, CallService, is_logged_only_on_failure};
use crate::grpc::metrics::{CountedCall, Metrics, RpcIndex};
use crate::grpc::refusal_log::{RefusalLog, RefusedCaller};
use crate::grpc::status;
use crate::telemetry::tracing::{CallTrace, Tracer};

/// The state of the layer, shared by all calls.
struct AccessLog {
    /// Counts calls, and knows the paths of our RPCs. Another path is text of the caller and is not logged.
    metrics: Arc<Metrics>,
    /// Samples traces. `None`: no call is traced.
    tracer: Option<Tracer>,
    /// Samples the log lines of refused calls.
    refusals: RefusalLog,
}

impl AccessLog {
    /// Returns the log span of a call. All log lines of the call are in it, and name the trace if there is one.
    fn span(&self, rpc: RpcIndex, RequestId(request_id): &RequestId, trace: Option<&CallTrace>) -> Span {
        let request_id = request_id.as_ref();
        let Some(name) = self.metrics.name(rpc) else {
            return tracing::debug_span!("call", request_id);
        };
        let span = tracing::info_span!(
            "call",
            rpc = name,
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
}

/// Returns the layer.
pub(in crate::grpc) fn layer<S>(
    metrics: Arc<Metrics>,
    tracer: Option<Tracer>,
    refusals: RefusalLog,
) -> impl Layer<S, Service = AccessLogService<S>> {
    let log = Arc::new(AccessLog {
        metrics,
        tracer,
        refusals,
    });
    layer_fn(move |inner| AccessLogService {
        inner,
        log: log.clone(),
    })
}

/// The service of the layer.
#[derive(Clone)]
pub(in crate::grpc) struct AccessLogService<S> {
    inner: S,
    log: Arc<AccessLog>,
}

impl<S> Service<Request<Body>> for AccessLogService<S>
where
    S: CallService,
    S::Future: Unpin + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AccessLogFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let begun = Instant::now();
        let AccessLog { metrics, tracer, .. } = self.log.as_ref();
        let path = request.uri().path();
        let rpc = metrics.rpc_index(path);
        let tracer = tracer.as_ref().filter(|_| metrics.is_ours(rpc));
        let trace = tracer.and_then(|tracer| tracer.call(request.headers(), path));
        let request_id = request.extensions().get::<RequestId>().cloned();
        let span = request_id
            .as_ref()
            .filter(|_| !is_logged_only_on_failure(path))
            .map(|id| self.log.span(rpc, id, trace.as_ref()));
        let call = LoggedCall {
            log: self.log.clone(),
            counted: metrics.begin(rpc, begun).with_trace(trace.clone()),
            request_id,
            has_span: span.is_some(),
        };
        let response = self.inner.call(request);
        let response = match trace {
            None => Either::Left(response),
            Some(trace) => Either::Right(Box::pin(trace.current().scope(response)) as TracedFuture),
        };
        AccessLogFuture {
            response: response.instrument(span.unwrap_or_else(Span::none)),
            call: Some(call),
        }
    }
}

/// A call under its trace.
type TracedFuture = Pin<Box<dyn Future<Output = CallResult> + Send>>;

/// The future of the layer. The fields are dropped in this order: a call that is cancelled is counted last.
pub(in crate::grpc) struct AccessLogFuture<F> {
    response: Instrumented<Either<F, TracedFuture>>,
    /// `None`: the call has ended.
    call: Option<LoggedCall>,
}

impl<F> Future for AccessLogFuture<F>
where
    F: Future<Output = CallResult> + Unpin,
{
    type Output = CallResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallResult> {
        let Ok(mut response) = ready!(Pin::new(&mut self.response).poll(cx));
        if let Some(call) = self.call.take() {
            call.end(self.response.span(), &mut response);
        }
        Poll::Ready(Ok(response))
    }
}

/// A call in flight.
struct LoggedCall {
    log: Arc<AccessLog>,
    counted: CountedCall,
    request_id: Option<RequestId>,
    /// Whether the call has a log span. One that is logged only if it fails has none.
    has_span: bool,
}

impl LoggedCall {
    /// Counts the call, and logs its line in `span`.
    fn end(mut self, span: &Span, response: &mut Response<Body>) {
        if self.has_span {
            return span.in_scope(|| self.log_line(response));
        }
        // The status of a handler's message is in the trailers, so a status in the headers is an error.
        if !response.headers().contains_key(Status::GRPC_STATUS) {
            return self.counted.end(Code::Ok);
        }
        let id = self.request_id.take().unwrap_or_else(RequestId::generate);
        let span = self.log.span(self.counted.rpc(), &id, self.counted.trace());
        response.extensions_mut().insert(id);
        span.in_scope(|| self.log_line(response));
    }

    fn log_line(self, response: &Response<Body>) {
        let Self { log, counted, .. } = self;
        let (code, reason) = outcome(response.headers());
        let microseconds = u64::try_from(counted.elapsed().as_micros()).unwrap_or(u64::MAX);
        let is_ours = log.metrics.is_ours(counted.rpc());
        if let Some(kind) = status::throttled_by(response) {
            counted.throttled(kind);
        }
        counted.end(code);
        let caller = response.extensions().get::<RefusedCaller>();
        if is_ours && log.refusals.has_line(reason.as_deref(), caller) {
            tracing::info!(?code, reason, microseconds, "call ended");
        } else {
            tracing::debug!(?code, reason, microseconds, "call ended");
        }
    }
}

/// Returns the code of a response and, if it is an error of ours, the reason.
fn outcome(headers: &HeaderMap) -> (Code, Option<String>) {
    let Some(status) = Status::from_header_map(headers) else {
        return (Code::Ok, None);
    };
    (
        status.code(),
        status.get_details_error_info().map(|info| info.reason),
    )
}
