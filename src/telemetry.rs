//! Telemetry: structured logs, traces over OTLP, and the histograms of the metrics.

pub mod histogram;
pub mod logging;
pub mod otlp;
pub mod tracing;
