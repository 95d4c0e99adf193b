//! Write batching of the last use of sessions: a check must not wait for a write.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{MAX_SKEW, Timestamp};
use crate::domain::session::{Lifetimes, SessionId};
use crate::store::{Store, StoreError, sessions};

/// Maximum number of sessions with an unwritten use. Beyond it, a use is recorded a minute later.
const MAX_PENDING: usize = 100_000;

/// Maximum difference of the uses that one statement writes.
const SPREAD: Duration = Duration::from_secs(1);

/// Maximum number of sessions that one statement writes.
const BATCH: usize = 500;

/// Uses that are recorded and not yet written.
#[derive(Default)]
pub(super) struct LastSeen {
    pending: Mutex<HashMap<SessionId, Timestamp>>,
}

impl LastSeen {
    /// Records a use of a session.
    pub(super) fn note(&self, session: SessionId, now: Timestamp) {
        let mut pending = self.lock();
        if pending.len() < MAX_PENDING || pending.contains_key(&session) {
            let seen = pending.entry(session).or_insert(now);
            // A use in the future was recorded before the clock was corrected.
            if *seen < now || *seen > now + MAX_SKEW {
                *seen = now;
            }
        }
    }

    /// Returns the last use of a session that is not yet written. A use more than [`MAX_SKEW`] in the future was
    /// recorded before the clock was corrected. It is dropped, since it would extend the session beyond its idle
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

    /// Writes the recorded uses. All sessions of a batch get the time of its earliest use, so that no time is later
    /// than the real use, and at most [`SPREAD`] earlier.
    ///
    /// # Errors
    /// The database fails. The uses that were not written are kept.
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
        // No code panics under the lock, and the map is consistent even if it did.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
