//! A pool of connections that is whole again as soon as the database is.
//!
//! A database that is stopped, or behind a network that swallows everything, breaks no connection for a long time: TCP
//! goes on for a quarter of an hour. The server's own bounds do not help then. So nothing is waited for without a bound: a
//! statement is given up a little after the server should have given it up, and its connection closed. What has not been used
//! for a while has to show a sign of life before it is used.
//!
//! A connection goes back into the pool at once, and the database is not asked, unless it is not known how it stands with it:
//! a caller has gone away in the middle of a statement, or of a transaction. Then it is rolled back first, by nobody who waits.
//! (sqlx's own pool asks every connection that goes back, and waits for the answer for ever. A connection whose answer is
//! swallowed keeps its place in that pool for as long as TCP goes on.)

mod lease;
#[cfg(test)]
mod tests;
mod transaction;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, mem};

use sea_orm::prelude::async_trait::async_trait;
use sea_orm::{ConnAcquireErr, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use lease::{Lease, Standing, within};
pub use transaction::{Affected, Transaction};

use super::connection::{Connection, Server};
use super::metrics::{Metrics, Snapshot};
use super::{Options, StoreError};

/// How long a connection may take to show that it is alive, and to be closed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// A connection that was idle for longer has to show that it is alive before it is used. Asking costs a round trip, so
/// the busy ones are not asked.
const TRUSTED_IDLE_TIME: Duration = Duration::from_secs(1);

/// A connection that was idle for longer is closed: firewalls forget such without a word, and to find that out takes longer
/// than to connect.
const MAX_IDLE_TIME: Duration = Duration::from_secs(5 * 60);

/// A connection that is older is closed when it is free, so that a change of the server's address comes through.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// How much longer than the server we wait for a statement.
const MARGIN: Duration = Duration::from_millis(500);

/// A pool of connections. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    server: Server,
    size: u32,
    /// Whoever has a permit may have a connection.
    permits: Arc<Semaphore>,
    /// The connections that nobody has. The last one was used last.
    idle: Mutex<Vec<Idle>>,
    acquire_timeout: Duration,
    /// How long to wait for a statement. `None`: there is nothing between us and the database, and its connections live
    /// as long as we do.
    patience: Option<Duration>,
    metrics: Metrics,
}

struct Idle {
    connection: Connection,
    opened: Instant,
    is_synced: bool,
    since: Instant,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of at most so many connections, none of which is open yet.
    pub(super) fn new(server: Server, size: u32, options: &Options) -> Self {
        let is_far = server.backend() != DbBackend::Sqlite;
        let permits = usize::try_from(size).unwrap_or(Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared {
            server,
            size,
            permits: Arc::new(Semaphore::new(permits)),
            idle: Mutex::default(),
            acquire_timeout: options.acquire_timeout,
            patience: is_far.then_some(options.statement_timeout + MARGIN),
            metrics: Metrics::default(),
        }))
    }

    /// As [`Self::new`], with one that is open.
    pub(super) async fn open(server: Server, size: u32, options: &Options) -> Result<Self, StoreError> {
        let pool = Self::new(server, size, options);
        drop(pool.lease().await?);
        Ok(pool)
    }

    pub(super) fn acquire_timeout(&self) -> Duration {
        self.0.acquire_timeout
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin(&self) -> Result<Transaction, DbErr> {
        Transaction::begin(self.get_database_backend(), self.lease().await?).await
    }

    /// The same, but whatever SQLite commits by a single statement need not outlive a power cut.
    pub(super) fn unsynced(&self) -> Unsynced<'_> {
        Unsynced(self)
    }

    pub(super) async fn ping(&self) -> Result<(), DbErr> {
        self.lease()
            .await?
            .run("PING", async |connection| connection.ping().await)
            .await
    }

    /// Waits for what is under way and closes all connections.
    pub(super) async fn close(&self) -> Result<(), DbErr> {
        // None, if it is closed already; then nothing is under way.
        let all = self.0.permits.acquire_many(self.0.size).await;
        self.0.permits.close();
        drop(all);
        for idle in self.0.take_idle() {
            idle.connection.close().await?;
        }
        Ok(())
    }

    /// What was counted since the start, and how many connections there are now.
    pub(super) fn snapshot(&self) -> Snapshot {
        let pool = &self.0;
        let size = usize::try_from(pool.size).unwrap_or(usize::MAX);
        let used = size.saturating_sub(pool.permits.available_permits());
        pool.metrics.snapshot(used, pool.idle().len())
    }

    /// Whether this is the same pool as another.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Takes the place of a connection, as whoever uses one does.
    #[cfg(test)]
    pub(crate) async fn occupy(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.0.permits.clone().acquire_owned().await.unwrap()
    }

    /// Waits for a connection, which may have to be opened.
    async fn lease(&self) -> Result<Lease, DbErr> {
        let asked = Instant::now();
        let lease = timeout(self.0.acquire_timeout, self.lease_whenever())
            .await
            .unwrap_or(Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)));
        self.0.metrics.waited(asked.elapsed());
        lease.inspect_err(|error| self.0.metrics.failed(error))
    }

    async fn lease_whenever(&self) -> Result<Lease, DbErr> {
        let pool = &self.0;
        let permit = pool.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))?;
        let lease = |connection, opened, is_synced| Lease {
            connection: Some(connection),
            opened,
            is_synced,
            standing: Standing::Good,
            trace: None,
            pool: pool.clone(),
            permit: Some(permit),
        };
        while let Some(mut idle) = pool.pop_idle() {
            if pool.is_alive(&mut idle).await {
                return Ok(lease(idle.connection, idle.opened, idle.is_synced));
            }
            pool.distrust();
        }
        // In a box: it is large and seldom.
        let connection = Box::pin(pool.server.connect()).await?;
        Ok(lease(connection, Instant::now(), true))
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop_idle(&self) -> Option<Idle> {
        self.idle().pop()
    }

    fn take_idle(&self) -> Vec<Idle> {
        mem::take(&mut self.idle())
    }

    /// Closes what nobody has. One that was silent, or lost, is seldom the only one, and to try them one after another would
    /// take longer than to connect.
    fn distrust(&self) {
        drop(self.take_idle());
    }

    async fn is_alive(&self, idle: &mut Idle) -> bool {
        let since = idle.since.elapsed();
        if self.patience.is_none() || since < TRUSTED_IDLE_TIME {
            return true;
        }
        since < MAX_IDLE_TIME && within(Some(SIGN_OF_LIFE), idle.connection.ping()).await.is_ok()
    }

    fn put_back(&self, connection: Connection, opened: Instant, is_synced: bool) {
        if self.patience.is_some() && opened.elapsed() > MAX_AGE {
            if let Ok(runtime) = Handle::try_current() {
                // Whether it hears of it or not.
                runtime.spawn(timeout(SIGN_OF_LIFE, connection.close()));
            }
            return;
        }
        let since = Instant::now();
        self.idle().push(Idle {
            connection,
            opened,
            is_synced,
            since,
        });
    }
}

#[async_trait]
impl ConnectionTrait for Pool {
    fn get_database_backend(&self) -> DbBackend {
        self.0.server.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.lease().await?.execute(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.lease().await?.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.lease().await?.query_one(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.lease().await?.query_all(statement).await
    }
}

/// A pool whose commits need not outlive a power cut, on SQLite. Those of a server are its own affair.
#[derive(Clone, Copy, Debug)]
pub struct Unsynced<'a>(&'a Pool);

#[async_trait]
impl ConnectionTrait for Unsynced<'_> {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.0.lease().await?.execute_unsynced(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.0.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0.query_all_raw(statement).await
    }
}
