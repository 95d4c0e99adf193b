//! Counting how long things take, in buckets and without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Times that were counted. They only grow.
#[derive(Debug)]
pub struct Histogram {
    /// The upper bounds of the buckets, in microseconds, each included. What is longer is in one more bucket.
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    microseconds: AtomicU64,
}

/// What a [`Histogram`] says. Read one after the other, so the sum may be of some times that are in no bucket yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Times {
    /// The upper bounds of the buckets, in microseconds, each included.
    pub bounds: &'static [u64],
    /// How many are in each bucket, and in one more for what is longer. They are not cumulative.
    pub counts: Vec<u64>,
    /// How long all of them together are.
    pub microseconds: u64,
}

impl Histogram {
    /// Without anything in it. The bounds are in microseconds and ascend.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            microseconds: AtomicU64::new(0),
        }
    }

    /// Counts a time.
    pub fn note(&self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|bound| *bound < microseconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// What was counted up to now.
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
    /// Adds those of another histogram with the same bounds.
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
    fn a_time_is_counted_in_the_first_bucket_that_holds_it() {
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
