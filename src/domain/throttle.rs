//! Throttle: a rate limiter for attempts, with exponential back-off (a GCRA whose delay doubles).
//!
//! A few failures are free. After them, each attempt waits twice as long as the one before. Failures are forgotten over
//! time. The state of a subject is two times: the time at which all failures are forgotten, and the time of the last
//! attempt. Each attempt moves the first one forward by the *recovery* time, in which one failure is forgotten. So its
//! distance from now is the number of remembered failures, and no background task has to decrement a counter.

mod subject;

use std::time::Duration;

pub(super) use subject::digest;
pub use subject::{Subject, SubjectId, SubjectKind};

use crate::clock::{MAX_SKEW, Timestamp};

/// The limit of a subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    /// Number of failed attempts without delay, at least 1.
    pub free: u32,
    /// Time in which one failed attempt is forgotten, above zero.
    pub recovery: Duration,
}

impl Limit {
    /// The limit of a prefix that may use `factor` times as much: `factor` times the free attempts, each forgotten
    /// `factor` times as fast. The recovery time is rounded up to whole microseconds, the resolution of stored times.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        let recovery = self.recovery.as_micros().div_ceil(u128::from(factor.max(1)));
        Self {
            free: self.free.saturating_mul(factor),
            recovery: Duration::from_micros(u64::try_from(recovery).unwrap_or(u64::MAX)),
        }
    }
}

/// The delays of attempts after the free ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delays {
    /// The first delay.
    pub base: Duration,
    /// The maximum delay: no subject is locked out for longer.
    pub max: Duration,
}

impl Delays {
    /// Delays of a token bucket: one attempt in each recovery time of a limit.
    #[must_use]
    pub fn steady(limit: &Limit) -> Self {
        Self {
            base: limit.recovery,
            max: limit.recovery,
        }
    }

    /// The delay after `beyond` attempts more than the free ones.
    fn after(&self, beyond: u32) -> Duration {
        let doubled = 1_u32
            .checked_shl(beyond)
            .map(|times| self.base.saturating_mul(times));
        doubled.unwrap_or(self.max).min(self.max)
    }

    /// Number of attempts beyond the free ones after which the delay is the maximum.
    fn doublings(&self) -> u32 {
        (0..u32::BITS)
            .find(|beyond| self.after(*beyond) >= self.max)
            .unwrap_or(u32::BITS)
    }
}

/// The stored state of a subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Memory {
    /// Time at which all attempts are forgotten.
    pub forgotten_at: Timestamp,
    /// Time of the last attempt.
    pub last_at: Timestamp,
}

impl Memory {
    /// The state after the first attempt.
    #[must_use]
    pub fn of_first(limit: &Limit, now: Timestamp) -> Self {
        Self {
            forgotten_at: now + limit.recovery,
            last_at: now,
        }
    }

    /// Corrects the times of a wrong clock. A last attempt that is further ahead than [`MAX_SKEW`] shows the error of
    /// the clock, so both times are moved back by it. One failure on a fast clock remains one failure after the
    /// correction: more would delay the user for days, and fewer would forget guesses.
    #[must_use]
    pub fn corrected(self, now: Timestamp) -> Self {
        if self.last_at <= now + MAX_SKEW {
            return self;
        }
        Self {
            forgotten_at: self.forgotten_at - (self.last_at - now),
            last_at: now,
        }
    }

    /// Whether the last attempt is in the future: a clock is or was ahead.
    #[must_use]
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.last_at > now
    }

    /// The delay between the last attempt and the next one. `None`: the next one is free.
    #[must_use]
    pub fn delay(&self, limit: &Limit, delays: &Delays, now: Timestamp) -> Option<Duration> {
        let remembered = (self.forgotten_at - now).to_std().unwrap_or_default();
        let failures = u32::try_from(remembered.as_nanos().div_ceil(limit.recovery.as_nanos().max(1)))
            .unwrap_or(u32::MAX);
        failures
            .checked_sub(limit.free)
            .map(|beyond| delays.after(beyond))
    }

    /// The state after one more attempt now.
    ///
    /// An attempt never waits longer than the longest delay. If the stored times require more, a clock is or was ahead,
    /// and the attempt is allowed and counts. Where clocks of replicas differ, such attempts on alternating replicas
    /// would have no delay; so after an attempt that [`Self::is_ahead`] allowed, the caller enforces [`Self::delay`] by
    /// the monotonic clock.
    ///
    /// # Errors
    /// The time that the attempt has to wait, at most the maximum delay.
    pub fn attempt(&self, limit: &Limit, delays: &Delays, now: Timestamp) -> Result<Self, Duration> {
        let before = self.corrected(now);
        if let Some(delay) = before.delay(limit, delays, now) {
            let wait = (self.last_at + delay - now).to_std().unwrap_or_default();
            if !wait.is_zero() && wait <= delays.max {
                return Err(wait);
            }
        }
        // Attempts beyond the maximum delay are not remembered, so that the recovery takes a limited time.
        let max_attempts = limit.free.saturating_add(delays.doublings());
        let mut max = now + limit.recovery.saturating_mul(max_attempts).min(MAX_MEMORY);
        if before.is_ahead(now) {
            // The replica that is ahead can remember more by its own clock. A lower value would forget guesses there.
            max = max.max(before.forgotten_at.min(max + MAX_SKEW));
        }
        let forgotten_at = (before.forgotten_at.max(now) + limit.recovery).min(max);
        Ok(Self {
            forgotten_at,
            last_at: now,
        })
    }

    /// The state without the `added` time of an attempt that succeeded. `None`: nothing is left to remember.
    #[must_use]
    pub fn without(&self, added: Duration, now: Timestamp) -> Option<Self> {
        let forgotten_at = self.forgotten_at - added;
        (forgotten_at > now).then_some(Self {
            forgotten_at,
            ..*self
        })
    }
}

/// Maximum time for which attempts are remembered: ten years, which all databases can store.
const MAX_MEMORY: Duration = Duration::from_hours(10 * 365 * 24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, ManualClock};
    use chrono::{DateTime, TimeDelta};
    use proptest::prelude::*;

    const LIMIT: Limit = Limit {
        free: 3,
        recovery: Duration::from_hours(1),
    };

    const DELAYS: Delays = Delays {
        base: Duration::from_secs(1),
        max: Duration::from_secs(60),
    };

    fn start() -> Timestamp {
        DateTime::from_timestamp(1_767_225_600, 0).unwrap()
    }

    /// A client that tries again as soon as it is allowed.
    #[test]
    fn delays_double_up_to_the_maximum() {
        let clock = ManualClock::new(start());
        let mut memory = Memory::of_first(&LIMIT, clock.now());
        let mut waits = Vec::new();
        for _ in 0..12 {
            let mut waited = 0;
            memory = loop {
                match memory.attempt(&LIMIT, &DELAYS, clock.now()) {
                    Ok(memory) => break memory,
                    Err(wait) => {
                        waited += wait.as_secs();
                        clock.advance(wait);
                    }
                }
            };
            waits.push(waited);
        }
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn one_failure_is_forgotten_in_the_recovery_time_and_finally_all() {
        let now = start();
        let mut memory = Memory::of_first(&LIMIT, now);
        for _ in 0..2 {
            memory = memory.attempt(&LIMIT, &DELAYS, now).unwrap();
        }
        assert_eq!(memory.attempt(&LIMIT, &DELAYS, now), Err(Duration::from_secs(1)));
        // One failure is forgotten: one more attempt is free, and the next one waits again.
        let later = now + LIMIT.recovery;
        let again = memory.attempt(&LIMIT, &DELAYS, later).unwrap();
        assert_eq!(again.attempt(&LIMIT, &DELAYS, later), Err(Duration::from_secs(1)));
        assert_eq!(memory.forgotten_at, now + 3 * LIMIT.recovery);
        let fresh = memory.attempt(&LIMIT, &DELAYS, memory.forgotten_at).unwrap();
        assert_eq!(fresh, Memory::of_first(&LIMIT, memory.forgotten_at));
    }

    #[test]
    fn a_clock_that_was_wrong_locks_no_subject_out() {
        let now = start();
        let mut memory = Memory::of_first(&LIMIT, now + Duration::from_hours(1000));
        memory.forgotten_at += 100 * LIMIT.recovery;
        let corrected = memory.attempt(&LIMIT, &DELAYS, now).unwrap();
        assert!(corrected.forgotten_at <= now + 9 * LIMIT.recovery);
        assert_eq!(corrected.last_at, now);
    }

    /// The clock is two days ahead, and then corrected.
    #[test]
    fn the_number_of_failures_is_kept_when_a_fast_clock_is_corrected() {
        let now = start();
        let ahead = now + Duration::from_hours(48);
        let first = Memory::of_first(&LIMIT, ahead);
        assert_eq!(first.corrected(now), Memory::of_first(&LIMIT, now));
        let second = first.attempt(&LIMIT, &DELAYS, now).unwrap();
        assert_eq!(second.forgotten_at, now + 2 * LIMIT.recovery);
        // Further guesses count, too.
        let mut guesses = first;
        for _ in 1..LIMIT.free {
            guesses = guesses.attempt(&LIMIT, &DELAYS, ahead).unwrap();
        }
        let after = guesses.attempt(&LIMIT, &DELAYS, now).unwrap();
        assert_eq!(after.attempt(&LIMIT, &DELAYS, now), Err(Duration::from_secs(2)));
    }

    /// Within the allowance, alternating between the replicas forgets no failure.
    #[test]
    fn alternating_between_replicas_forgets_no_failure() {
        let limit = Limit {
            recovery: Duration::from_secs(10),
            ..LIMIT
        };
        let (here, ahead) = (start(), start() + Duration::from_mins(10));
        let mut memory = Memory::of_first(&limit, ahead);
        for _ in 0..20 {
            for now in [here, ahead] {
                memory = memory.attempt(&limit, &DELAYS, now).unwrap_or(memory);
            }
        }
        // The maximum number of failures.
        assert_eq!(memory.delay(&limit, &DELAYS, ahead), Some(DELAYS.max));
    }

    proptest! {
        /// For every history: no wait is longer than the maximum delay, a refused attempt succeeds after its wait, a
        /// success removes exactly what its attempt added, and the memory has a maximum.
        #[test]
        fn no_subject_is_locked_out_for_longer_than_the_maximum_delay(
            free in 1..20_u32,
            recovery in 1..100_000_u64,
            (base, max) in (1..1000_u64, 1000..100_000_u64),
            steps in proptest::collection::vec((0..200_000_u64, any::<bool>()), 1..50),
        ) {
            let limit = Limit { free, recovery: Duration::from_millis(recovery) };
            let delays = Delays { base: Duration::from_millis(base), max: Duration::from_millis(max) };
            let mut now = start();
            let mut memory = Memory::of_first(&limit, now);
            for (passes, succeeds) in steps {
                now += Duration::from_millis(passes);
                let after = match memory.attempt(&limit, &delays, now) {
                    Ok(after) => after,
                    Err(wait) => {
                        prop_assert!(!wait.is_zero() && wait <= delays.max);
                        now += wait;
                        memory.attempt(&limit, &delays, now).unwrap()
                    }
                };
                let max = u64::from(free + delays.doublings()) * recovery;
                prop_assert!(after.forgotten_at <= now + Duration::from_millis(max));
                let added = (after.forgotten_at - memory.forgotten_at.max(now)).to_std().unwrap();
                prop_assert!(added <= limit.recovery);
                if succeeds {
                    let without = after.without(added, now);
                    let expected = Some(memory.forgotten_at).filter(|at| *at > now);
                    prop_assert_eq!(without.map(|memory| memory.forgotten_at), expected);
                    memory = without.unwrap_or(after);
                } else {
                    memory = after;
                }
            }
        }

        /// For all stored times, the wait is at most the maximum delay, and the attempt succeeds after it.
        #[test]
        fn no_stored_time_makes_a_wait_longer_than_the_maximum_delay(
            free in 1..20_u32,
            recovery in 1..100_000_u64,
            (base, max) in (1..1000_u64, 1000..3_000_000_u64),
            (last, remembered) in (-400_000_000_i64..400_000_000, 0..400_000_000_u64),
        ) {
            let limit = Limit { free, recovery: Duration::from_millis(recovery) };
            let delays = Delays { base: Duration::from_millis(base), max: Duration::from_millis(max) };
            let now = start();
            let last_at = now + TimeDelta::milliseconds(last);
            let memory = Memory { forgotten_at: last_at + Duration::from_millis(remembered), last_at };
            let after = match memory.attempt(&limit, &delays, now) {
                Ok(after) => after,
                Err(wait) => {
                    prop_assert!(!wait.is_zero() && wait <= delays.max);
                    memory.attempt(&limit, &delays, now + wait).unwrap()
                }
            };
            // The written times are those of this clock, or of one within the allowance.
            let max = u64::from(free + delays.doublings()) * recovery;
            prop_assert!(after.forgotten_at <= after.last_at + Duration::from_millis(max) + MAX_SKEW);
            prop_assert!(!after.is_ahead(now + delays.max));
        }
    }
}
