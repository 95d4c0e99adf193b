//! Committing what others have to know of: in the database for the other processes, and here at once.

pub(in crate::service) mod fence;
pub(in crate::service) mod follower;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::store::changes::{self, RevocationChange};
use crate::store::{StoreError, Transaction};
use fence::Fence;

/// Commits transactions that take something back. Cheap to clone.
#[derive(Clone)]
pub struct ChangeLog {
    clock: Arc<dyn Clock>,
    freshness: Arc<Fence>,
}

impl ChangeLog {
    /// A change log of a process that knows nothing yet. `bound` is how old its knowledge may get while it answers from
    /// memory.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, bound: Duration) -> Self {
        Self {
            clock,
            freshness: Arc::new(Fence::new(bound)),
        }
    }

    /// Writes the changes into the log, commits, and forgets what this process knew about the people in question.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn commit(&self, tx: Transaction, changes: &[RevocationChange]) -> Result<(), StoreError> {
        // Whatever the outcome, and even if nobody waits for it any more: a commit may have happened.
        let _forgets = Forgets {
            freshness: &self.freshness,
            changes,
        };
        changes::commit(tx, changes, self.clock.now()).await
    }

    pub(super) fn freshness(&self) -> &Arc<Fence> {
        &self.freshness
    }
}

/// Forgets the people of these changes when it is dropped.
struct Forgets<'a> {
    freshness: &'a Fence,
    changes: &'a [RevocationChange],
}

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        for change in self.changes {
            self.freshness.forget(change.user());
        }
    }
}
