//! How fast the hashing threads may go under a quota of processor time.
//!
//! Priorities do not help there: when the quota of a control group is used up, the kernel stops all of its threads
//! until the next period, those that check sessions, too. So hashing leaves the rest of the process what it needs.
//! There are two accounts of processor time, and a thread may begin a job while one of them is not overdrawn:
//!
//! - **spare**: nearly all of the quota comes in, and all that the process uses goes out, hashing included;
//! - **share**: a quarter of the quota comes in, and what hashing uses goes out, so that logins go on while all else is
//!   busy.
//!
//! So hashing gets what the rest leaves over, and a quarter at least. Both accounts forget what is longer ago than a
//! period of the quota.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How much of the quota the whole process may use before hashing waits.
const USABLE: f64 = 0.95;

/// How much of the quota hashing may use in any case.
const LEAST_SHARE: f64 = 0.25;

/// How many seconds the accounts remember a use: the usual period of a quota.
const MEMORY: f64 = 0.1;

/// How many seconds of income an account may save up. Little, since the kernel saves nothing from one period to the
/// next.
const SAVINGS: f64 = 0.01;

/// The shortest and longest time between two looks at the accounts.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// The longest that a job waits here: a quota that is too small for the cost of a hash must not stop all sign-ins.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// What the clocks say.
#[derive(Clone, Copy, Debug)]
struct CpuReading {
    /// Time since some beginning.
    at: Duration,
    /// Processor time that the process has used.
    process: Duration,
}

/// The two accounts, in seconds of processor time.
#[derive(Debug)]
struct QuotaAccount {
    /// The quota in cores.
    quota: f64,
    last: CpuReading,
    spare: f64,
    share: f64,
}

impl QuotaAccount {
    fn new(quota: f64, now: CpuReading) -> Self {
        Self {
            quota,
            last: now,
            spare: 0.0,
            share: 0.0,
        }
    }

    /// How long to wait before the next job. Zero: it may begin.
    fn wait(&mut self, now: CpuReading) -> Duration {
        let passed = now.at.saturating_sub(self.last.at).as_secs_f64();
        let used = now.process.saturating_sub(self.last.process).as_secs_f64();
        self.last = now;
        let (spare_income, share_income) = (self.quota * USABLE, self.quota * LEAST_SHARE);
        self.spare =
            (self.spare + spare_income * passed - used).clamp(-self.quota * MEMORY, spare_income * SAVINGS);
        self.share = (self.share + share_income * passed).min(share_income * SAVINGS);
        let missing = f64::min(-self.spare / spare_income, -self.share / share_income);
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        let missing = Duration::try_from_secs_f64(missing).unwrap_or(LOOK_AGAIN.1);
        missing.clamp(LOOK_AGAIN.0, LOOK_AGAIN.1)
    }

    /// A job has used so much.
    fn charge(&mut self, used: Duration) {
        let used = used.as_secs_f64();
        // What is longer ago is forgotten, but for the job itself.
        let floor = f64::min(-used, -self.quota * LEAST_SHARE * MEMORY);
        self.share = (self.share - used).max(floor);
    }
}

/// Lets the hashing threads begin jobs no faster than a quota allows.
pub(super) struct CpuQuota {
    accounts: Mutex<QuotaAccount>,
    begin: Instant,
}

impl CpuQuota {
    /// `quota` is in cores, and above 0.
    pub(super) fn new(quota: f64) -> Self {
        let begin = Instant::now();
        Self {
            accounts: Mutex::new(QuotaAccount::new(quota, read(begin))),
            begin,
        }
    }

    /// Waits until a job may begin.
    #[expect(clippy::disallowed_methods, reason = "not a worker of the runtime")]
    pub(super) fn wait(&self) {
        let until = Instant::now() + LONGEST_WAIT;
        while Instant::now() < until {
            let now = read(self.begin);
            match self.lock().wait(now) {
                Duration::ZERO => return,
                wait => thread::sleep(wait),
            }
        }
    }

    /// Counts the processor time that a job used.
    pub(super) fn charge(&self, used: Duration) {
        self.lock().charge(used);
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> std::sync::MutexGuard<'_, QuotaAccount> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does a job, and returns the processor time that this thread used for it, too.
pub(super) fn measured<T>(job: impl FnOnce() -> T) -> (T, Duration) {
    let before = cpu_time(ClockId::ThreadCPUTime);
    let outcome = job();
    let used = cpu_time(ClockId::ThreadCPUTime).saturating_sub(before);
    (outcome, used)
}

fn read(begin: Instant) -> CpuReading {
    CpuReading {
        at: begin.elapsed(),
        process: cpu_time(ClockId::ProcessCPUTime),
    }
}

/// Processor time of this thread or process.
pub(super) fn cpu_time(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs ten seconds of jobs of `job` seconds on `threads` threads, while the rest of the process uses `rest` cores,
    /// and gives how many cores hashing used. No real clock is read.
    fn hashing_under(quota: f64, rest: f64, threads: usize, job: f64) -> f64 {
        const STEP: f64 = 0.000_5;
        let seconds = Duration::from_secs_f64;
        let reading = |at: f64, process: f64| CpuReading {
            at: seconds(at),
            process: seconds(process),
        };
        let mut accounts = QuotaAccount::new(quota, reading(0.0, 0.0));
        // What each thread still has to do of its job.
        let mut left = vec![0.0_f64; threads];
        let (mut hashing, mut now) = (0.0, 0.0);
        while now < 10.0 {
            for left in &mut left {
                if *left <= 0.0 && accounts.wait(reading(now, hashing + rest * now)).is_zero() {
                    *left = job;
                }
                if *left > 0.0 {
                    *left -= STEP;
                    hashing += STEP;
                    if *left <= 0.0 {
                        accounts.charge(seconds(job));
                    }
                }
            }
            now += STEP;
        }
        hashing / now
    }

    fn assert_near(actual: f64, expected: f64) {
        assert!(
            (actual - expected).abs() < 0.06 * expected,
            "{actual} and not {expected}"
        );
    }

    #[test]
    fn hashing_gets_what_the_rest_leaves() {
        assert_near(hashing_under(1.0, 0.0, 2, 0.007), 0.95);
        assert_near(hashing_under(1.0, 0.4, 2, 0.007), 0.55);
        assert_near(hashing_under(4.0, 1.0, 8, 0.007), 2.8);
        assert_near(hashing_under(0.5, 0.1, 1, 0.05), 0.375);
        // Fewer threads than there is quota: nothing to slow down.
        assert_near(hashing_under(4.0, 0.5, 2, 0.007), 2.0);
    }

    #[test]
    fn hashing_gets_a_quarter_in_any_case() {
        for (quota, threads, job) in [(1.0, 2, 0.007), (2.0, 2, 0.007), (1.0, 1, 0.1)] {
            assert_near(hashing_under(quota, quota, threads, job), quota / 4.0);
            assert_near(hashing_under(quota, quota * 2.0, threads, job), quota / 4.0);
        }
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let reading = |at, process| CpuReading {
            at: Duration::from_millis(at),
            process: Duration::from_millis(process),
        };
        let mut accounts = QuotaAccount::new(1.0, reading(0, 0));
        // An hour of nothing saves up next to nothing.
        assert!(accounts.wait(reading(3_600_000, 0)).is_zero());
        accounts.charge(Duration::from_millis(20));
        assert!(!accounts.wait(reading(3_600_001, 20)).is_zero());
        // After a minute of too much, a little more than a period pays it off.
        assert!(accounts.wait(reading(3_660_000, 120_000)).is_zero(), "the share");
        accounts.charge(Duration::from_millis(20));
        assert!(!accounts.wait(reading(3_660_060, 120_000)).is_zero());
        assert!(accounts.wait(reading(3_660_120, 120_000)).is_zero());
    }

    #[test]
    fn the_next_look_is_neither_at_once_nor_far_away() {
        let reading = |process| CpuReading {
            at: Duration::ZERO,
            process: Duration::from_secs(process),
        };
        for quota in [0.001, 1.0, 1000.0] {
            let mut accounts = QuotaAccount::new(quota, reading(0));
            accounts.charge(Duration::from_secs(1));
            let wait = accounts.wait(reading(10_000));
            assert!((LOOK_AGAIN.0..=LOOK_AGAIN.1).contains(&wait), "{wait:?}");
        }
    }
}
