//! Aggregation of codes for unknown challenges: one audit row per source, action and minute, with a count.
//!
//! A challenge id costs nothing to invent, so a row for each call would let a stranger fill the disk. The first call of
//! a source is written at once; further ones are counted in memory and added to its row when the minute is over, and at
//! shutdown. A process that is killed loses the counts of a minute at most, never the rows.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::audit::{Action, AuditDraft, Event, EventActor, EventId, Refusal};
use crate::domain::network::{Network, Prefix};
use crate::domain::session::ClientInfo;
use crate::domain::user::UserId;

/// Time for which the calls of a source share a row.
const WINDOW: Duration = Duration::from_mins(1);

/// Maximum number of sources in memory, of about 500 bytes each. Further ones share a row per calling service.
const MAX_SOURCES: usize = 10_000;

/// The origin of calls that share a row.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct AnonymousSource {
    action: Action,
    service: Option<Arc<str>>,
    /// `None`: an actor, a call without a client address, or a source beyond [`MAX_SOURCES`].
    site: Option<Prefix>,
    /// The user whose session the call has.
    actor: Option<UserId>,
}

impl AnonymousSource {
    fn of(draft: &AuditDraft) -> Self {
        let actor = match draft.actor {
            EventActor::User(user) => Some(user),
            EventActor::Nobody | EventActor::Operator => None,
        };
        let site = |address: IpAddr| Network::of(address).site();
        Self {
            action: draft.action,
            service: draft.caller.service.clone(),
            site: draft.client.ip_address.filter(|_| actor.is_none()).map(site),
            actor,
        }
    }
}

/// What is known of a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PendingRow {
    /// The first call writes it now.
    Writing,
    Written,
    /// It could not be written. The next call tries again.
    Missing,
}

#[derive(Debug)]
struct MinuteWindow {
    event: Event,
    row: PendingRow,
    /// Calls that the row does not count yet.
    uncounted: u64,
    /// End, as time since boot.
    until: Duration,
}

/// The decision about a call.
#[derive(Debug)]
pub(super) enum Noted {
    /// It is counted in memory.
    Counted,
    /// The caller writes this event, and reports the outcome to [`AnonymousFailures::set_written`].
    First(AnonymousSource, Box<Event>),
}

/// Calls of a source that a row has to count in addition.
#[derive(Debug)]
pub(super) struct Uncounted {
    pub(super) event: Event,
    /// How many.
    pub(super) count: u64,
    /// Whether the row was written.
    pub(super) has_row: bool,
    source: AnonymousSource,
}

/// The sources that were seen within [`WINDOW`].
#[derive(Debug, Default)]
pub(super) struct AnonymousFailures(Mutex<HashMap<AnonymousSource, MinuteWindow>>);

impl AnonymousFailures {
    /// Records a refused call. `now` is the wall clock, for the event; `since_boot` the monotonic one, for the window.
    pub(super) fn note(&self, draft: &AuditDraft, now: Timestamp, since_boot: Duration) -> Noted {
        let mut windows = self.lock();
        let mut source = AnonymousSource::of(draft);
        let mut draft = draft.clone();
        if windows.len() >= MAX_SOURCES && !windows.contains_key(&source) {
            (source.site, source.actor) = (None, None);
            draft = AuditDraft::by_nobody(draft.action, ClientInfo::default(), draft.caller);
        }
        let first = |draft: &AuditDraft| MinuteWindow {
            event: draft.refused(Refusal::CodeInvalid, now),
            row: PendingRow::Writing,
            uncounted: 0,
            until: since_boot + WINDOW,
        };
        match windows.entry(source.clone()) {
            MapEntry::Vacant(entry) => {
                let window = entry.insert(first(&draft));
                Noted::First(source, Box::new(window.event.clone()))
            }
            MapEntry::Occupied(mut entry) => {
                let window = entry.get_mut();
                // A window that is over goes on until its count is written: that bounds the memory while the database
                // is away.
                let is_open = since_boot < window.until || window.uncounted > 0;
                if window.row != PendingRow::Missing && (is_open || window.row == PendingRow::Writing) {
                    window.uncounted = window.uncounted.saturating_add(1);
                    return Noted::Counted;
                }
                let uncounted = window.uncounted;
                *window = MinuteWindow {
                    uncounted,
                    ..first(&draft)
                };
                Noted::First(source, Box::new(window.event.clone()))
            }
        }
    }

    /// Notes whether the event of [`Noted::First`] was written.
    pub(super) fn set_written(&self, source: &AnonymousSource, event: EventId, is_written: bool) {
        let mut windows = self.lock();
        if let Some(window) = windows.get_mut(source).filter(|window| window.event.id == event) {
            window.row = if is_written {
                PendingRow::Written
            } else {
                PendingRow::Missing
            };
        }
    }

    /// Takes the counts of the windows that are over, and forgets those without any. `None`: of all windows.
    pub(super) fn take_ended(&self, since_boot: Option<Duration>) -> Vec<Uncounted> {
        let is_over = |window: &MinuteWindow| since_boot.is_none_or(|now| window.until <= now);
        let mut taken = Vec::new();
        self.lock().retain(|source, window| {
            if window.row == PendingRow::Writing || !is_over(window) {
                return true;
            }
            let count = mem::take(&mut window.uncounted);
            if count > 0 {
                taken.push(Uncounted {
                    event: window.event.clone(),
                    count,
                    has_row: window.row == PendingRow::Written,
                    source: source.clone(),
                });
            }
            false
        });
        // In the order in which all lock them.
        taken.sort_unstable_by_key(|uncounted| uncounted.event.id);
        taken
    }

    /// Puts back counts that could not be written.
    pub(super) fn put_back(&self, taken: Vec<Uncounted>) {
        let mut windows = self.lock();
        for Uncounted {
            event,
            count,
            has_row,
            source,
        } in taken
        {
            let window = windows.entry(source).or_insert(MinuteWindow {
                event,
                row: if has_row {
                    PendingRow::Written
                } else {
                    PendingRow::Missing
                },
                uncounted: 0,
                until: Duration::ZERO,
            });
            window.uncounted = window.uncounted.saturating_add(count);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AnonymousSource, MinuteWindow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, ManualClock};
    use crate::domain::access::Caller;
    use chrono::DateTime;

    fn attempt(address: Option<IpAddr>) -> AuditDraft {
        let caller = Caller {
            service: Some("shop".into()),
            request_id: Some("r1".into()),
        };
        AuditDraft::by_nobody(Action::SignInByCode, ClientInfo::new(address, "Example"), caller)
    }

    /// Notes a call. Returns the event of the first one of a window, whose row is written unless `fails`.
    fn note(unknown: &AnonymousFailures, address: &str, clock: &ManualClock, fails: bool) -> Option<Event> {
        let attempt = attempt(Some(address.parse().unwrap()));
        match unknown.note(&attempt, clock.now(), clock.since_boot()) {
            Noted::Counted => None,
            Noted::First(source, event) => {
                unknown.set_written(&source, event.id, !fails);
                Some(*event)
            }
        }
    }

    fn clock() -> ManualClock {
        ManualClock::new(DateTime::from_timestamp(1_767_225_600, 0).unwrap())
    }

    #[test]
    fn a_site_has_one_window_a_minute() {
        let (unknown, clock) = (AnonymousFailures::default(), clock());
        let first = note(&unknown, "2001:db8:1:1::1", &clock, false).unwrap();
        for subnet in 2..100 {
            let address = format!("2001:db8:1:{subnet:x}::1");
            assert!(note(&unknown, &address, &clock, false).is_none());
        }
        assert!(note(&unknown, "2001:db8:2::1", &clock, false).is_some());
        clock.advance(WINDOW - Duration::from_millis(1));
        assert!(unknown.take_ended(Some(clock.since_boot())).is_empty());
        clock.advance(Duration::from_millis(1));
        let ended = unknown.take_ended(Some(clock.since_boot()));
        let [ended] = &ended[..] else { panic!("{ended:?}") };
        assert_eq!((ended.event.id, ended.count, ended.has_row), (first.id, 98, true));
        assert!(note(&unknown, "2001:db8:1:1::1", &clock, false).is_some());
    }

    #[test]
    fn counts_that_could_not_be_written_are_kept_in_the_same_memory() {
        let (unknown, clock) = (AnonymousFailures::default(), clock());
        assert!(note(&unknown, "192.0.2.1", &clock, true).is_some());
        // The row is missing, so the next call writes one.
        assert!(note(&unknown, "192.0.2.1", &clock, false).is_some());
        let mut sum = 0;
        for _ in 0..3 {
            assert!(note(&unknown, "192.0.2.1", &clock, false).is_none());
            clock.advance(WINDOW);
            assert!(note(&unknown, "192.0.2.1", &clock, false).is_none());
            sum += 2;
            let taken = unknown.take_ended(Some(clock.since_boot()));
            assert_eq!(taken.iter().map(|taken| taken.count).sum::<u64>(), sum);
            unknown.put_back(taken);
            assert_eq!(unknown.lock().len(), 1);
        }
        let taken = unknown.take_ended(None);
        assert_eq!((taken[0].count, taken.len()), (6, 1));
        assert!(unknown.lock().is_empty());
    }

    #[test]
    fn sources_beyond_the_limit_share_a_row_that_names_none_of_them() {
        let (unknown, clock) = (AnonymousFailures::default(), clock());
        let calls = MAX_SOURCES + 500;
        let mut rows = Vec::new();
        for number in 0..calls {
            let address = format!("10.{}.{}.1", number >> 8, number & 0xff);
            rows.extend(note(&unknown, &address, &clock, false));
        }
        assert_eq!(rows.len(), MAX_SOURCES + 1);
        assert_eq!(rows.last().unwrap().attempt.client, ClientInfo::default());
        let counted: u64 = unknown.take_ended(None).iter().map(|taken| taken.count).sum();
        assert_eq!(rows.len() + usize::try_from(counted).unwrap(), calls);
        assert!(unknown.lock().is_empty());
    }
}
