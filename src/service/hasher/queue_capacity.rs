//! How many passwords may wait by default: about a second of work, by how long a job takes lately.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How much work may wait.
const QUEUED_WORK: Duration = Duration::from_secs(1);

/// The least and the most jobs that may wait for each thread.
const JOBS_PER_THREAD: std::ops::RangeInclusive<u128> = 8..=4096;

/// A job counts for so much of the average, and the older ones for the rest.
const WEIGHT: u64 = 16;

/// A job takes longer under load than at the start, when nothing else ran: other threads of the program, and of the
/// machine, want the processor and the memory too. But what takes more than twice as long is kept from the processor; a
/// short queue would not help it.
const SLOWER: u64 = 2;

/// Follows how long jobs take.
pub(super) struct QueueCapacity {
    threads: usize,
    /// In nanoseconds.
    at_start: u64,
    /// In nanoseconds.
    average: AtomicU64,
}

impl QueueCapacity {
    /// `hash_time` is how long a job takes when nothing else runs.
    pub(super) fn new(threads: usize, hash_time: Duration) -> Self {
        let at_start = nanoseconds(hash_time);
        Self {
            threads,
            at_start,
            average: AtomicU64::new(at_start),
        }
    }

    /// How many jobs may wait.
    pub(super) fn jobs(&self) -> usize {
        let average = u128::from(self.average.load(Ordering::Relaxed)).max(1);
        let jobs = QUEUED_WORK.as_nanos().div_ceil(average);
        let jobs = jobs.clamp(*JOBS_PER_THREAD.start(), *JOBS_PER_THREAD.end());
        self.threads * usize::try_from(jobs).unwrap_or(usize::MAX)
    }

    /// A job took so long.
    pub(super) fn took(&self, time: Duration) {
        let time = nanoseconds(time).clamp(self.at_start / SLOWER, self.at_start.saturating_mul(SLOWER));
        let next = |average: u64| Some(average - average / WEIGHT + time / WEIGHT);
        // It always has a next one.
        let _ = self
            .average
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_holds_a_second_of_work_by_what_jobs_take_lately() {
        let millis = Duration::from_millis;
        for (took, jobs) in [
            (millis(10), 200),
            (millis(15), 134),
            (millis(8), 250),
            // Kept from the processor, or quicker than at the start.
            (Duration::from_secs(3600), 100),
            (Duration::ZERO, 400),
        ] {
            let bound = QueueCapacity::new(2, millis(10));
            assert_eq!(bound.jobs(), 200);
            for _ in 0..500 {
                bound.took(took);
            }
            assert!(bound.jobs().abs_diff(jobs) <= 1, "{took:?}: {}", bound.jobs());
        }
    }

    #[test]
    fn a_thread_has_at_least_eight_jobs_and_at_most_4096() {
        for (hash_time, jobs) in [
            (Duration::from_secs(3600), 8),
            (Duration::MAX, 8),
            (Duration::from_micros(20), 4096),
            (Duration::ZERO, 4096),
        ] {
            assert_eq!(QueueCapacity::new(3, hash_time).jobs(), 3 * jobs, "{hash_time:?}");
        }
    }
}
