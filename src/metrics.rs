//! Metrics in the text format of Prometheus, and what serves them.
//!
//! Whatever counts keeps its counters itself: the check engine, the hashing threads, the pools of connections and the
//! gRPC side. [`FAMILIES`] says what each is called here, what it means and where it is read, and is the only such
//! list. A scrape reads what is in memory, and never asks the database.

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

/// What kind of metrics a family has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
    /// Is always 1, and says something by its labels.
    Info,
}

impl MetricKind {
    /// As the text format calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Info => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Metrics of one name.
#[derive(Debug)]
pub struct Family {
    /// As it is scraped; of a histogram, without `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// What kind of metrics these are.
    pub kind: MetricKind,
    /// The names of the labels. What values they take is in the help.
    pub labels: &'static [&'static str],
    /// What it means, in one sentence.
    pub help: &'static str,
    /// Reads it. Nothing while it is not known.
    read: fn(&Scrape<'_>) -> Vec<Sample>,
}

/// One metric: the values of the labels, and its own.
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

/// What is read for a scrape.
#[derive(Clone)]
pub struct Sources {
    /// The calls and connections.
    pub grpc: Arc<grpc::Metrics>,
    /// The hashing threads.
    pub hasher: Hasher,
    /// The check engine.
    pub sessions: Sessions,
    /// The sign-ins.
    pub accounts: Accounts,
    /// One-time codes.
    pub codes: Arc<codes::Metrics>,
    /// Messages that are sent.
    pub outbox: Arc<outbox::Metrics>,
    /// The pools of connections.
    pub store: Store,
    /// How long the reader of the change log may be late before the database is said not to answer.
    pub patience: Duration,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// What was read for one scrape: each source once.
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
            database_is_up: sessions.is_database_up(self.patience),
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

    /// All metrics in the text format. Reads files of `/proc`, so it is not to be called where nothing may wait.
    ///
    /// # Errors
    /// Never, as long as there is memory.
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
            // The encoder adds these.
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
