//! Where the time comes from. Everything that needs the time takes a [`Clock`], so that tests can turn it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, Utc};
use rustix::time::{ClockId, clock_gettime};
use uuid::{NoContext, Uuid};

/// A point in time, UTC, in whole microseconds: the finest that every supported database stores.
pub type Timestamp = DateTime<Utc>;

/// A source of the current time.
pub trait Clock: Send + Sync {
    /// The current time, in whole microseconds.
    fn now(&self) -> Timestamp;

    /// The time since the machine was started. Nobody sets it, it never goes back, and it goes on while the process or
    /// the machine is stopped: what tells how old something is.
    fn since_boot(&self) -> Duration;
}

/// A new UUIDv7 (RFC 9562 section 5.7) of this time: ids sort by when they were made, to the millisecond.
#[must_use]
pub fn new_id(now: Timestamp) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(
        NoContext,
        seconds,
        now.timestamp_subsec_nanos(),
    ))
}

/// The least of all UUIDv7 of this time or later, to the millisecond.
#[must_use]
pub fn first_id(time: Timestamp) -> Uuid {
    let milliseconds = u64::try_from(time.timestamp_millis()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &[0; 10]).into_uuid()
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that asks the machine"
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

/// A clock that moves only when told to, for tests.
#[derive(Debug)]
pub struct ManualClock {
    start: i64,
    microseconds: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        let start = start.timestamp_micros();
        Self {
            start,
            microseconds: AtomicI64::new(start),
        }
    }

    /// Moves the clock forward, and the time since boot with it. Durations past what the clock can hold move it to its end.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.microseconds.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        DateTime::from_timestamp_micros(self.microseconds.load(Ordering::SeqCst))
            .unwrap_or(DateTime::UNIX_EPOCH)
    }

    fn since_boot(&self) -> Duration {
        let passed = self.microseconds.load(Ordering::SeqCst) - self.start;
        // A machine that has just started would be an odd one to test on.
        Duration::from_hours(1) + Duration::from_micros(u64::try_from(passed).unwrap_or_default())
    }
}
