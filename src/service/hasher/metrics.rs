//! What can be counted about the hashing threads, without a lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::telemetry::histogram::{Histogram, Times};

/// The upper bounds of the buckets of waits, in microseconds, each included. What waited longer is in one more bucket.
pub const WAIT_BOUNDS_MICROSECONDS: [u64; 13] = [
    100, 500, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000,
];

/// The upper bounds of the buckets of hashes, in microseconds, each included.
const HASH_BOUNDS_MICROSECONDS: [u64; 11] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
];

/// The counters. They only grow.
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

/// The state of the queue and of all counters. Read one after the other, so they may differ by what happens meanwhile.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HasherSnapshot {
    /// How many jobs wait now.
    pub depth: usize,
    /// How many may wait now.
    pub limit: usize,
    /// How many passwords were hashed or checked.
    pub completed: u64,
    /// Number of flows with waiting jobs.
    pub flows: usize,
    /// Number of jobs that were taken and are not done.
    pub running: usize,
    /// How many calls were refused since the queue was full and no other flow was longer.
    pub refused: u64,
    /// How many jobs made room for a job of a shorter flow, since the queue was full.
    pub displaced: u64,
    /// How many jobs were dropped before they were hashed, since their caller had gone.
    pub dropped: u64,
    /// How many jobs were taken by the thread of ordinary priority, since they had waited for too long.
    pub rescued: u64,
    /// How many jobs were taken by relief threads, since other processes starved the hashing threads.
    pub relieved: u64,
    /// Whether they take the jobs now.
    pub is_relieved: bool,
    /// How long the jobs that were taken had waited.
    pub waits: Times,
    /// How long it took to hash or check a password, without the wait.
    pub hashes: Times,
}

/// The state of the queue.
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
