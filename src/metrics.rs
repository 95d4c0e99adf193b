//! Prometheus exporter: metrics in the text format, and their HTTP listener.
//!
//! Each component keeps its own counters: session checks, the password hasher, the connection pools and the gRPC
//! server. [`FAMILIES`] is the only list of their names, help texts and sources. A scrape reads memory and `/proc`, and
//! never queries the database.

mod families;
mod listener;
mod process;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

pub use families::FAMILIES;
pub use listener::{Readiness, serve};

use crate::grpc;
use crate::service::accounts::Accounts;
use crate::service::codes;
use crate::service::hasher::{self, Hasher};
use crate::service::outbox;
use crate::service::sessions::{self, Sessions};
use crate::store::{self, Store};
use crate::telemetry::histogram::Times;
use process::Process;

/// Type of a metric family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricKind {
    /// Only increases.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
    /// A gauge that is always 1; its labels carry the information.
    Info,
}

impl MetricKind {
    /// Returns the type in the text format.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Info => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric family: all metrics of one name.
#[derive(Debug)]
pub struct Family {
    /// The name in a scrape; for a histogram, without `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// The type.
    pub kind: MetricKind,
    /// The names of the labels. The help lists their values.
    pub labels: &'static [&'static str],
    /// The help text. Its first sentence is the meaning, in at most 120 characters; the others list values of labels.
    pub help: &'static str,
    /// Reads the samples from a scrape. Empty: the value is not known.
    read: ReadSamples,
}

impl Family {
    const fn new(kind: MetricKind, name: &'static str, help: &'static str, read: ReadSamples) -> Self {
        let labels = &[];
        Self {
            name,
            kind,
            labels,
            help,
            read,
        }
    }

    const fn counter(name: &'static str, help: &'static str, read: ReadSamples) -> Self {
        Self::new(MetricKind::Counter, name, help, read)
    }

    const fn gauge(name: &'static str, help: &'static str, read: ReadSamples) -> Self {
        Self::new(MetricKind::Gauge, name, help, read)
    }

    const fn histogram(name: &'static str, help: &'static str, read: ReadSamples) -> Self {
        Self::new(MetricKind::Histogram, name, help, read)
    }

    const fn info(name: &'static str, help: &'static str, read: ReadSamples) -> Self {
        Self::new(MetricKind::Info, name, help, read)
    }

    const fn with_labels(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }

    /// Returns the first sentence of the help text, without a full stop.
    #[must_use]
    pub fn summary(&self) -> &'static str {
        self.help.split(". ").next().unwrap_or_default()
    }
}

/// Reads the samples of a family from a scrape.
type ReadSamples = fn(&Scrape<'_>) -> Vec<Sample>;

/// One metric: the values of its labels, and its own value.
#[derive(Debug)]
struct Sample {
    labels: Vec<String>,
    value: SampleValue,
}

#[derive(Debug)]
enum SampleValue {
    Count(u64),
    Number(f64),
    Times(Times),
}

/// Returns the only sample of a family without labels.
fn unlabelled(value: impl Into<SampleValue>) -> Vec<Sample> {
    vec![labelled([], value)]
}

fn labelled<const N: usize>(labels: [&str; N], value: impl Into<SampleValue>) -> Sample {
    Sample {
        labels: labels.map(str::to_owned).into(),
        value: value.into(),
    }
}

fn label_counts<const N: usize>(counts: &[([String; N], u64)]) -> Vec<Sample> {
    let samples = counts.iter().map(|(labels, count)| Sample {
        labels: labels.to_vec(),
        value: SampleValue::Count(*count),
    });
    samples.collect()
}

impl From<u64> for SampleValue {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<usize> for SampleValue {
    fn from(count: usize) -> Self {
        Self::Count(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

impl From<f64> for SampleValue {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<Duration> for SampleValue {
    fn from(time: Duration) -> Self {
        Self::Number(time.as_secs_f64())
    }
}

impl From<Times> for SampleValue {
    fn from(times: Times) -> Self {
        Self::Times(times)
    }
}

/// The sources of the metrics. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    /// Calls and connections.
    pub grpc: Arc<grpc::Metrics>,
    /// The password hasher.
    pub hasher: Hasher,
    /// Session checks and the change-log follower.
    pub sessions: Sessions,
    /// Sign-ins and audit events.
    pub accounts: Accounts,
    /// One-time codes.
    pub codes: Arc<codes::Metrics>,
    /// Messages of the outbox.
    pub outbox: Arc<outbox::Metrics>,
    /// The database connection pools.
    pub store: Store,
    /// Maximum age of the last change-log reading while the database counts as up.
    pub max_reading_age: Duration,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// The values of one scrape: each source is read once.
struct Scrape<'a> {
    calls: Vec<grpc::Calls<'a>>,
    connections: (usize, u64),
    hasher: hasher::HasherSnapshot,
    hash_threads: usize,
    sessions: sessions::SessionSnapshot,
    sign_ins: Vec<(&'static str, u64)>,
    /// Number of audit events, and their limit.
    audit_rows: Option<(u64, u64)>,
    codes: Vec<([String; 3], u64)>,
    messages: Vec<([String; 3], u64)>,
    sms_refusals: Vec<([String; 2], u64)>,
    backlog: Option<outbox::BacklogSize>,
    pools: Vec<(&'static str, store::PoolSnapshot)>,
    database_is_up: bool,
    process: Process,
}

impl Sources {
    fn read(&self) -> Scrape<'_> {
        let sessions = self.sessions.metrics();
        Scrape {
            calls: self.grpc.calls().collect(),
            connections: (self.grpc.open_connections(), self.grpc.refused_connections()),
            hasher: self.hasher.snapshot(),
            hash_threads: self.hasher.setup().threads,
            database_is_up: sessions.is_database_up(self.max_reading_age),
            sessions,
            sign_ins: self.accounts.sign_ins().into_iter().collect(),
            audit_rows: self.accounts.audit().rows_and_limit(),
            codes: self.codes.codes(),
            messages: self.outbox.messages(),
            sms_refusals: self.codes.refusals(),
            backlog: self.outbox.backlog(),
            pools: self.store.pools(),
            process: Process::read(),
        }
    }

    /// Returns all metrics in the text format. It blocks on files of `/proc`, so async code calls it on a blocking
    /// thread.
    ///
    /// # Errors
    /// When the text cannot be formatted, which does not happen.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Collector for Sources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let scrape = self.read();
        for family in FAMILIES {
            let samples = (family.read)(&scrape);
            // The encoder adds these suffixes.
            let name = family.name.trim_end_matches("_total").trim_end_matches("_info");
            let kind = match family.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
                MetricKind::Histogram => MetricType::Histogram,
                MetricKind::Info => MetricType::Info,
            };
            let mut metrics = encoder.encode_descriptor(name, family.help, None, kind)?;
            for Sample { labels, value } in samples {
                let labels: Vec<(&str, String)> = family.labels.iter().copied().zip(labels).collect();
                if family.kind == MetricKind::Info {
                    metrics.encode_info(&labels)?;
                } else if labels.is_empty() {
                    encode(&mut metrics, family.kind, &value)?;
                } else {
                    encode(&mut metrics.encode_family(&labels)?, family.kind, &value)?;
                }
            }
        }
        Ok(())
    }
}

fn encode(metric: &mut MetricEncoder<'_>, kind: MetricKind, value: &SampleValue) -> fmt::Result {
    match value {
        SampleValue::Count(count) if kind == MetricKind::Counter => {
            metric.encode_counter::<NoLabelSet, _, u64>(count, None)
        }
        SampleValue::Number(number) if kind == MetricKind::Counter => {
            metric.encode_counter::<NoLabelSet, _, u64>(number, None)
        }
        SampleValue::Count(count) => metric.encode_gauge(count),
        SampleValue::Number(number) => metric.encode_gauge(number),
        SampleValue::Times(times) => encode_times::<NoLabelSet>(metric, times),
    }
}

fn encode_times<S: EncodeLabelSet>(metric: &mut MetricEncoder<'_>, times: &Times) -> fmt::Result {
    let bounds = times.bounds.iter().map(|bound| seconds(*bound));
    let buckets: Vec<(f64, u64)> = bounds
        .chain([f64::INFINITY])
        .zip(times.counts.iter().copied())
        .collect();
    let count = times.counts.iter().sum();
    metric.encode_histogram::<S>(seconds(times.microseconds), count, &buckets, None)
}

fn seconds(microseconds: u64) -> f64 {
    Duration::from_micros(microseconds).as_secs_f64()
}
