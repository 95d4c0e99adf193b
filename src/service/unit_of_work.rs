//! Unit of work: begins, runs, commits and retries the transactions of accounts, codes and administration.
//!
//! These three services are siblings. They share the database, the clock, the audit log, the throttle and the change
//! log of revocations. Each of them owns a clone of the unit of work, and none of them reads the fields of another one.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::audit::Audit;
use super::error::Error;
use super::retry::retry;
use super::revocation::ChangeLog;
use super::throttle::Throttle;
use crate::clock::{Clock, Timestamp};
use crate::domain::user::UserId;
use crate::store::changes::RevocationChange;
use crate::store::{Store, Transaction};
use crate::telemetry::tracing::TraceContext;

/// The shared parts of a write: store, clock, audit log, throttle, change log and tasks. Cheap to clone.
#[derive(Clone)]
pub struct UnitOfWork(Arc<SharedState>);

struct SharedState {
    store: Store,
    clock: Arc<dyn Clock>,
    audit: Audit,
    throttle: Throttle,
    changes: ChangeLog,
    tasks: TaskTracker,
}

/// How the steps of a transaction end it.
pub(super) enum TransactionEnd<T> {
    /// Commits the transaction together with these entries of the change log.
    Commit {
        value: T,
        changes: Vec<RevocationChange>,
    },
    /// Rolls the transaction back: the steps have nothing to write.
    Rollback(T),
}

/// The steps of a transaction, as a future. Boxed, so that the compiler knows that it is `Send`: one allocation is
/// cheap beside a transaction.
pub(super) type Steps<'t, T> = Pin<Box<dyn Future<Output = Result<TransactionEnd<T>, Error>> + Send + 't>>;

/// Proves to the compiler that the environment of the steps outlives their transaction, so that they may borrow from
/// it.
pub(super) struct Borrows<'t, 'env>(PhantomData<&'t &'env ()>);

impl<T> TransactionEnd<T> {
    /// Commits a transaction that revokes nothing.
    pub(super) fn commit(value: T) -> Self {
        let changes = Vec::new();
        Self::Commit { value, changes }
    }

    /// Commits a transaction that revokes sessions or changes a user.
    pub(super) fn commit_with(changes: Vec<RevocationChange>, value: T) -> Self {
        Self::Commit { value, changes }
    }

    /// Commits a change of a user, of which every replica has to know.
    pub(super) fn commit_change_of(user: UserId, value: T) -> Self {
        Self::commit_with(vec![RevocationChange::UserChanged { user }], value)
    }
}

impl UnitOfWork {
    /// Unit of work on this store. `tasks` tracks the writes that finish before the process ends.
    #[must_use]
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        throttle: Throttle,
        changes: ChangeLog,
        tasks: TaskTracker,
    ) -> Self {
        Self(Arc::new(SharedState {
            audit: Audit::new(store.clone(), clock.clone(), tasks.clone()),
            store,
            clock,
            throttle,
            changes,
            tasks,
        }))
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(super) fn throttle(&self) -> &Throttle {
        &self.0.throttle
    }

    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Runs the steps in a transaction, and ends it as they decide. After a conflict with another transaction it runs
    /// all of them again, see [`retry`]. An error of the steps rolls the transaction back.
    ///
    /// # Errors
    /// The error of the steps; [`Error::DatabaseUnavailable`] when the transaction does not begin or does not commit;
    /// [`Error::Internal`] when the database rejects a deferred write.
    pub(super) async fn transact<'env, T>(
        &self,
        steps: impl for<'t> Fn(&'t Transaction, Borrows<'t, 'env>) -> Steps<'t, T>,
    ) -> Result<T, Error> {
        retry(|| self.transact_once(&steps)).await
    }

    async fn transact_once<'env, T>(
        &self,
        steps: &impl for<'t> Fn(&'t Transaction, Borrows<'t, 'env>) -> Steps<'t, T>,
    ) -> Result<T, Error> {
        let tx = self.0.store.begin().await?;
        match steps(&tx, Borrows(PhantomData)).await? {
            TransactionEnd::Commit { value, changes } => {
                self.0.changes.commit(tx, &changes).await?;
                Ok(value)
            }
            TransactionEnd::Rollback(value) => Ok(value),
        }
    }

    /// Runs work to its end in a task of its own, even if the caller disconnects meanwhile.
    ///
    /// # Errors
    /// The error of the work; [`Error::Internal`] when it panics.
    pub(super) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let trace = TraceContext::current();
        let work = async move { trace.scope(work).await };
        let task = self.0.tasks.spawn(work.in_current_span());
        task.await.map_err(Error::internal)?
    }
}
