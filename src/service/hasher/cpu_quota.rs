//! Leaky-bucket pacing of the hashing threads under a quota of processor time.
//!
//! Thread priorities do not help under a quota: once a control group has used its quota, the kernel stops all of its
//! threads until the next period, including those that check sessions. Hashing therefore leaves the rest of the process
//! the time that it needs. Two accounts record processor time, and a thread may start a job while at least one of them
//! is not overdrawn:
//!
//! - **spare**: its income is nearly the whole quota, and everything that the process uses is charged, hashing
//!   included;
//! - **share**: its income is a quarter of the quota, and only hashing is charged, so that sign-ins continue while
//!   everything else is busy.
//!
//! Hashing therefore gets what the rest of the process leaves over, and at least a quarter of the quota. Both accounts
//! forget anything older than one period of the quota.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Part of the quota that the whole process may use before hashing waits.
const USABLE: f64 = 0.95;

/// Part of the quota that hashing may always use.
const MIN_SHARE: f64 = 0.25;

/// Memory of the accounts in seconds: the usual period of a quota.
const MEMORY: f64 = 0.1;

/// Maximum savings of an account in seconds of income. The value is small because the kernel carries nothing over from
/// one period to the next.
const SAVINGS: f64 = 0.01;

/// Minimum and maximum time between two reads of the accounts.
const READ_INTERVAL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// Maximum wait of a job here. A quota that is too small for the cost of a hash must not stop all sign-ins.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// Reading of the clocks.
#[derive(Clone, Copy, Debug)]
struct CpuReading {
    /// Time since the creation of the quota.
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

    /// Returns the wait before the next job. Zero: the job may start.
    fn wait(&mut self, now: CpuReading) -> Duration {
        let passed = now.at.saturating_sub(self.last.at).as_secs_f64();
        let used = now.process.saturating_sub(self.last.process).as_secs_f64();
        self.last = now;
        let (spare_income, share_income) = (self.quota * USABLE, self.quota * MIN_SHARE);
        self.spare =
            (self.spare + spare_income * passed - used).clamp(-self.quota * MEMORY, spare_income * SAVINGS);
        self.share = (self.share + share_income * passed).min(share_income * SAVINGS);
        let missing = f64::min(-self.spare / spare_income, -self.share / share_income);
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        let missing = Duration::try_from_secs_f64(missing).unwrap_or(READ_INTERVAL.1);
        missing.clamp(READ_INTERVAL.0, READ_INTERVAL.1)
    }

    /// Charges the processor time of a job.
    fn charge(&mut self, used: Duration) {
        let used = used.as_secs_f64();
        // The account forgets older debts, but keeps the debt of this job.
        let floor = f64::min(-used, -self.quota * MIN_SHARE * MEMORY);
        self.share = (self.share - used).max(floor);
    }
}

/// Delays the hashing jobs so that they stay within the quota.
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

    /// Waits until a job may start.
    #[expect(clippy::disallowed_methods, reason = "not a worker of the runtime")]
    pub(super) fn wait(&self) {
        let until = Instant::now() + MAX_WAIT;
        while Instant::now() < until {
            let now = read(self.begin);
            match self.lock().wait(now) {
                Duration::ZERO => return,
                wait => thread::sleep(wait),
            }
        }
    }

    /// Charges the processor time of a job.
    pub(super) fn charge(&self, used: Duration) {
        self.lock().charge(used);
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> std::sync::MutexGuard<'_, QuotaAccount> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a job and also returns the processor time that this thread used for it.
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
    /// and returns the number of cores that hashing used. Reads no real clock.
    fn hashing_under(quota: f64, rest: f64, threads: usize, job: f64) -> f64 {
        const STEP: f64 = 0.000_5;
        let seconds = Duration::from_secs_f64;
        let reading = |at: f64, process: f64| CpuReading {
            at: seconds(at),
            process: seconds(process),
        };
        let mut accounts = QuotaAccount::new(quota, reading(0.0, 0.0));
        // Remaining time of each thread's job.
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
    fn hashing_gets_the_time_that_the_rest_of_the_process_leaves() {
        assert_near(hashing_under(1.0, 0.0, 2, 0.007), 0.95);
        assert_near(hashing_under(1.0, 0.4, 2, 0.007), 0.55);
        assert_near(hashing_under(4.0, 1.0, 8, 0.007), 2.8);
        assert_near(hashing_under(0.5, 0.1, 1, 0.05), 0.375);
        // There are fewer threads than quota, so no job is delayed.
        assert_near(hashing_under(4.0, 0.5, 2, 0.007), 2.0);
    }

    #[test]
    fn hashing_always_gets_a_quarter_of_the_quota() {
        for (quota, threads, job) in [(1.0, 2, 0.007), (2.0, 2, 0.007), (1.0, 1, 0.1)] {
            assert_near(hashing_under(quota, quota, threads, job), quota / 4.0);
            assert_near(hashing_under(quota, quota * 2.0, threads, job), quota / 4.0);
        }
    }

    #[test]
    fn the_accounts_forget_what_is_older_than_a_period() {
        let reading = |at, process| CpuReading {
            at: Duration::from_millis(at),
            process: Duration::from_millis(process),
        };
        let mut accounts = QuotaAccount::new(1.0, reading(0, 0));
        // An idle hour saves up almost nothing.
        assert!(accounts.wait(reading(3_600_000, 0)).is_zero());
        accounts.charge(Duration::from_millis(20));
        assert!(!accounts.wait(reading(3_600_001, 20)).is_zero());
        // After a minute of overuse, slightly more than one period pays the debt off.
        assert!(accounts.wait(reading(3_660_000, 120_000)).is_zero(), "the share");
        accounts.charge(Duration::from_millis(20));
        assert!(!accounts.wait(reading(3_660_060, 120_000)).is_zero());
        assert!(accounts.wait(reading(3_660_120, 120_000)).is_zero());
    }

    #[test]
    fn the_wait_stays_between_its_minimum_and_maximum() {
        let reading = |process| CpuReading {
            at: Duration::ZERO,
            process: Duration::from_secs(process),
        };
        for quota in [0.001, 1.0, 1000.0] {
            let mut accounts = QuotaAccount::new(quota, reading(0));
            accounts.charge(Duration::from_secs(1));
            let wait = accounts.wait(reading(10_000));
            assert!((READ_INTERVAL.0..=READ_INTERVAL.1).contains(&wait), "{wait:?}");
        }
    }
}
