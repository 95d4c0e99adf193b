//! Version fence: decides whether data from the database may still be used. It keeps the cache from accepting a revoked
//! session.
//!
//! A cached answer is valid under three conditions:
//!
//! - **No revocation in this process.** Every invalidation has a *version*, a number that only grows. The fence keeps
//!   the version of the last invalidation of every user and token ([`Fence::forget`]), and an answer keeps the version
//!   that was reached *before* its query was sent. The answer is valid only if that version is not lower than the last
//!   invalidation of its user and its token. A reader may load a row, be overtaken by a revocation, and cache the stale
//!   row afterwards: its version is too old, so the row is never used. The fence has to find and remove nothing, and
//!   takes no lock.
//! - **No revocation in another process.** The change log was read to its end by a query that was sent at most one
//!   staleness bound ago, to the server to which new connections then led ([`Fence::publish`]).
//! - **The same server for both.** The follower reads the change log of one server. An answer of any other server is
//!   neither cached nor returned ([`Fence::follows`]). When the follower finds another server, or another history of
//!   the log, everything is invalidated.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::domain::token::TokenHash;
use crate::domain::user::UserId;
use crate::store::Incarnation;

/// Number of slots for the invalidations of users, and as many for those of tokens, 8 bytes each. Users in the same
/// slot are invalidated together, which costs one query each and is never wrong.
const SLOTS: usize = 32 * 1024;

/// A point in the order of all invalidations of this process.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::service) struct Version(u64);

/// Invalidations of this process, and how current its knowledge of the change log is.
pub(in crate::service) struct Fence {
    bound: Duration,
    version: AtomicU64,
    /// Version of the last invalidation of all users.
    all_forgotten: AtomicU64,
    /// Version of the last invalidation of the users of each slot.
    users_forgotten: Box<[AtomicU64]>,
    /// Version of the last invalidation of the tokens of each slot.
    tokens_forgotten: Box<[AtomicU64]>,
    /// Time since boot, in nanoseconds, before which every change is known to this process.
    known_until: AtomicU64,
    /// Number of the followed server, the owner of the change log. 0: none yet.
    server: AtomicU64,
    /// Whether that server commits synchronously to a standby.
    is_synchronous: AtomicBool,
    /// Number of readings of the change log that have begun.
    readings: AtomicU64,
    /// Number of the last reading that reached the end of the log.
    completed: watch::Sender<u64>,
    /// Requests a reading before the next interval.
    requested: Notify,
}

impl Fence {
    /// Creates a fence without any knowledge. `bound` is the maximum age of the last reading of the change log.
    pub(in crate::service) fn new(bound: Duration) -> Self {
        Self {
            bound,
            version: AtomicU64::new(0),
            all_forgotten: AtomicU64::new(0),
            users_forgotten: slots(),
            tokens_forgotten: slots(),
            known_until: AtomicU64::new(0),
            server: AtomicU64::new(0),
            is_synchronous: AtomicBool::new(false),
            readings: AtomicU64::new(0),
            completed: watch::Sender::new(0),
            requested: Notify::new(),
        }
    }

    /// The staleness bound.
    pub(in crate::service) fn bound(&self) -> Duration {
        self.bound
    }

    /// The current version. Read it before a query if its answer is kept.
    pub(in crate::service) fn version(&self) -> Version {
        Version(self.version.load(Ordering::SeqCst))
    }

    /// Invalidates all data about a user that was read before now. Call it after the commit and before the response.
    pub(in crate::service) fn forget(&self, user: UserId) {
        self.forget_at(self.slot_of_user(user));
    }

    /// Invalidates the session of one token, as [`Self::forget`], for any user.
    pub(in crate::service) fn forget_token(&self, token: &TokenHash) {
        self.forget_at(self.slot_of_token(token));
    }

    /// Invalidates all data that was read before now.
    pub(in crate::service) fn forget_all(&self) {
        self.forget_at(&self.all_forgotten);
    }

    fn forget_at(&self, slot: &AtomicU64) {
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        // If two calls race, the later version stays.
        slot.fetch_max(version, Ordering::SeqCst);
    }

    /// Returns whether neither the user nor the token was invalidated since `version`.
    pub(in crate::service) fn is_current(&self, version: Version, user: UserId, token: &TokenHash) -> bool {
        [
            self.slot_of_user(user),
            self.slot_of_token(token),
            &self.all_forgotten,
        ]
        .into_iter()
        .all(|forgotten| forgotten.load(Ordering::SeqCst) <= version.0)
    }

    /// Records that every change that was committed before this time since boot was applied here.
    pub(in crate::service) fn publish(&self, known_until: Duration) {
        self.known_until.store(nanoseconds(known_until), Ordering::SeqCst);
    }

    /// Time since boot before which every change is known here. Read it *before* the cache look-up.
    pub(in crate::service) fn known_until(&self) -> Duration {
        Duration::from_nanos(self.known_until.load(Ordering::SeqCst))
    }

    /// Returns whether that time is recent enough. Read `now`, the time since boot, *after* the cache look-up: a
    /// process that was stopped in between must not accept the session.
    pub(in crate::service) fn is_recent(&self, known_until: Duration, now: Duration) -> bool {
        now.saturating_sub(known_until) <= self.bound
    }

    /// Follows another server from now on. Invalidates everything that was read from the previous server, including
    /// answers that are cached later.
    pub(in crate::service) fn follow(&self, server: Incarnation) {
        self.server.store(server.number(), Ordering::SeqCst);
        self.forget_all();
    }

    /// Returns whether this is the followed server. Call it *after* the query that the server answered: the result is
    /// unusable if the follower has found another server in the meantime. Before the first reading of the log, every
    /// server counts as followed.
    pub(in crate::service) fn follows(&self, server: Incarnation) -> bool {
        let followed = self.server.load(Ordering::SeqCst);
        followed == 0 || followed == server.number()
    }

    /// Records whether the followed server commits synchronously to a standby.
    pub(in crate::service) fn set_synchronous(&self, is_synchronous: bool) {
        self.is_synchronous.store(is_synchronous, Ordering::SeqCst);
    }

    /// Returns whether an answer of the database is usable only if the log was read within the staleness bound. That
    /// server commits synchronously to a standby, and its heartbeats prove that it is not cut off from the standby.
    pub(in crate::service) fn is_synchronous(&self) -> bool {
        self.is_synchronous.load(Ordering::SeqCst)
    }

    /// Records the start of a reading of the change log, and returns its number.
    pub(in crate::service) fn begin_reading(&self) -> u64 {
        self.readings.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Records that a reading has reached the end of the log.
    pub(in crate::service) fn complete_reading(&self, number: u64) {
        self.completed.send_replace(number);
    }

    /// Requests a reading at once. Returns whether a reading that began after now was completed within `limit`.
    pub(in crate::service) async fn next_reading(&self, limit: Duration) -> bool {
        let begun = self.readings.load(Ordering::SeqCst);
        let mut completed = self.completed.subscribe();
        self.requested.notify_one();
        let newer = completed.wait_for(|number| *number > begun);
        timeout(limit, newer).await.is_ok_and(|waited| waited.is_ok())
    }

    /// Waits until a reading is requested.
    pub(in crate::service) async fn reading_requested(&self) {
        self.requested.notified().await;
    }

    /// The last 8 bytes of a UUIDv7 are random except for their first two bits.
    fn slot_of_user(&self, user: UserId) -> &AtomicU64 {
        slot(&self.users_forgotten, user.0.as_u64_pair().1)
    }

    fn slot_of_token(&self, token: &TokenHash) -> &AtomicU64 {
        slot(&self.tokens_forgotten, token.random())
    }
}

fn slots() -> Box<[AtomicU64]> {
    (0..SLOTS).map(|_| AtomicU64::new(0)).collect()
}

fn slot(slots: &[AtomicU64], random: u64) -> &AtomicU64 {
    &slots[usize::try_from(random % SLOTS as u64).unwrap_or_default()]
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence")
            .field("version", &self.version)
            .field("known_until", &self.known_until())
            .finish_non_exhaustive()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
