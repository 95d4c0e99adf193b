//! Clock: the only source of time. Code that needs the time takes a [`Clock`], so that tests can control it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use rustix::time::{ClockId, clock_gettime};
use uuid::{NoContext, Uuid};

/// A point in time, UTC, in whole microseconds: the finest resolution that all supported databases store.
pub type Timestamp = DateTime<Utc>;

/// Maximum difference between the wall clocks of two replicas.
///
/// A stored time that is further ahead than its setting plus this allowance comes from a clock that was wrong. It must
/// neither delay a user nor keep a secret valid until the wall clock reaches it. NTP keeps machines within
/// milliseconds, so 15 minutes are ample. A larger allowance would keep one-time codes valid for longer after a
/// correction.
pub const MAX_SKEW: Duration = Duration::from_mins(15);

/// A source of the current time.
pub trait Clock: Send + Sync {
    /// The current time, in whole microseconds.
    fn now(&self) -> Timestamp;

    /// The time since the machine started: the monotonic clock for ages and timeouts. It cannot be set, never goes
    /// back, and advances while the process or the machine is suspended.
    fn since_boot(&self) -> Duration;
}

/// Creates a UUIDv7 (RFC 9562 section 5.7) of this time. IDs sort by their time of creation, to the millisecond.
#[must_use]
pub fn new_id(now: Timestamp) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(
        NoContext,
        seconds,
        now.timestamp_subsec_nanos(),
    ))
}

/// The smallest UUIDv7 of this time or later, to the millisecond.
#[must_use]
pub fn first_id(time: Timestamp) -> Uuid {
    let milliseconds = u64::try_from(time.timestamp_millis()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &[0; 10]).into_uuid()
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the only place that reads the system clock"
    )]
    fn now(&self) -> Timestamp {
        Utc::now().trunc_subsecs(6)
    }

    fn since_boot(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        )
    }
}

/// A clock for tests. It moves only by its methods.
#[derive(Debug)]
pub struct ManualClock {
    start: i64,
    /// Microseconds since the start on the monotonic clock.
    passed: AtomicI64,
    /// Microseconds by which the wall clock was set forward; negative: backward.
    shifted: AtomicI64,
}

impl ManualClock {
    /// Creates a clock that shows `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self {
            start: start.timestamp_micros(),
            passed: AtomicI64::new(0),
            shifted: AtomicI64::new(0),
        }
    }

    /// Advances the wall clock and the time since boot. Saturates at the end of the range of the clock.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.passed.fetch_add(by, Ordering::SeqCst);
    }

    /// Sets the wall clock forward or backward, as an administrator or NTP does. The time since boot does not change.
    pub fn shift_wall(&self, by: TimeDelta) {
        let by = by.num_microseconds().unwrap_or(i64::MAX);
        self.shifted.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let elapsed = self.passed.load(Ordering::SeqCst);
        let shifted = self.shifted.load(Ordering::SeqCst);
        let time = self.start.saturating_add(elapsed).saturating_add(shifted);
        DateTime::from_timestamp_micros(time).unwrap_or(DateTime::UNIX_EPOCH)
    }

    fn since_boot(&self) -> Duration {
        let passed = u64::try_from(self.passed.load(Ordering::SeqCst)).unwrap_or_default();
        // Tests run on a machine that started an hour ago, not on one that has just started.
        Duration::from_hours(1) + Duration::from_micros(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_wall_clock_does_not_move_the_monotonic_clock() {
        let clock = ManualClock::new(DateTime::UNIX_EPOCH);
        let boot = clock.since_boot();
        clock.shift_wall(TimeDelta::days(2));
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now().timestamp(), 2 * 86_400 + 1);
        clock.shift_wall(TimeDelta::days(-4));
        assert_eq!(clock.now().timestamp(), 1 - 2 * 86_400);
        assert_eq!(clock.since_boot(), boot + Duration::from_secs(1));
    }
}
