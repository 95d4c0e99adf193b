//! Adaptive queue capacity: about one second of work at the recent cost of a job.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Amount of work that may wait.
const QUEUED_WORK: Duration = Duration::from_secs(1);

/// Minimum and maximum number of waiting jobs per thread.
const JOBS_PER_THREAD: std::ops::RangeInclusive<u128> = 8..=4096;

/// Inverse weight of the newest job in the moving average.
const WEIGHT: u64 = 16;

/// Maximum slowdown that counts. A job takes longer under load than at the start, when nothing else ran: other threads
/// of the program and of the machine need the processor and the memory too. A job that takes more than twice as long is
/// kept from the processor, and a shorter queue would not help it.
const MAX_SLOWDOWN: u64 = 2;

/// Tracks the duration of jobs.
pub(super) struct QueueCapacity {
    threads: usize,
    /// In nanoseconds.
    at_start: u64,
    /// In nanoseconds.
    average: AtomicU64,
}

impl QueueCapacity {
    /// `hash_time` is the duration of a job when nothing else runs.
    pub(super) fn new(threads: usize, hash_time: Duration) -> Self {
        let at_start = nanoseconds(hash_time);
        Self {
            threads,
            at_start,
            average: AtomicU64::new(at_start),
        }
    }

    /// Maximum number of waiting jobs.
    pub(super) fn jobs(&self) -> usize {
        let average = u128::from(self.average.load(Ordering::Relaxed)).max(1);
        let jobs = QUEUED_WORK.as_nanos().div_ceil(average);
        let jobs = jobs.clamp(*JOBS_PER_THREAD.start(), *JOBS_PER_THREAD.end());
        self.threads * usize::try_from(jobs).unwrap_or(usize::MAX)
    }

    /// Records the duration of a job.
    pub(super) fn record(&self, time: Duration) {
        let time = nanoseconds(time).clamp(
            self.at_start / MAX_SLOWDOWN,
            self.at_start.saturating_mul(MAX_SLOWDOWN),
        );
        let next = |average: u64| Some(average - average / WEIGHT + time / WEIGHT);
        // The function always returns a value, so the update cannot fail.
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
    fn the_queue_holds_a_second_of_work_at_the_recent_cost() {
        let millis = Duration::from_millis;
        for (took, jobs) in [
            (millis(10), 200),
            (millis(15), 134),
            (millis(8), 250),
            // Jobs that are kept from the processor, and jobs that are quicker than at the start.
            (Duration::from_secs(3600), 100),
            (Duration::ZERO, 400),
        ] {
            let capacity = QueueCapacity::new(2, millis(10));
            assert_eq!(capacity.jobs(), 200);
            for _ in 0..500 {
                capacity.record(took);
            }
            assert!(
                capacity.jobs().abs_diff(jobs) <= 1,
                "{took:?}: {}",
                capacity.jobs()
            );
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
