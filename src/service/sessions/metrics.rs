//! What the check engine counts.

use std::sync::Arc;
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
    seldom: Arc<Seldom>,
}

/// What is not counted with every check.
#[derive(Debug)]
pub(super) struct Seldom {
    pub(super) change_log_failures: AtomicU64,
    pub(super) evictions: AtomicU64,
    /// [`UNKNOWN`] until they were counted.
    alive: AtomicU64,
}

const UNKNOWN: u64 = u64::MAX;

impl Default for Seldom {
    fn default() -> Self {
        Self {
            change_log_failures: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            alive: AtomicU64::new(UNKNOWN),
        }
    }
}

impl Seldom {
    /// Notes how many sessions are alive.
    pub(super) fn set_alive(&self, sessions: u64) {
        self.alive.store(sessions, Ordering::Relaxed);
    }
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
    /// Sessions that made room in memory for others.
    pub evictions: u64,
    /// Sessions that were alive when all of them were last looked at. `None`: that has not been yet.
    pub alive: Option<u64>,
    /// How often the change log could not be read.
    pub change_log_failures: u64,
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

    pub(super) fn seldom(&self) -> &Arc<Seldom> {
        &self.seldom
    }

    pub(super) fn snapshot(&self, cached: usize, change_log_lag: Duration) -> Snapshot {
        let seldom = &self.seldom;
        let alive = seldom.alive.load(Ordering::Relaxed);
        Snapshot {
            evictions: seldom.evictions.load(Ordering::Relaxed),
            alive: (alive != UNKNOWN).then_some(alive),
            change_log_failures: seldom.change_log_failures.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            strong: self.strong.load(Ordering::Relaxed),
            cached,
            change_log_lag,
        }
    }
}
