//! What the check engine counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Counters. Each is one atomic addition a check.
#[derive(Debug, Default)]
// On a cache line of its own: else every check would take from the other cores what all checks read.
#[repr(align(128))]
pub struct Metrics {
    hits: AtomicU64,
    misses: AtomicU64,
    strong: AtomicU64,
    seldom: Arc<RareCounters>,
}

/// What is not counted with every check.
#[derive(Debug)]
pub(in crate::service) struct RareCounters {
    pub(in crate::service) change_log_failures: AtomicU64,
    pub(in crate::service) evictions: AtomicU64,
    /// [`UNKNOWN`] until they were counted.
    alive: AtomicU64,
    /// The time since boot, in nanoseconds, at which the last complete reading of the change log began.
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
    /// Notes how many sessions are alive.
    pub(in crate::service) fn set_alive(&self, sessions: u64) {
        self.alive.store(sessions, Ordering::Relaxed);
    }

    /// Notes when a complete reading of the change log began, by the time since boot.
    pub(in crate::service) fn set_read_at(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.read_at.store(nanoseconds, Ordering::Relaxed);
    }

    /// Notes whether the database accepts writes.
    pub(in crate::service) fn set_accepts_writes(&self, accepted: bool) {
        self.accepts_writes.store(accepted, Ordering::Relaxed);
    }

    /// Whether the database accepted the last write that was probed.
    pub(in crate::service) fn accepts_writes(&self) -> bool {
        self.accepts_writes.load(Ordering::Relaxed)
    }
}

/// What the counters say.
#[derive(Clone, Copy, Debug)]
pub struct SessionSnapshot {
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
    /// How long ago the change log was last read to its end.
    pub change_log_read: Duration,
    /// Whether the database accepted the last write that was probed.
    pub accepts_writes: bool,
}

impl SessionSnapshot {
    /// Whether the database answers and accepts writes. `patience`: how long ago the change log may have been read.
    #[must_use]
    pub fn is_database_up(&self, patience: Duration) -> bool {
        self.change_log_read <= patience && self.accepts_writes
    }
}

impl SessionSnapshot {
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

    pub(super) fn seldom(&self) -> &Arc<RareCounters> {
        &self.seldom
    }

    /// `now` and `known_until` are times since boot.
    pub(super) fn snapshot(&self, cached: usize, known_until: Duration, now: Duration) -> SessionSnapshot {
        let seldom = &self.seldom;
        let read_at = Duration::from_nanos(seldom.read_at.load(Ordering::Relaxed));
        let alive = seldom.alive.load(Ordering::Relaxed);
        SessionSnapshot {
            evictions: seldom.evictions.load(Ordering::Relaxed),
            alive: (alive != UNKNOWN).then_some(alive),
            change_log_failures: seldom.change_log_failures.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            strong: self.strong.load(Ordering::Relaxed),
            cached,
            change_log_lag: now.saturating_sub(known_until),
            change_log_read: now.saturating_sub(read_at),
            accepts_writes: seldom.accepts_writes(),
        }
    }
}
