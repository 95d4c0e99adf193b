//! The sessions that were asked for lately, in memory. What is in here may be out of date:
//! [`crate::service::revocation::fence`] says whether it may be used.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use quick_cache::sync::Cache as QuickCache;
use quick_cache::{Lifecycle, UnitWeighter};

use super::metrics::RareCounters;
use crate::clock::Timestamp;
use crate::domain::session::Session;
use crate::domain::token::TokenHash;
use crate::domain::user::User;
use crate::service::revocation::fence::Version;

/// A session and its person, as they were read from the database.
#[derive(Debug)]
pub struct KnownSession {
    user: User,
    session: Session,
    /// When the session was last used, in microseconds since the epoch. It moves on while the session is known.
    last_seen_at: AtomicI64,
    position: Version,
}

impl KnownSession {
    /// What a query found that was sent when `position` had been reached.
    pub(super) fn new(user: User, session: Session, position: Version) -> Self {
        Self {
            last_seen_at: AtomicI64::new(session.last_seen_at.timestamp_micros()),
            user,
            session,
            position,
        }
    }

    /// The person.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The session, as it was when it was read: see [`Self::last_seen_at`].
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// When the session was last used, to about a minute.
    #[must_use]
    pub fn last_seen_at(&self) -> Timestamp {
        Timestamp::from_timestamp_micros(self.last_seen_at.load(Ordering::Relaxed))
            .unwrap_or(self.session.last_seen_at)
    }

    /// Notes that the session was used. Never moves the time back, and says whether it has moved it.
    pub(super) fn see(&self, now: Timestamp) -> bool {
        let now = now.timestamp_micros();
        self.last_seen_at.fetch_max(now, Ordering::Relaxed) < now
    }

    pub(super) fn position(&self) -> Version {
        self.position
    }
}

/// A bounded number of sessions. What is asked for least makes room (S3-FIFO).
pub(super) struct Cache {
    sessions:
        QuickCache<TokenHash, Arc<KnownSession>, UnitWeighter, BuildHasherDefault<Sha256Hasher>, TakenOut>,
    metrics: Arc<RareCounters>,
}

/// Says who was taken out for another.
#[derive(Clone)]
struct TakenOut;

impl Lifecycle<TokenHash, Arc<KnownSession>> for TakenOut {
    /// Seldom more than one. They are freed after the cache is unlocked.
    type RequestState = Vec<(TokenHash, Arc<KnownSession>)>;

    fn on_evict(&self, taken_out: &mut Self::RequestState, token: TokenHash, session: Arc<KnownSession>) {
        taken_out.push((token, session));
    }
}

impl Cache {
    /// Room for so many sessions.
    pub(super) fn new(capacity: usize, metrics: Arc<RareCounters>) -> Self {
        let sessions = QuickCache::with(
            capacity,
            u64::try_from(capacity).unwrap_or(u64::MAX),
            UnitWeighter,
            BuildHasherDefault::default(),
            TakenOut,
        );
        Self { sessions, metrics }
    }

    pub(super) fn get(&self, token: &TokenHash) -> Option<Arc<KnownSession>> {
        self.sessions.get(token)
    }

    pub(super) fn insert(&self, token: TokenHash, session: Arc<KnownSession>) {
        let inserted = session.clone();
        let mut taken_out = Vec::new();
        self.sessions
            .insert_with_lifecycle(token, session, &mut taken_out);
        for (other, session) in &taken_out {
            // Another reading of the same session has not made room, but this one may have, at once.
            if *other != token || Arc::ptr_eq(session, &inserted) {
                self.metrics.evictions.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn remove(&self, token: &TokenHash) {
        self.sessions.remove(token);
    }

    /// How many sessions are in it, good or out of date.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }
}

/// The key is a SHA-256 already, of a token that we have made: any eight bytes of it are as good a hash as there is.
#[derive(Default)]
struct Sha256Hasher(u64);

impl Hasher for Sha256Hasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_ne_bytes(*last);
        }
    }

    /// The length of the array, which is always the same.
    fn write_usize(&mut self, _: usize) {}
}
