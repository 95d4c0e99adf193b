//! S3-FIFO cache of sessions. Its entries may be stale: [`crate::service::revocation::fence`] decides whether an entry
//! may be used.

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

/// A session and its user, as read from the database.
#[derive(Debug)]
pub struct KnownSession {
    user: User,
    session: Session,
    /// Time of the last use of the session, in microseconds since the epoch. It advances while the session is cached.
    last_seen_at: AtomicI64,
    version: Version,
}

impl KnownSession {
    /// Creates the result of a query that was sent when `version` was reached.
    pub(super) fn new(user: User, session: Session, version: Version) -> Self {
        Self {
            last_seen_at: AtomicI64::new(session.last_seen_at.timestamp_micros()),
            user,
            session,
            version,
        }
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The session as it was read. For its last use see [`Self::last_seen_at`].
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Time of the last use of the session, with a precision of about a minute.
    #[must_use]
    pub fn last_seen_at(&self) -> Timestamp {
        Timestamp::from_timestamp_micros(self.last_seen_at.load(Ordering::Relaxed))
            .unwrap_or(self.session.last_seen_at)
    }

    /// Records a use of the session. Never moves the time back. Returns whether it has moved it.
    pub(super) fn see(&self, now: Timestamp) -> bool {
        let now = now.timestamp_micros();
        self.last_seen_at.fetch_max(now, Ordering::Relaxed) < now
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }
}

/// A limited number of sessions. The cache evicts the least used ones (S3-FIFO).
pub(super) struct Cache {
    sessions: QuickCache<
        TokenHash,
        Arc<KnownSession>,
        UnitWeighter,
        BuildHasherDefault<Sha256Hasher>,
        CollectEvicted,
    >,
    metrics: Arc<RareCounters>,
}

/// Collects the evicted entries.
#[derive(Clone)]
struct CollectEvicted;

impl Lifecycle<TokenHash, Arc<KnownSession>> for CollectEvicted {
    /// There is rarely more than one. They are freed after the cache is unlocked.
    type RequestState = Vec<(TokenHash, Arc<KnownSession>)>;

    fn on_evict(&self, evicted: &mut Self::RequestState, token: TokenHash, session: Arc<KnownSession>) {
        evicted.push((token, session));
    }
}

impl Cache {
    /// Creates a cache of at most `capacity` sessions.
    pub(super) fn new(capacity: usize, metrics: Arc<RareCounters>) -> Self {
        let sessions = QuickCache::with(
            capacity,
            u64::try_from(capacity).unwrap_or(u64::MAX),
            UnitWeighter,
            BuildHasherDefault::default(),
            CollectEvicted,
        );
        Self { sessions, metrics }
    }

    pub(super) fn get(&self, token: &TokenHash) -> Option<Arc<KnownSession>> {
        self.sessions.get(token)
    }

    pub(super) fn insert(&self, token: TokenHash, session: Arc<KnownSession>) {
        let inserted = session.clone();
        let mut evicted = Vec::new();
        self.sessions.insert_with_lifecycle(token, session, &mut evicted);
        for (other, session) in &evicted {
            // An older entry of the same token was replaced, not evicted. The new entry itself may have been evicted at
            // once.
            if *other != token || Arc::ptr_eq(session, &inserted) {
                self.metrics.evictions.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn remove(&self, token: &TokenHash) {
        self.sessions.remove(token);
    }

    /// Number of cached sessions, stale ones included.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }
}

/// Identity hash: the key is a SHA-256 of a random token of this service, so any eight bytes of it are a good hash.
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

    /// The length of the array, which is constant.
    fn write_usize(&mut self, _: usize) {}
}
