//! When sessions were last used, written in batches: a check must not wait for a write.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{MAX_SKEW, Timestamp};
use crate::domain::session::{Lifetimes, SessionId};
use crate::store::{Store, StoreError, sessions};

/// The most sessions whose use waits to be written; what is past it is noted a minute later.
const MAX_PENDING: usize = 100_000;

/// How far apart the uses may be that are written with one statement.
const SPREAD: Duration = Duration::from_secs(1);

/// The most sessions that are written with one statement.
const BATCH: usize = 500;

/// What was noted and is not written yet.
#[derive(Default)]
pub(super) struct LastSeen {
    pending: Mutex<HashMap<SessionId, Timestamp>>,
}

impl LastSeen {
    /// Notes that a session was used.
    pub(super) fn note(&self, session: SessionId, now: Timestamp) {
        let mut pending = self.lock();
        if pending.len() < MAX_PENDING || pending.contains_key(&session) {
            let seen = pending.entry(session).or_insert(now);
            // A use that is ahead was recorded before the clock was corrected.
            if *seen < now || *seen > now + MAX_SKEW {
                *seen = now;
            }
        }
    }

    /// The last use of a session that is not written yet. A use that is further ahead than [`MAX_SKEW`] was recorded
    /// before the clock was corrected, and is dropped: it would keep the session valid for longer than its idle
    /// lifetime.
    pub(super) fn pending(&self, session: SessionId, now: Timestamp) -> Option<Timestamp> {
        let mut pending = self.lock();
        let seen = pending.get(&session).copied()?;
        if seen > now + MAX_SKEW {
            pending.remove(&session);
            return None;
        }
        Some(seen)
    }

    /// Writes what was noted. The sessions of a batch get the time of the one among them that was used first, so that
    /// no time is later than it was; it is at most [`SPREAD`] too early.
    ///
    /// # Errors
    /// When the database fails; what is not written then is kept.
    pub(super) async fn flush(&self, store: &Store, lifetimes: &Lifetimes) -> Result<(), StoreError> {
        let mut noted: Vec<(SessionId, Timestamp)> = self
            .lock()
            .iter()
            .map(|(session, seen)| (*session, *seen))
            .collect();
        noted.sort_unstable_by_key(|(_, seen)| *seen);
        let mut rest = noted.as_slice();
        while let Some((_, first)) = rest.first() {
            let length = rest
                .partition_point(|(_, seen)| *seen <= *first + SPREAD)
                .min(BATCH);
            let (batch, after) = rest.split_at(length);
            rest = after;
            let ids: Vec<SessionId> = batch.iter().map(|(session, _)| *session).collect();
            let tx = store.begin().await?;
            sessions::set_last_seen(&tx, &ids, *first, lifetimes).await?;
            tx.commit().await?;
            let mut pending = self.lock();
            for (session, seen) in batch {
                if pending.get(session) == Some(seen) {
                    pending.remove(session);
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Timestamp>> {
        // Nothing panics while it is held, and a map that was left half way would be whole all the same.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
