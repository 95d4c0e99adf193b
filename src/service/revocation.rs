//! Revocation: a version fence and a change log. A commit that revokes something writes it into the database for other
//! processes, and invalidates the cache of this process at once.

pub(in crate::service) mod fence;
pub(in crate::service) mod follower;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::store::changes::{self, RevocationChange};
use crate::store::{StoreError, Transaction};
use fence::Fence;

/// Commits transactions that revoke something. Cheap to clone.
#[derive(Clone)]
pub struct ChangeLog {
    clock: Arc<dyn Clock>,
    fence: Arc<Fence>,
}

impl ChangeLog {
    /// Creates the change log of a process that has read nothing yet. `bound` is the staleness bound of cached answers.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, bound: Duration) -> Self {
        Self {
            clock,
            fence: Arc::new(Fence::new(bound)),
        }
    }

    /// Writes the changes into the log, commits, and invalidates the cached sessions of the users.
    ///
    /// # Errors
    /// The database fails.
    pub async fn commit(&self, tx: Transaction, changes: &[RevocationChange]) -> Result<(), StoreError> {
        // Invalidates whatever the outcome, even if the caller has gone away: the transaction may have committed.
        let _invalidate = InvalidateOnDrop {
            fence: &self.fence,
            changes,
        };
        changes::commit(tx, changes, self.clock.now()).await
    }

    pub(super) fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }
}

/// Invalidates the users of these changes when it is dropped.
struct InvalidateOnDrop<'a> {
    fence: &'a Fence,
    changes: &'a [RevocationChange],
}

impl Drop for InvalidateOnDrop<'_> {
    fn drop(&mut self) {
        for change in self.changes {
            self.fence.forget(change.user());
        }
    }
}
