//! Version fence: whether what was read from the database may still be answered. It keeps the cache from accepting a
//! session that was revoked.
//!
//! Three things have to hold for a cached answer:
//!
//! - **Nothing has revoked it here.** Everything that was forgotten has a *position*, a number that only grows. For
//!   every user and token the position is kept at which they were last forgotten ([`Fence::forget`]), and an answer
//!   keeps the position that was reached *before* its query was sent. An answer is valid only if that is not before the
//!   last time its user or its token was forgotten. So a reader that loads a row, is overtaken by a revocation, and
//!   keeps the stale row afterwards does no harm: its position is too old. There is nothing to find and remove, and no
//!   lock.
//! - **Nothing can have revoked it elsewhere.** The change log was read to its end by a query that was sent at most a
//!   staleness bound ago, to the server to which new connections led then ([`Fence::publish`]).
//! - **The same server answered both.** An answer of another server than the one whose change log is followed is
//!   neither cached nor returned ([`Fence::follows`]). When the follower itself finds another server, or another
//!   history of the log, everything is forgotten.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::domain::token::TokenHash;
use crate::domain::user::UserId;
use crate::store::Incarnation;

/// How many places there are to remember when people were forgotten, and as many for tokens, 8 bytes each. Those who
/// share one are forgotten together, which costs a query each and is never wrong.
const PLACES: usize = 32 * 1024;

/// A point in the order of all that was forgotten by this process.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::service) struct Version(u64);

/// What the process knows about how up to date it is.
pub(in crate::service) struct Fence {
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
    /// The number of the server whose change log is followed. 0: none yet.
    server: AtomicU64,
    /// Whether that server commits synchronously to a standby.
    is_synchronous: AtomicBool,
    /// How many readings of the change log have begun.
    readings: AtomicU64,
    /// The number of the last reading that reached the end of the log.
    completed: watch::Sender<u64>,
    /// Asks for a reading before its time.
    wanted: Notify,
}

impl Fence {
    /// Nothing is known yet. `bound` is how old the last reading of the change log may be.
    pub(in crate::service) fn new(bound: Duration) -> Self {
        Self {
            bound,
            position: AtomicU64::new(0),
            all_forgotten: AtomicU64::new(0),
            people_forgotten: places(),
            tokens_forgotten: places(),
            known_until: AtomicU64::new(0),
            server: AtomicU64::new(0),
            is_synchronous: AtomicBool::new(false),
            readings: AtomicU64::new(0),
            completed: watch::Sender::new(0),
            wanted: Notify::new(),
        }
    }

    /// The staleness bound.
    pub(in crate::service) fn bound(&self) -> Duration {
        self.bound
    }

    /// The position that has been reached. To be asked before the query whose answer will be kept.
    pub(in crate::service) fn position(&self) -> Version {
        Version(self.position.load(Ordering::SeqCst))
    }

    /// Makes all that was read about a person before now worthless. To be called after the change was committed, and
    /// before its caller is answered.
    pub(in crate::service) fn forget(&self, user: UserId) {
        self.forget_at(self.place_of_person(user));
    }

    /// As [`Self::forget`], for the session of one token, of whomever it is.
    pub(in crate::service) fn forget_token(&self, token: &TokenHash) {
        self.forget_at(self.place_of_token(token));
    }

    /// Makes all that was read before now worthless.
    pub(in crate::service) fn forget_all(&self) {
        self.forget_at(&self.all_forgotten);
    }

    fn forget_at(&self, place: &AtomicU64) {
        let position = self.position.fetch_add(1, Ordering::SeqCst) + 1;
        // Two at once: the later position stays.
        place.fetch_max(position, Ordering::SeqCst);
    }

    /// Whether nobody has forgotten the person, or the session of the token, since the position.
    pub(in crate::service) fn is_current(&self, position: Version, user: UserId, token: &TokenHash) -> bool {
        [
            self.place_of_person(user),
            self.place_of_token(token),
            &self.all_forgotten,
        ]
        .into_iter()
        .all(|forgotten| forgotten.load(Ordering::SeqCst) <= position.0)
    }

    /// Says that every change that was committed before this time since boot has been forgotten here.
    pub(in crate::service) fn publish(&self, known_until: Duration) {
        self.known_until.store(nanoseconds(known_until), Ordering::SeqCst);
    }

    /// The time since boot before which every change is known here. To be asked *before* the cache is looked into.
    pub(in crate::service) fn known_until(&self) -> Duration {
        Duration::from_nanos(self.known_until.load(Ordering::SeqCst))
    }

    /// Whether that is recent enough. `now`, the time since boot, is to be asked *after* the cache was looked into: a
    /// process that was stopped in between must not say yes.
    pub(in crate::service) fn is_recent(&self, known_until: Duration, now: Duration) -> bool {
        now.saturating_sub(known_until) <= self.bound
    }

    /// Follows another server from here on. Whatever was read from the one before is forgotten, also what is kept
    /// later.
    pub(in crate::service) fn follow(&self, server: Incarnation) {
        self.server.store(server.number(), Ordering::SeqCst);
        self.forget_all();
    }

    /// Whether this server is the one whose change log is followed. To be asked *after* the query whose answer it
    /// returned: what the query found is of no use if the follower has found another server meanwhile. Before the first
    /// reading of the log, every server is.
    pub(in crate::service) fn follows(&self, server: Incarnation) -> bool {
        let followed = self.server.load(Ordering::SeqCst);
        followed == 0 || followed == server.number()
    }

    /// Notes whether the server whose change log is followed commits synchronously to a standby.
    pub(in crate::service) fn set_synchronous(&self, is_synchronous: bool) {
        self.is_synchronous.store(is_synchronous, Ordering::SeqCst);
    }

    /// Whether an answer of the database counts only if the log was read within the bound: that server commits
    /// synchronously to a standby, and its heartbeats show that it was not cut off from the standby.
    pub(in crate::service) fn is_synchronous(&self) -> bool {
        self.is_synchronous.load(Ordering::SeqCst)
    }

    /// Notes that a reading of the change log begins, and returns its number.
    pub(in crate::service) fn begin_reading(&self) -> u64 {
        self.readings.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Notes that a reading has reached the end of the log.
    pub(in crate::service) fn complete_reading(&self, number: u64) {
        self.completed.send_replace(number);
    }

    /// Asks for a reading at once, and returns whether one that began after now was completed in this time.
    pub(in crate::service) async fn next_reading(&self, limit: Duration) -> bool {
        let begun = self.readings.load(Ordering::SeqCst);
        let mut completed = self.completed.subscribe();
        self.wanted.notify_one();
        let newer = completed.wait_for(|number| *number > begun);
        timeout(limit, newer).await.is_ok_and(|waited| waited.is_ok())
    }

    /// Waits until a reading is asked for.
    pub(in crate::service) async fn reading_wanted(&self) {
        self.wanted.notified().await;
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

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence")
            .field("position", &self.position)
            .field("known_until", &self.known_until())
            .finish_non_exhaustive()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
