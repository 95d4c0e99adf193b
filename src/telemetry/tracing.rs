//! Tracing: spans of the sampled calls, for export by OTLP.
//!
//! The middleware samples each call once: as its caller decided (W3C `traceparent`), otherwise by the ratio of the
//! setting. A call that is not sampled has no spans; it costs one decision. The spans inside of a sampled call are
//! children of the current span.
//!
//! Spans contain only what is written in this file and where they are created: names of RPCs and methods, kinds of
//! statements, status codes. They are not derived from log fields, so that no secret gets into them by accident.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanKind as OtelSpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    IdGenerator as _, RandomIdGenerator, Sampler, SamplingDecision, SdkTracer, ShouldSample as _,
};

pub use super::otlp::{Export, ExportError};

/// Metadata with the trace that a call belongs to (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// Starts the traces of calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tracer(Arc<TracerState>);

#[derive(Debug)]
struct TracerState {
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
    sampler: Sampler,
    ids: RandomIdGenerator,
}

impl Tracer {
    /// Returns a tracer that samples calls as their callers decided, and `ratio` (0 to 1) of the calls without a
    /// decision.
    pub(super) fn new(tracer: SdkTracer, ratio: f64) -> Self {
        Self(Arc::new(TracerState {
            tracer,
            propagator: TraceContextPropagator::new(),
            sampler: Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))),
            ids: RandomIdGenerator::default(),
        }))
    }

    /// Starts the span of a call, if it is sampled. `path` is the path of one of our RPCs.
    #[must_use]
    pub fn call(&self, headers: &HeaderMap, path: &str) -> Option<CallTrace> {
        let TracerState {
            tracer,
            propagator,
            sampler,
            ids,
        } = self.0.as_ref();
        let mut parent = Context::new();
        if headers.contains_key(TRACEPARENT) {
            parent = propagator.extract_with_context(&parent, &Headers(headers));
        }
        let name = path.trim_start_matches('/');
        let kind = OtelSpanKind::Server;
        // Decided before the span is built, because most calls are not sampled and the attributes are allocated.
        let sampling = sampler.should_sample(Some(&parent), ids.new_trace_id(), name, &kind, &[], &[]);
        if sampling.decision != SamplingDecision::RecordAndSample {
            return None;
        }
        let (service, method) = name.split_once('/')?;
        let span = tracer
            .span_builder(name.to_owned())
            .with_kind(kind)
            .with_attributes([
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.service", service.to_owned()),
                KeyValue::new("rpc.method", method.to_owned()),
            ])
            .start_with_context(tracer, &parent);
        let context = parent.with_span(span).with_value(self.clone());
        Some(CallTrace(context))
    }
}

/// The metadata of a call with its trace. `tracestate` is left out: it is free text of the caller that would be
/// exported to the collector, and nothing here needs it.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        if key != TRACEPARENT {
            return None;
        }
        let traceparent = self.0.get(key)?.to_str().ok()?;
        // A trace id without a letter may be a phone number padded with zeros. Of random ids, 3 in 10 million have no
        // letter.
        let trace_id = traceparent.split('-').nth(1)?;
        let has_letter = trace_id.bytes().any(|byte| byte.is_ascii_alphabetic());
        has_letter.then_some(traceparent)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// The span of a sampled call.
#[derive(Clone, Debug)]
pub struct CallTrace(Context);

impl CallTrace {
    /// Returns the ids of the trace and of the span in hexadecimal, for the log.
    #[must_use]
    pub fn ids(&self) -> (String, String) {
        let span = self.0.span();
        let context = span.span_context();
        (context.trace_id().to_string(), context.span_id().to_string())
    }

    /// Returns the context of work inside of the call.
    #[must_use]
    pub fn current(&self) -> TraceContext {
        TraceContext(self.0.clone())
    }

    /// Ends the span with a gRPC status code.
    pub fn end(&self, code: tonic::Code) {
        use tonic::Code;
        let span = self.0.span();
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(code))));
        // The codes that are errors of the server in OpenTelemetry's semantic conventions.
        if let Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss = code
        {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// Trace context: the current span, as the parent of new spans. Cheap to clone, and passed to other tasks and threads.
#[derive(Clone, Debug, Default)]
pub struct TraceContext(Context);

impl TraceContext {
    /// Returns the context of the current task.
    #[must_use]
    pub fn current() -> Self {
        Self(Context::current())
    }

    /// Returns whether the call is sampled.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.0.get::<Tracer>().is_some()
    }

    /// Runs work in this context.
    pub async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        // Pinned once for both branches: a future that moves into two of them is stored twice.
        let mut work = pin!(work);
        if !self.is_traced() {
            return work.await;
        }
        poll_fn(|cx| {
            let _guard = self.0.clone().attach();
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Returns the W3C `traceparent` of requests to other services. `None`: the call is not sampled.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        if !self.is_traced() {
            return None;
        }
        let span = self.0.span();
        let context = span.span_context();
        let flags = context.trace_flags().to_u8();
        Some(format!(
            "00-{}-{}-{flags:02x}",
            context.trace_id(),
            context.span_id()
        ))
    }

    /// Starts a child span. `None`: the call is not sampled.
    #[must_use]
    pub fn child(&self, name: &'static str, kind: SpanKind) -> Option<Span> {
        let tracer = &self.0.get::<Tracer>()?.0.tracer;
        let span = kind.span(name).start_with_context(tracer, &self.0);
        Some(Span(self.0.with_span(span)))
    }

    /// Adds a child span that ends now and took the given time.
    pub fn ended(&self, name: &'static str, took: Duration) {
        let Some(Tracer(inner)) = self.0.get::<Tracer>() else {
            return;
        };
        let start = opentelemetry::time::now() - took;
        let span = SpanKind::Work.span(name).with_start_time(start);
        // The span ends when it is dropped.
        drop(span.start_with_context(&inner.tracer, &self.0));
    }
}

/// Kind of a span.
#[derive(Clone, Copy, Debug)]
pub enum SpanKind {
    /// Work inside of this process.
    Work,
    /// An HTTP request with POST.
    Request,
    /// A database statement.
    Statement {
        /// The database system: `db.system.name`.
        system: &'static str,
        /// The first word of the statement: `db.operation.name`.
        operation: &'static str,
    },
}

impl SpanKind {
    fn span(self, name: &'static str) -> opentelemetry::trace::SpanBuilder {
        let span = opentelemetry::trace::SpanBuilder::from_name(name);
        match self {
            Self::Work => span.with_kind(OtelSpanKind::Internal),
            Self::Request => span
                .with_kind(OtelSpanKind::Client)
                .with_attributes([KeyValue::new("http.request.method", "POST")]),
            Self::Statement { system, operation } => span.with_kind(OtelSpanKind::Client).with_attributes([
                KeyValue::new("db.system.name", system),
                KeyValue::new("db.operation.name", operation),
            ]),
        }
    }
}

/// A span inside of a call; it ends when it is dropped.
#[derive(Debug)]
pub struct Span(Context);

impl Span {
    /// Returns the context of work inside of the span.
    #[must_use]
    pub fn current(&self) -> TraceContext {
        TraceContext(self.0.clone())
    }

    /// Sets the server of a request.
    pub fn set_server_address(&self, host: &str) {
        let host = KeyValue::new("server.address", host.to_owned());
        self.0.span().set_attribute(host);
    }

    /// Sets the HTTP status code of a response.
    pub fn set_status_code(&self, status: u16) {
        let status = KeyValue::new("http.response.status_code", i64::from(status));
        self.0.span().set_attribute(status);
    }

    /// Marks the span as failed.
    pub fn fail(&self) {
        self.0.span().set_status(Status::error(""));
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.0.span().end();
    }
}

/// Runs work in a child span, if the call is sampled. Callers pin large futures before, because the argument is moved.
pub async fn span<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    let span = Context::map_current(|current| {
        let _ = current.get::<Tracer>()?;
        TraceContext(current.clone()).child(name, SpanKind::Work)
    });
    let work = pin!(work);
    match span {
        None => work.await,
        Some(span) => span.current().scope(work).await,
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    fn tracer(ratio: f64) -> Tracer {
        Tracer::new(SdkTracerProvider::builder().build().tracer("test"), ratio)
    }

    fn headers(traceparent: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static(TRACEPARENT),
            traceparent.parse().unwrap(),
        )])
    }

    #[test]
    fn the_sampling_decision_of_the_caller_is_honoured() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let sampled = headers(&format!("00-{trace}-b7ad6b7169203331-01"));
        let not_sampled = headers(&format!("00-{trace}-b7ad6b7169203331-00"));
        let call = tracer(0.0).call(&sampled, "/a.B/C").unwrap();
        assert_eq!(call.ids().0, trace);
        assert_ne!(call.ids().1, "b7ad6b7169203331");
        assert!(tracer(1.0).call(&not_sampled, "/a.B/C").is_none());
    }

    #[test]
    fn an_invalid_traceparent_is_ignored() {
        for invalid in [
            "",
            "00-0-0-01",
            "00-00000000000000000000000000000000-0000000000000000-01",
            // A phone number padded with zeros, which would be logged as the trace id.
            "00-00000000000000000000998901234567-b7ad6b7169203331-01",
            "x",
        ] {
            assert!(
                tracer(0.0).call(&headers(invalid), "/a.B/C").is_none(),
                "{invalid}"
            );
            assert!(
                tracer(1.0).call(&headers(invalid), "/a.B/C").is_some(),
                "{invalid}"
            );
        }
    }

    #[test]
    fn calls_without_a_decision_are_sampled_by_the_ratio() {
        let none = HeaderMap::new();
        let tracer = tracer(0.25);
        let sampled = (0..40_000)
            .filter(|_| tracer.call(&none, "/a.B/C").is_some())
            .count();
        // Six standard deviations.
        assert!((9_480..=10_520).contains(&sampled), "{sampled}");
    }

    #[test]
    fn work_outside_of_a_sampled_call_has_no_spans() {
        assert!(!TraceContext::current().is_traced());
        assert!(TraceContext::current().child("nothing", SpanKind::Work).is_none());
    }

    #[tokio::test]
    async fn spans_are_children_of_the_current_span() {
        let call = tracer(1.0).call(&HeaderMap::new(), "/a.B/C").unwrap();
        let inner = call.current().scope(async {
            span("outer", async {
                let here = TraceContext::current().0;
                tokio::task::yield_now().await;
                assert_eq!(
                    here.span().span_context().span_id(),
                    TraceContext::current().0.span().span_context().span_id()
                );
                here.span().span_context().clone()
            })
            .await
        });
        let inner = inner.await;
        let (trace, span) = call.ids();
        assert_eq!(inner.trace_id().to_string(), trace);
        assert_ne!(inner.span_id().to_string(), span);
        assert!(!TraceContext::current().is_traced());
    }
}
