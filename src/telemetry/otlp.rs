//! OTLP exporter: sends spans to a collector over gRPC.
//!
//! An ended span goes into a bounded queue. If the queue is full, the span is dropped, and no call waits. A thread
//! exports the queue in batches. So a slow or unreachable collector does not slow calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::tracing::Tracer;

/// Maximum number of queued spans; more are dropped. Each uses about 1 KiB.
const QUEUE: usize = 4096;

/// Maximum number of spans in a batch.
const BATCH: usize = 512;

/// Maximum time that a span waits before it is sent.
const DELAY: Duration = Duration::from_secs(1);

/// Timeout of the collector's response to a batch.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Exports spans until it is shut down.
#[derive(Debug)]
pub struct Export(SdkTracerProvider);

/// The exporter cannot be created.
#[derive(Debug, Error)]
#[error("spans cannot be sent to --otlp-endpoint: {0}")]
pub struct ExportError(#[from] ExporterBuildError);

impl Export {
    /// Starts the export to an endpoint, `http://HOST:PORT` or `https://HOST:PORT`, which may be unreachable yet. Needs
    /// the tokio runtime.
    ///
    /// # Errors
    /// When the endpoint is invalid.
    pub fn start(endpoint: &str) -> Result<Self, ExportError> {
        let exporter = OtlpExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(TIMEOUT)
            .build()?;
        let exporter = Exporter {
            exporter: Arc::new(exporter),
            runtime: Handle::current(),
            is_failing: Arc::new(AtomicBool::new(false)),
        };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build();
        let resource = Resource::builder()
            .with_service_name("phone-identity")
            .with_attributes([KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))])
            .build();
        let provider = SdkTracerProvider::builder()
            // The tracer samples calls before it creates their spans.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .with_span_processor(processor)
            .build();
        Ok(Self(provider))
    }

    /// Returns the tracer of calls. It samples `ratio` (0 to 1) of the calls without a decision of their caller.
    #[must_use]
    pub fn tracer(&self, ratio: f64) -> Tracer {
        Tracer::new(self.0.tracer("phone-identity"), ratio)
    }

    /// Sends the queued spans, for at most `limit`.
    pub async fn shut_down(self, limit: Duration) {
        let sending = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(limit));
        match timeout(limit, sending).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans were not sent"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last spans were not sent in time"),
        }
    }
}

/// Exporter that runs on the tokio runtime, because the exporting thread of the SDK has no timers and connections. It
/// logs the first failure and the recovery, not each failure.
#[derive(Debug)]
struct Exporter {
    exporter: Arc<OtlpExporter>,
    runtime: Handle,
    is_failing: Arc<AtomicBool>,
}

impl SpanExporter for Exporter {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let (exporter, is_failing) = (self.exporter.clone(), self.is_failing.clone());
        let sending = self.runtime.spawn(async move {
            let sent = timeout(TIMEOUT, exporter.export(batch)).await;
            let sent = sent.unwrap_or(Err(OTelSdkError::Timeout(TIMEOUT)));
            let was_failing = is_failing.swap(sent.is_err(), Ordering::Relaxed);
            match &sent {
                Ok(()) if was_failing => tracing::info!("spans are sent again"),
                Err(error) if !was_failing => tracing::warn!(%error, "spans cannot be sent and are dropped"),
                _ => {}
            }
            sent
        });
        async move {
            sending
                .await
                .unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())))
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}
