//! What can be counted about the hashing threads, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets of waits, in microseconds, each included. What waited longer is in one more bucket.
pub const WAIT_BOUNDS_MICROSECONDS: [u64; 13] = [
    100, 500, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000,
];

const BUCKETS: usize = WAIT_BOUNDS_MICROSECONDS.len() + 1;

/// The counters. They only grow.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) completed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) rescued: AtomicU64,
    waits: [AtomicU64; BUCKETS],
    wait_microseconds: AtomicU64,
}

/// The state of the queue and of all counters. Read one after the other, so they may differ by what happens meanwhile.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// How many jobs wait now.
    pub depth: usize,
    /// How many passwords were hashed or checked.
    pub completed: u64,
    /// How many calls were refused since the queue was full.
    pub refused: u64,
    /// How many jobs were dropped before they were hashed, since their caller had gone.
    pub dropped: u64,
    /// How many jobs were taken by the thread of ordinary priority, since they had waited for too long.
    pub rescued: u64,
    /// How many of the jobs that were taken had waited how long: a count for each of [`WAIT_BOUNDS_MICROSECONDS`] and one
    /// for all beyond. They are not cumulative.
    pub waits: [u64; BUCKETS],
    /// How long all of them together had waited, in microseconds.
    pub wait_microseconds: u64,
}

impl Metrics {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Release);
    }

    pub(super) fn waited(&self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = WAIT_BOUNDS_MICROSECONDS.partition_point(|bound| *bound < microseconds);
        self.waits[bucket].fetch_add(1, Ordering::Relaxed);
        self.wait_microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self, depth: usize) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        Snapshot {
            depth,
            completed: read(&self.completed),
            refused: read(&self.refused),
            dropped: read(&self.dropped),
            rescued: read(&self.rescued),
            waits: std::array::from_fn(|bucket| read(&self.waits[bucket])),
            wait_microseconds: read(&self.wait_microseconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_counted_in_the_first_bucket_that_holds_it() {
        let metrics = Metrics::default();
        for microseconds in [0, 100, 101, 5_000_000, 5_000_001, 3_600_000_000] {
            metrics.waited(Duration::from_micros(microseconds));
        }
        let snapshot = metrics.snapshot(7);
        assert_eq!(snapshot.depth, 7);
        let mut expected = [0; BUCKETS];
        (expected[0], expected[1], expected[12], expected[13]) = (2, 1, 1, 2);
        assert_eq!(snapshot.waits, expected);
        assert_eq!(snapshot.wait_microseconds, 3_610_000_202);
    }
}
