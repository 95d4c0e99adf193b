//! Whether what was read from the database may still be said: the rule that keeps the cache from saying yes for a session
//! that was revoked.
//!
//! Two things have to hold for a cached answer:
//!
//! - **Nobody has taken it back here.** Everything that was forgotten has a *position*, a number that only grows. For every
//!   person and token the position is kept at which they were last forgotten ([`Freshness::forget`]), and an answer keeps
//!   the position that was reached *before* its query was sent. An answer is good only if that is not before the last
//!   time its person or its token was forgotten. So a reader that loads a row, is overtaken by a revocation, and keeps the stale row
//!   afterwards does no harm: its position is too old. There is nothing to find and remove, and no lock.
//! - **Nobody can have taken it back elsewhere.** The change log was read to its end by a query that was sent at most a
//!   bound ago ([`Freshness::publish`]).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::token::TokenHash;
use crate::domain::user::UserId;

/// How many places there are to remember when people were forgotten, and as many for tokens, 8 bytes each. Those who
/// share one are forgotten together, which costs a query each and is never wrong.
const PLACES: usize = 32 * 1024;

/// A point in the order of all that was forgotten by this process.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Position(u64);

/// What the process knows about how up to date it is.
pub(in crate::service) struct Freshness {
    bound: Duration,
    position: AtomicU64,
    /// When everybody was last forgotten.
    all_forgotten: AtomicU64,
    /// When the people of each place were last forgotten.
    people_forgotten: Box<[AtomicU64]>,
    /// When the tokens of each place were last forgotten.
    tokens_forgotten: Box<[AtomicU64]>,
    /// The time since boot, in nanoseconds, before which every change is known here.
    known_until: AtomicU64,
}

impl Freshness {
    /// Nothing is known yet. `bound` is how old the last reading of the change log may be.
    pub(in crate::service) fn new(bound: Duration) -> Self {
        Self {
            bound,
            position: AtomicU64::new(0),
            all_forgotten: AtomicU64::new(0),
            people_forgotten: places(),
            tokens_forgotten: places(),
            known_until: AtomicU64::new(0),
        }
    }

    /// The position that has been reached. To be asked before the query whose answer will be kept.
    pub(super) fn position(&self) -> Position {
        Position(self.position.load(Ordering::SeqCst))
    }

    /// Makes all that was read about a person before now worthless. To be called after the change was committed, and
    /// before its caller is answered.
    pub(in crate::service) fn forget(&self, user: UserId) {
        self.forget_at(self.place_of_person(user));
    }

    /// As [`Self::forget`], for the session of one token, of whomever it is.
    pub(super) fn forget_token(&self, token: &TokenHash) {
        self.forget_at(self.place_of_token(token));
    }

    /// Makes all that was read before now worthless.
    pub(super) fn forget_all(&self) {
        self.forget_at(&self.all_forgotten);
    }

    fn forget_at(&self, place: &AtomicU64) {
        let position = self.position.fetch_add(1, Ordering::SeqCst) + 1;
        // Two at once: the later position stays.
        place.fetch_max(position, Ordering::SeqCst);
    }

    /// Whether nobody has forgotten the person, or the session of the token, since the position.
    pub(super) fn holds(&self, position: Position, user: UserId, token: &TokenHash) -> bool {
        [
            self.place_of_person(user),
            self.place_of_token(token),
            &self.all_forgotten,
        ]
        .into_iter()
        .all(|forgotten| forgotten.load(Ordering::SeqCst) <= position.0)
    }

    /// Says that every change that was committed before this time since boot has been forgotten here.
    pub(super) fn publish(&self, known_until: Duration) {
        self.known_until.store(nanoseconds(known_until), Ordering::SeqCst);
    }

    /// The time since boot before which every change is known here. To be asked *before* the cache is looked into.
    pub(super) fn known_until(&self) -> Duration {
        Duration::from_nanos(self.known_until.load(Ordering::SeqCst))
    }

    /// Whether that is recent enough. `now`, the time since boot, is to be asked *after* the cache was looked into: a
    /// process that was stopped in between must not say yes.
    pub(super) fn is_recent(&self, known_until: Duration, now: Duration) -> bool {
        now.saturating_sub(known_until) <= self.bound
    }

    /// The last 8 bytes of a UUIDv7 are random but for two bits at their beginning.
    fn place_of_person(&self, user: UserId) -> &AtomicU64 {
        place(&self.people_forgotten, user.0.as_u64_pair().1)
    }

    fn place_of_token(&self, token: &TokenHash) -> &AtomicU64 {
        place(&self.tokens_forgotten, token.random())
    }
}

fn places() -> Box<[AtomicU64]> {
    (0..PLACES).map(|_| AtomicU64::new(0)).collect()
}

fn place(places: &[AtomicU64], random: u64) -> &AtomicU64 {
    &places[usize::try_from(random % PLACES as u64).unwrap_or_default()]
}

impl fmt::Debug for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Freshness")
            .field("position", &self.position)
            .field("known_until", &self.known_until())
            .finish_non_exhaustive()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
