//! Traces: spans of the calls that are sampled, sent by OTLP.
//!
//! Whether a call is traced is decided once, at the edge: as its caller says (`traceparent` of W3C), and else by
//! chance. A call that is not has no spans at all, and costs a look at whether it is. What is inside of a traced call
//! hangs its spans under the one that is current.
//!
//! Spans say only what is written here and where they are made: names of RPCs and of methods, kinds of statements,
//! codes. They are not made of the fields of the log, so nothing comes into them by accident.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanKind as OtelSpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;

pub use super::otlp::{Export, ExportError};

/// The metadata by which a caller says which trace its call belongs to.
const TRACEPARENT: &str = "traceparent";

/// Begins the traces of calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tracer(Arc<TracerState>);

#[derive(Debug)]
struct TracerState {
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
    /// How many of 2^64 calls are traced whose callers say nothing.
    sampled: u128,
}

impl Tracer {
    /// `ratio` of the calls whose callers say nothing are traced: from 0 to 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "such a cast saturates"
    )]
    pub(super) fn new(tracer: SdkTracer, ratio: f64) -> Self {
        Self(Arc::new(TracerState {
            tracer,
            propagator: TraceContextPropagator::new(),
            sampled: (ratio.clamp(0.0, 1.0) * 2_f64.powi(64)) as u128,
        }))
    }

    /// Begins the span of a call, if it is to be traced. `path` is that of an RPC of ours.
    #[must_use]
    pub fn call(&self, headers: &HeaderMap, path: &str) -> Option<CallTrace> {
        let TracerState {
            tracer,
            propagator,
            sampled,
        } = self.0.as_ref();
        let mut parent = Context::new();
        if headers.contains_key(TRACEPARENT) {
            parent = propagator.extract_with_context(&parent, &Headers(headers));
        }
        let caller = parent.span().span_context().clone();
        let is_sampled = if caller.is_valid() {
            caller.is_sampled()
        } else {
            u128::from(random()) < *sampled
        };
        if !is_sampled {
            return None;
        }
        let name = path.trim_start_matches('/');
        let (service, method) = name.split_once('/')?;
        let span = tracer
            .span_builder(name.to_owned())
            .with_kind(OtelSpanKind::Server)
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

/// The metadata of a call, as far as it says to which trace it belongs. `tracestate` is text of the caller's, which
/// would go on to the collector; nothing here needs it.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        if key != TRACEPARENT {
            return None;
        }
        let traceparent = self.0.get(key)?.to_str().ok()?;
        // A trace id without a letter may be a phone number with zeros before it. By chance, 3 ids of 10 million have
        // none.
        let trace_id = traceparent.split('-').nth(1)?;
        let has_letter = trace_id.bytes().any(|byte| byte.is_ascii_alphabetic());
        has_letter.then_some(traceparent)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// A random number that nobody has to be unable to guess (splitmix64).
fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(getrandom::u64().unwrap_or_default());
    }
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The span of a call that is traced.
#[derive(Clone, Debug)]
pub struct CallTrace(Context);

impl CallTrace {
    /// The ids of the trace and of the span, in hexadecimal, for the log.
    #[must_use]
    pub fn ids(&self) -> (String, String) {
        let span = self.0.span();
        let context = span.span_context();
        (context.trace_id().to_string(), context.span_id().to_string())
    }

    /// What goes on in the call.
    #[must_use]
    pub fn current(&self) -> TraceContext {
        TraceContext(self.0.clone())
    }

    /// Ends it with a code of gRPC.
    pub fn end(&self, code: tonic::Code) {
        use tonic::Code;
        let span = self.0.span();
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(code))));
        // What is the server's fault, by the semantic conventions.
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

/// Under which span that goes on which is going on. Cheap to clone, and goes along to other tasks and threads.
#[derive(Clone, Debug, Default)]
pub struct TraceContext(Context);

impl TraceContext {
    /// That of here and now.
    #[must_use]
    pub fn current() -> Self {
        Self(Context::current())
    }

    /// Whether it is traced.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.0.get::<Tracer>().is_some()
    }

    /// Does work under this one.
    pub async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        // Once, whichever way it goes: a future that is moved is there twice.
        let mut work = pin!(work);
        if !self.is_traced() {
            return work.await;
        }
        poll_fn(|cx| {
            let _here = self.0.clone().attach();
            work.as_mut().poll(cx)
        })
        .await
    }

    /// What tells others which trace they belong to, as a value of W3C's `traceparent`, if it is traced.
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

    /// A new span under this one, if it is traced.
    #[must_use]
    pub fn child(&self, name: &'static str, what: SpanKind) -> Option<Span> {
        let tracer = &self.0.get::<Tracer>()?.0.tracer;
        let span = what.span(name).start_with_context(tracer, &self.0);
        Some(Span(self.0.with_span(span)))
    }

    /// Adds a span under this one that has ended now and took so long.
    pub fn ended(&self, name: &'static str, took: Duration) {
        let Some(Tracer(inner)) = self.0.get::<Tracer>() else {
            return;
        };
        let began = opentelemetry::time::now() - took;
        let span = SpanKind::Work.span(name).with_start_time(began);
        // It ends when it is dropped.
        drop(span.start_with_context(&inner.tracer, &self.0));
    }
}

/// What a span is about.
#[derive(Clone, Copy, Debug)]
pub enum SpanKind {
    /// Something that this process does.
    Work,
    /// A request by HTTP, a POST.
    Request,
    /// A statement to the database.
    Statement {
        /// Which database: `db.system.name`.
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

/// A span inside of a call. It ends when it is dropped.
#[derive(Debug)]
pub struct Span(Context);

impl Span {
    /// What goes on in it.
    #[must_use]
    pub fn current(&self) -> TraceContext {
        TraceContext(self.0.clone())
    }

    /// Says which server a request goes to.
    pub fn to_server(&self, host: &str) {
        let host = KeyValue::new("server.address", host.to_owned());
        self.0.span().set_attribute(host);
    }

    /// Says with which status of HTTP a request was answered.
    pub fn answered(&self, status: u16) {
        let status = KeyValue::new("http.response.status_code", i64::from(status));
        self.0.span().set_attribute(status);
    }

    /// Says that what it is about has failed.
    pub fn fail(&self) {
        self.0.span().set_status(Status::error(""));
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.0.span().end();
    }
}

/// Does work in a span of its own, if the call is traced. To be given it pinned, since it is large.
pub async fn span<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    let span = Context::map_current(|here| {
        let _ = here.get::<Tracer>()?;
        TraceContext(here.clone()).child(name, SpanKind::Work)
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
    fn the_decision_of_the_caller_is_honoured() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let sampled = headers(&format!("00-{trace}-b7ad6b7169203331-01"));
        let not_sampled = headers(&format!("00-{trace}-b7ad6b7169203331-00"));
        let call = tracer(0.0).call(&sampled, "/a.B/C").unwrap();
        assert_eq!(call.ids().0, trace);
        assert_ne!(call.ids().1, "b7ad6b7169203331");
        assert!(tracer(1.0).call(&not_sampled, "/a.B/C").is_none());
    }

    #[test]
    fn what_is_no_traceparent_says_nothing() {
        for nonsense in [
            "",
            "00-0-0-01",
            "00-00000000000000000000000000000000-0000000000000000-01",
            // A phone number with zeros before it, which would be logged as the trace id.
            "00-00000000000000000000998901234567-b7ad6b7169203331-01",
            "x",
        ] {
            assert!(
                tracer(0.0).call(&headers(nonsense), "/a.B/C").is_none(),
                "{nonsense}"
            );
            assert!(
                tracer(1.0).call(&headers(nonsense), "/a.B/C").is_some(),
                "{nonsense}"
            );
        }
    }

    #[test]
    fn the_ratio_is_that_of_the_setting() {
        let none = HeaderMap::new();
        let tracer = tracer(0.25);
        let sampled = (0..40_000)
            .filter(|_| tracer.call(&none, "/a.B/C").is_some())
            .count();
        // Six standard deviations.
        assert!((9_480..=10_520).contains(&sampled), "{sampled}");
    }

    #[test]
    fn what_is_not_traced_has_no_spans() {
        assert!(!TraceContext::current().is_traced());
        assert!(TraceContext::current().child("nothing", SpanKind::Work).is_none());
    }

    #[tokio::test]
    async fn spans_hang_under_the_current_one() {
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
