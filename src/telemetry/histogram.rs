//! Lock-free histogram of durations with fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts of durations per bucket. They only increase.
#[derive(Debug)]
pub struct Histogram {
    /// Inclusive upper bounds of the buckets, in microseconds. One more bucket counts longer durations.
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    microseconds: AtomicU64,
}

/// A snapshot of a [`Histogram`]. The values are read one after the other, so the sum may include durations that no
/// bucket counts yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Times {
    /// Inclusive upper bounds of the buckets, in microseconds.
    pub bounds: &'static [u64],
    /// Number of durations in each bucket, and in one more for longer ones. The counts are not cumulative.
    pub counts: Vec<u64>,
    /// Sum of all durations, in microseconds.
    pub microseconds: u64,
}

impl Histogram {
    /// Returns an empty histogram. `bounds` are ascending, in microseconds.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            microseconds: AtomicU64::new(0),
        }
    }

    /// Counts a duration.
    pub fn note(&self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|bound| *bound < microseconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// Returns a snapshot of the counts.
    #[must_use]
    pub fn times(&self) -> Times {
        Times {
            bounds: self.bounds,
            counts: self
                .counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect(),
            microseconds: self.microseconds.load(Ordering::Relaxed),
        }
    }
}

impl Times {
    /// Adds the counts of another histogram with the same bounds.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.microseconds += other.microseconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_with_a_sufficient_bound() {
        let histogram = Histogram::new(&[100, 1_000]);
        for microseconds in [0, 100, 101, 1_000, 1_001, 3_600_000_000] {
            histogram.note(Duration::from_micros(microseconds));
        }
        let mut times = histogram.times();
        assert_eq!(times.counts, [2, 2, 2]);
        assert_eq!(times.microseconds, 3_600_002_202);
        times.add(&histogram.times());
        assert_eq!(times.counts, [4, 4, 4]);
    }
}
