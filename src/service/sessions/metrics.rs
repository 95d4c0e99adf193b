//! What the check engine counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters. Each is one atomic addition a check.
#[derive(Debug, Default)]
// On a cache line of its own: else every check would take from the other cores what all checks read.
#[repr(align(128))]
pub struct Metrics {
    hits: AtomicU64,
    misses: AtomicU64,
    strong: AtomicU64,
}

/// What the counters say.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// Checks that were answered from memory.
    pub hits: u64,
    /// Checks that were not, though they might have been.
    pub misses: u64,
    /// Checks that asked for the database.
    pub strong: u64,
    /// Sessions in memory.
    pub cached: usize,
    /// How long ago all changes were known.
    pub change_log_lag: Duration,
}

impl Snapshot {
    /// How many hits, misses and strong checks there were since an earlier one.
    pub(super) fn since(&self, earlier: &Self) -> (u64, u64, u64) {
        (
            self.hits - earlier.hits,
            self.misses - earlier.misses,
            self.strong - earlier.strong,
        )
    }
}

impl Metrics {
    pub(super) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn strong(&self) {
        self.strong.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self, cached: usize, change_log_lag: Duration) -> Snapshot {
        Snapshot {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            strong: self.strong.load(Ordering::Relaxed),
            cached,
            change_log_lag,
        }
    }
}
