//! Sending spans to a collector, by OTLP over gRPC.
//!
//! A span that has ended goes into a bounded queue, and nobody waits for room in it: what does not fit is lost. A
//! thread takes them out in batches. So a collector that is slow or gone slows nothing.

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

/// How many spans may wait to be sent. More are lost. Each takes about 1 KiB.
const QUEUE: usize = 4096;

/// How many are sent at a time.
const BATCH: usize = 512;

/// How long they wait, at most, before they are sent.
const DELAY: Duration = Duration::from_secs(1);

/// How long the collector may take to say that it has them.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends spans until it is shut down.
#[derive(Debug)]
pub struct Export(SdkTracerProvider);

/// Why spans cannot be sent.
#[derive(Debug, Error)]
#[error("spans cannot be sent to --otlp-endpoint: {0}")]
pub struct ExportError(#[from] ExporterBuildError);

impl Export {
    /// Begins to send spans to this endpoint, `http://HOST:PORT` or `https://HOST:PORT`. It need not be there yet. To
    /// be called on the runtime.
    ///
    /// # Errors
    /// When the endpoint is none.
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
            // What is not to be traced has no spans.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource)
            .with_span_processor(processor)
            .build();
        Ok(Self(provider))
    }

    /// What begins traces, of `ratio` of the calls whose callers say nothing.
    #[must_use]
    pub fn tracer(&self, ratio: f64) -> Tracer {
        Tracer::new(self.0.tracer("phone-identity"), ratio)
    }

    /// Sends what waits, for so long at most.
    pub async fn shut_down(self, bound: Duration) {
        let sending = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(bound));
        match timeout(bound, sending).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans were not sent"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last spans were not sent in time"),
        }
    }
}

/// Sends on the runtime, whatever thread asks for it: timers and connections are there. And says when it begins to fail
/// and when it is over, and not each time.
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
                Err(error) if !was_failing => tracing::warn!(%error, "spans are not sent, and are lost"),
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
