//! Lock-free counters and histograms of the hashing threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::telemetry::histogram::{Histogram, Times};

/// Inclusive upper bounds of the wait buckets in microseconds. Longer waits fall into one more bucket.
pub const WAIT_BOUNDS_MICROSECONDS: [u64; 13] = [
    100, 500, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000,
];

/// Inclusive upper bounds of the hash buckets in microseconds.
const HASH_BOUNDS_MICROSECONDS: [u64; 11] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
];

/// The counters. They never decrease.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) completed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) displaced: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) rescued: AtomicU64,
    pub(super) relieved: AtomicU64,
    is_relieved: AtomicBool,
    waits: Histogram,
    hashes: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            completed: AtomicU64::default(),
            refused: AtomicU64::default(),
            displaced: AtomicU64::default(),
            dropped: AtomicU64::default(),
            rescued: AtomicU64::default(),
            relieved: AtomicU64::default(),
            is_relieved: AtomicBool::default(),
            waits: Histogram::new(&WAIT_BOUNDS_MICROSECONDS),
            hashes: Histogram::new(&HASH_BOUNDS_MICROSECONDS),
        }
    }
}

/// Snapshot of the queue and of all counters. The values are read one after the other and may differ by concurrent
/// changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HasherSnapshot {
    /// Number of waiting jobs.
    pub depth: usize,
    /// Maximum number of waiting jobs.
    pub limit: usize,
    /// Number of passwords that were hashed or checked.
    pub completed: u64,
    /// Number of flows with waiting jobs.
    pub flows: usize,
    /// Number of jobs that a thread has taken and not finished.
    pub running: usize,
    /// Number of calls that were refused because the queue was full and no other flow was longer.
    pub refused: u64,
    /// Number of jobs that a full queue dropped for a job of a shorter flow.
    pub displaced: u64,
    /// Number of jobs that were dropped before hashing because their caller had gone away.
    pub dropped: u64,
    /// Number of jobs that the rescue thread took because they had waited too long.
    pub rescued: u64,
    /// Number of jobs that relief threads took while other processes starved the hashing threads.
    pub relieved: u64,
    /// Whether the relief threads take the jobs now.
    pub is_relieved: bool,
    /// Wait in the queue of the jobs that were taken.
    pub waits: Times,
    /// Time to hash or check a password, without the wait.
    pub hashes: Times,
}

/// State of the queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QueueState {
    pub(super) depth: usize,
    pub(super) limit: usize,
    pub(super) flows: usize,
    pub(super) running: usize,
}

impl Metrics {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Release);
    }

    pub(super) fn set_relieved(&self, is_relieved: bool) {
        self.is_relieved.store(is_relieved, Ordering::Relaxed);
    }

    pub(super) fn waited(&self, time: Duration) {
        self.waits.note(time);
    }

    pub(super) fn hashed(&self, time: Duration) {
        self.hashes.note(time);
    }

    pub(super) fn snapshot(&self, queue: QueueState) -> HasherSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        HasherSnapshot {
            depth: queue.depth,
            limit: queue.limit,
            flows: queue.flows,
            running: queue.running,
            completed: read(&self.completed),
            refused: read(&self.refused),
            displaced: read(&self.displaced),
            dropped: read(&self.dropped),
            rescued: read(&self.rescued),
            relieved: read(&self.relieved),
            is_relieved: self.is_relieved.load(Ordering::Relaxed),
            waits: self.waits.times(),
            hashes: self.hashes.times(),
        }
    }
}
