//! How attempts are slowed down: some failures are free, then each has to wait twice as long as the one before, and
//! with time all is forgotten.
//!
//! What is remembered of a subject is two times: until when something is remembered at all, and when the last attempt
//! was. Each attempt moves the first one on by the *recovery* time of its subject, in which one failure is forgotten;
//! so how far it lies ahead says how many failures are remembered. Nothing has to run for it to be forgotten.

mod subject;

use std::time::Duration;

pub(super) use subject::digest;
pub use subject::{Subject, SubjectId, SubjectKind};

use crate::clock::{MAX_SKEW, Timestamp};

/// How much is tolerated of a subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    /// How many attempts without success have no delay. At least one.
    pub free: u32,
    /// In how long one of them is forgotten. Longer than nothing.
    pub recovery: Duration,
}

impl Limit {
    /// The limit of a prefix that may use `factor` times as much: so many times the free attempts, of which each is
    /// forgotten so many times as fast. In whole microseconds, as databases store times.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        let recovery = self.recovery.as_micros().div_ceil(u128::from(factor.max(1)));
        Self {
            free: self.free.saturating_mul(factor),
            recovery: Duration::from_micros(u64::try_from(recovery).unwrap_or(u64::MAX)),
        }
    }
}

/// How long an attempt has to wait when the free ones are used up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delays {
    /// The first delay.
    pub base: Duration,
    /// The longest one: nobody is shut out for longer than this.
    pub max: Duration,
}

impl Delays {
    /// One attempt in each recovery time of a limit, as of a token bucket.
    #[must_use]
    pub fn steady(limit: &Limit) -> Self {
        Self {
            base: limit.recovery,
            max: limit.recovery,
        }
    }

    /// The delay after so many attempts beyond the free ones.
    fn after(&self, beyond: u32) -> Duration {
        let doubled = 1_u32
            .checked_shl(beyond)
            .map(|times| self.base.saturating_mul(times));
        doubled.unwrap_or(self.max).min(self.max)
    }

    /// After how many attempts beyond the free ones the delay does not grow any more.
    fn doublings(&self) -> u32 {
        (0..u32::BITS)
            .find(|beyond| self.after(*beyond) >= self.max)
            .unwrap_or(u32::BITS)
    }
}

/// What is remembered of a subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Memory {
    /// When all is forgotten.
    pub forgotten_at: Timestamp,
    /// When the last attempt was.
    pub last_at: Timestamp,
}

impl Memory {
    /// That of the first attempt.
    #[must_use]
    pub fn of_first(limit: &Limit, now: Timestamp) -> Self {
        Self {
            forgotten_at: now + limit.recovery,
            last_at: now,
        }
    }

    /// Corrects the times of a wrong clock. A last attempt that is further ahead than [`MAX_SKEW`] shows the error of
    /// the clock, and both times are moved back by it. So one failure on a fast clock is one failure after the
    /// correction: more would delay the user for days, and none would forget guesses.
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

    /// What is remembered when there is one more attempt now.
    ///
    /// An attempt never waits longer than the longest delay. If the stored times require more, a clock is or was ahead,
    /// and the attempt is allowed and counts. Where clocks of replicas differ, such attempts on alternating replicas
    /// would have no delay; so after an attempt that [`Self::is_ahead`] allowed, the caller enforces [`Self::delay`] by
    /// the monotonic clock.
    ///
    /// # Errors
    /// How long that attempt has to wait.
    pub fn attempt(&self, limit: &Limit, delays: &Delays, now: Timestamp) -> Result<Self, Duration> {
        let before = self.corrected(now);
        if let Some(delay) = before.delay(limit, delays, now) {
            let wait = (self.last_at + delay - now).to_std().unwrap_or_default();
            if !wait.is_zero() && wait <= delays.max {
                return Err(wait);
            }
        }
        // More is not remembered than what the longest delay takes: nobody has to recover for ever.
        let most = limit.free.saturating_add(delays.doublings());
        let mut most = now + limit.recovery.saturating_mul(most).min(LONGEST_MEMORY);
        if before.is_ahead(now) {
            // The replica that is ahead can remember more by its own clock. A lower value would forget guesses there.
            most = most.max(before.forgotten_at.min(most + MAX_SKEW));
        }
        let forgotten_at = (before.forgotten_at.max(now) + limit.recovery).min(most);
        Ok(Self {
            forgotten_at,
            last_at: now,
        })
    }

    /// What is remembered when `added` of it is taken back. `None`: nothing.
    #[must_use]
    pub fn without(&self, added: Duration, now: Timestamp) -> Option<Self> {
        let forgotten_at = self.forgotten_at - added;
        (forgotten_at > now).then_some(Self {
            forgotten_at,
            ..*self
        })
    }
}

/// The longest that anything is remembered, whatever the settings are: ten years, which every database can write.
const LONGEST_MEMORY: Duration = Duration::from_hours(10 * 365 * 24);

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

    /// Somebody who tries as soon as they may.
    #[test]
    fn delays_double_up_to_the_longest() {
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
    fn one_failure_is_forgotten_in_the_recovery_time_and_all_in_the_end() {
        let now = start();
        let mut memory = Memory::of_first(&LIMIT, now);
        for _ in 0..2 {
            memory = memory.attempt(&LIMIT, &DELAYS, now).unwrap();
        }
        assert_eq!(memory.attempt(&LIMIT, &DELAYS, now), Err(Duration::from_secs(1)));
        // One was forgotten: one more is free, and then the next has to wait again.
        let later = now + LIMIT.recovery;
        let again = memory.attempt(&LIMIT, &DELAYS, later).unwrap();
        assert_eq!(again.attempt(&LIMIT, &DELAYS, later), Err(Duration::from_secs(1)));
        assert_eq!(memory.forgotten_at, now + 3 * LIMIT.recovery);
        let fresh = memory.attempt(&LIMIT, &DELAYS, memory.forgotten_at).unwrap();
        assert_eq!(fresh, Memory::of_first(&LIMIT, memory.forgotten_at));
    }

    #[test]
    fn a_clock_that_was_wrong_shuts_nobody_out() {
        let now = start();
        let mut memory = Memory::of_first(&LIMIT, now + Duration::from_hours(1000));
        memory.forgotten_at += 100 * LIMIT.recovery;
        let mended = memory.attempt(&LIMIT, &DELAYS, now).unwrap();
        assert!(mended.forgotten_at <= now + 9 * LIMIT.recovery);
        assert_eq!(mended.last_at, now);
    }

    /// The clock is two days ahead, and then corrected.
    #[test]
    fn failures_on_a_fast_clock_keep_their_number() {
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
        /// Whatever happened before: nobody waits longer than the longest delay, a refused attempt may be made after
        /// what it was told, what is taken back is what was added, and memory ends.
        #[test]
        fn nobody_is_shut_out(
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
                let most = u64::from(free + delays.doublings()) * recovery;
                prop_assert!(after.forgotten_at <= now + Duration::from_millis(most));
                let added = (after.forgotten_at - memory.forgotten_at.max(now)).to_std().unwrap();
                prop_assert!(added <= limit.recovery);
                if succeeds {
                    let given_back = after.without(added, now);
                    let expected = Some(memory.forgotten_at).filter(|at| *at > now);
                    prop_assert_eq!(given_back.map(|memory| memory.forgotten_at), expected);
                    memory = given_back.unwrap_or(after);
                } else {
                    memory = after;
                }
            }
        }

        /// For all stored times, the wait is at most the longest delay, and the attempt succeeds after it.
        #[test]
        fn no_stored_time_makes_a_wait_longer_than_the_longest_delay(
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
            let most = u64::from(free + delays.doublings()) * recovery;
            prop_assert!(after.forgotten_at <= after.last_at + Duration::from_millis(most) + MAX_SKEW);
            prop_assert!(!after.is_ahead(now + delays.max));
        }
    }
}
