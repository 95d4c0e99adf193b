//! A bounded cache of recent refusals. It uses the monotonic clock: a wall clock that is set back must not prolong
//! them.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::clock::Clock;
use crate::domain::throttle::SubjectId;

/// How long a refusal is repeated without a query. Clients that do not wait then cost no database time; the limit is
/// short, since other replicas may give an attempt back.
const REFUSAL_KEPT: Duration = Duration::from_secs(1);

/// Maximum number of refusals in memory, of about 100 bytes each.
const REFUSALS: usize = 10_000;

/// Recent refusals by subject. Cheap to clone.
#[derive(Clone)]
pub(super) struct Refusals {
    clock: Arc<dyn Clock>,
    refusals: Arc<Cache<SubjectId, RecentRefusal>>,
}

/// A refused subject. Both are times since boot.
#[derive(Clone, Copy)]
struct RecentRefusal {
    /// End of the wait.
    until: Duration,
    /// End of the period without a query.
    known_until: Duration,
}

impl Refusals {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            refusals: Arc::new(Cache::new(REFUSALS)),
        }
    }

    /// Rest of the wait of a subject, if it is known without a query.
    pub(super) fn wait(&self, subject: SubjectId) -> Option<Duration> {
        let refusal = self.refusals.get(&subject)?;
        let now = self.clock.since_boot();
        let wait = refusal.until.saturating_sub(now);
        (now < refusal.known_until && !wait.is_zero()).then_some(wait)
    }

    /// Stores a refusal for [`REFUSAL_KEPT`].
    pub(super) fn remember(&self, subject: SubjectId, wait: Duration) {
        self.insert(subject, wait, REFUSAL_KEPT);
    }

    /// Refuses a subject for the whole delay, without queries.
    pub(super) fn hold(&self, subject: SubjectId, delay: Duration) {
        self.insert(subject, delay, delay);
    }

    fn insert(&self, subject: SubjectId, wait: Duration, kept: Duration) {
        let now = self.clock.since_boot();
        let refusal = RecentRefusal {
            until: now + wait,
            known_until: now + kept,
        };
        self.refusals.insert(subject, refusal);
    }

    pub(super) fn forget(&self, subject: SubjectId) {
        self.refusals.remove(&subject);
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use uuid::Uuid;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_refusal_is_kept_for_a_second_whatever_the_wall_clock_does() {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH + TimeDelta::days(9)));
        let refusals = Refusals::new(clock.clone());
        let subject = SubjectId(Uuid::from_u128(1));
        for shift in [TimeDelta::days(-2), TimeDelta::days(2)] {
            refusals.remember(subject, Duration::from_secs(10));
            clock.shift_wall(shift);
            assert_eq!(refusals.wait(subject), Some(Duration::from_secs(10)));
            clock.advance(Duration::from_millis(999));
            assert_eq!(refusals.wait(subject), Some(Duration::from_millis(9001)));
            clock.advance(Duration::from_millis(1));
            assert_eq!(refusals.wait(subject), None);
        }
    }

    #[test]
    fn a_held_subject_waits_for_the_whole_delay() {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH + TimeDelta::days(9)));
        let refusals = Refusals::new(clock.clone());
        let subject = SubjectId(Uuid::from_u128(1));
        refusals.hold(subject, Duration::from_secs(10));
        clock.advance(Duration::from_secs(9));
        assert_eq!(refusals.wait(subject), Some(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(refusals.wait(subject), None);
    }
}
