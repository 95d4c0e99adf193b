//! Metrics of session checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Counters. Each check costs one atomic addition.
#[derive(Debug, Default)]
// Aligned to a cache line of its own: otherwise every check would invalidate, on other cores, data that all checks
// read.
#[repr(align(128))]
pub struct Metrics {
    hits: AtomicU64,
    misses: AtomicU64,
    strong: AtomicU64,
    rare: Arc<RareCounters>,
}

/// Values that most checks do not change.
#[derive(Debug)]
pub(in crate::service) struct RareCounters {
    pub(in crate::service) change_log_failures: AtomicU64,
    pub(in crate::service) evictions: AtomicU64,
    /// [`UNKNOWN`] until the first count.
    alive: AtomicU64,
    /// Time since boot, in nanoseconds, at which the last complete reading of the change log began.
    read_at: AtomicU64,
    accepts_writes: AtomicBool,
}

const UNKNOWN: u64 = u64::MAX;

impl Default for RareCounters {
    fn default() -> Self {
        Self {
            change_log_failures: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            alive: AtomicU64::new(UNKNOWN),
            read_at: AtomicU64::new(0),
            accepts_writes: AtomicBool::new(true),
        }
    }
}

impl RareCounters {
    /// Sets the number of live sessions.
    pub(in crate::service) fn set_alive(&self, sessions: u64) {
        self.alive.store(sessions, Ordering::Relaxed);
    }

    /// Sets the time since boot at which a complete reading of the change log began.
    pub(in crate::service) fn set_read_at(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.read_at.store(nanoseconds, Ordering::Relaxed);
    }

    /// Sets whether the database accepts writes.
    pub(in crate::service) fn set_accepts_writes(&self, accepted: bool) {
        self.accepts_writes.store(accepted, Ordering::Relaxed);
    }

    /// Whether the database accepted the last write probe.
    pub(in crate::service) fn accepts_writes(&self) -> bool {
        self.accepts_writes.load(Ordering::Relaxed)
    }
}

/// Snapshot of the counters.
#[derive(Clone, Copy, Debug)]
pub struct SessionSnapshot {
    /// Checks that the cache answered.
    pub hits: u64,
    /// Checks that the cache could not answer, although it was permitted.
    pub misses: u64,
    /// Checks that required the database.
    pub strong: u64,
    /// Sessions that the cache evicted.
    pub evictions: u64,
    /// Live sessions at the last pass of the housekeeping. `None`: no pass has completed.
    pub alive: Option<u64>,
    /// Failed readings of the change log.
    pub change_log_failures: u64,
    /// Cached sessions.
    pub cached: usize,
    /// Age of the knowledge of all changes.
    pub change_log_lag: Duration,
    /// Time since the change log was last read to its end.
    pub change_log_read: Duration,
    /// Whether the database accepted the last write probe.
    pub accepts_writes: bool,
}

impl SessionSnapshot {
    /// Returns whether the database answers and accepts writes. `max_age`: maximum time since the last complete reading
    /// of the change log.
    #[must_use]
    pub fn is_database_up(&self, max_age: Duration) -> bool {
        self.change_log_read <= max_age && self.accepts_writes
    }
}

impl SessionSnapshot {
    /// Numbers of hits, misses and strong checks since an earlier snapshot.
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

    pub(super) fn rare(&self) -> &Arc<RareCounters> {
        &self.rare
    }

    /// `now` and `known_until` are times since boot.
    pub(super) fn snapshot(&self, cached: usize, known_until: Duration, now: Duration) -> SessionSnapshot {
        let rare = &self.rare;
        let read_at = Duration::from_nanos(rare.read_at.load(Ordering::Relaxed));
        let alive = rare.alive.load(Ordering::Relaxed);
        SessionSnapshot {
            evictions: rare.evictions.load(Ordering::Relaxed),
            alive: (alive != UNKNOWN).then_some(alive),
            change_log_failures: rare.change_log_failures.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            strong: self.strong.load(Ordering::Relaxed),
            cached,
            change_log_lag: now.saturating_sub(known_until),
            change_log_read: now.saturating_sub(read_at),
            accepts_writes: rare.accepts_writes(),
        }
    }
}
