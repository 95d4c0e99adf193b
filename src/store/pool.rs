//! Connection pool that recovers as soon as the database does, and follows failovers.
//!
//! A stopped database, or a network that drops packets, breaks no connection for a long time: TCP retries for a quarter
//! of an hour, and the timeouts of the server do not help then. Nothing here therefore waits without a timeout: a
//! statement is abandoned a little after the server should have abandoned it, and its connection is closed. A
//! connection that was idle for a while is verified before it is used.
//!
//! A connection returns to the pool at once, without a query to the database. The exception is a connection of unknown
//! state: its caller has gone away in the middle of a statement or of a transaction. It is first rolled back, in the
//! background.
//!
//! After a failover, the pool follows the server that accepts writes. Connections are opened only to such a server. All
//! connections that were opened before the failover was noticed form a *generation*. As soon as one of them answers for
//! another server, or reports that its server is read-only, the whole generation is closed. A statement without effect
//! is retried on a new connection; a statement that may have been committed never is.
//!
//! It replaces the pool of sqlx because of the upstream issue transact-rs/sqlx#4349: that pool pings every connection
//! that returns and waits for the answer without a timeout, so a connection that loses its answer in the network keeps
//! its slot for as long as TCP retries. Remove this pool when sqlx limits that wait and can close all connections of a
//! generation at once; the tests of database failures decide.

mod lease;
mod state;
mod statements;
#[cfg(test)]
mod tests;
mod transaction;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fmt, io};

use sea_orm::{ConnAcquireErr, ConnectionTrait as _, DbBackend, DbErr, QueryResult, Statement};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use lease::{Idle, Lease};
pub use statements::Unsynced;
pub use transaction::{Affected, DeferWrites, Transaction};

use super::connection::from_sqlx;
use super::identity::Incarnation;
use super::metrics::{Metrics, PoolSnapshot};
use super::server::Server;
use super::{Options, StoreError};

/// Timeout for the verification of a connection, and for its close.
const VERIFICATION_TIMEOUT: Duration = Duration::from_secs(1);

/// Idle time after which a connection is verified before it is used. The verification costs a round trip, so a
/// connection in frequent use is not verified.
const TRUSTED_IDLE_TIME: Duration = Duration::from_secs(1);

/// Idle time after which a connection is closed. Firewalls drop such connections silently, and to notice that takes
/// longer than to connect.
const MAX_IDLE_TIME: Duration = Duration::from_secs(5 * 60);

/// Age at which a connection that is not in use is closed.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// Time for which the pool waits for a statement beyond the statement timeout of the server.
const MARGIN: Duration = Duration::from_millis(500);

/// A connection pool. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<PoolState>);

struct PoolState {
    server: Arc<Server>,
    size: u32,
    /// One permit for each connection in use.
    permits: Arc<Semaphore>,
    /// The connections that are not in use. The last one was used last.
    idle: Mutex<Vec<Idle>>,
    acquire_timeout: Duration,
    /// Time limit of a statement. `None`: there is no network between this process and the database.
    statement_timeout: Option<Duration>,
    /// Time after which SQLite interrupts a statement. `None`: it does not.
    deadline: Option<Duration>,
    family: Arc<Backend>,
    /// Addition of this pool to the generation of its family.
    own_generation: AtomicU64,
    /// Whether the pool refuses to lease connections: the database requires a newer version of this program.
    is_closed: AtomicBool,
    metrics: Metrics,
}

/// The rows of a statement with a stamp (see `store::identity`), and the server that returned them.
pub(super) struct PoolResult {
    /// At least one row, from a server.
    pub(super) rows: Vec<QueryResult>,
    pub(super) incarnation: Incarnation,
    /// The generation of the connection.
    pub(super) generation: u64,
}

/// State that all pools of a store share.
#[derive(Default)]
struct Backend {
    generation: AtomicU64,
    /// Number of the server to which the last connection was opened. 0: none yet.
    server: AtomicU64,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// Creates a pool of at most `size` connections, none of which is open yet.
    pub(super) fn new(server: Arc<Server>, size: u32, options: &Options) -> Self {
        Self::of_family(Arc::default(), server, size, options, None)
    }

    fn of_family(
        family: Arc<Backend>,
        server: Arc<Server>,
        size: u32,
        options: &Options,
        deadline: Option<Duration>,
    ) -> Self {
        let is_remote = server.backend() != DbBackend::Sqlite;
        let permits = usize::try_from(size).unwrap_or(Semaphore::MAX_PERMITS);
        Self(Arc::new(PoolState {
            server,
            size,
            permits: Arc::new(Semaphore::new(permits)),
            idle: Mutex::default(),
            acquire_timeout: options.acquire_timeout,
            statement_timeout: is_remote.then_some(options.statement_timeout + MARGIN),
            deadline,
            family,
            own_generation: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            metrics: Metrics::default(),
        }))
    }

    /// As [`Self::new`], with one open connection.
    pub(super) async fn open(server: Arc<Server>, size: u32, options: &Options) -> Result<Self, StoreError> {
        let pool = Self::new(server, size, options);
        drop(pool.lease().await?);
        Ok(pool)
    }

    /// Creates another pool of connections to the same server. The generations of both pools end together. `deadline`:
    /// time after which SQLite interrupts a statement, which also ends when its caller goes away. A server has a
    /// statement timeout of its own.
    pub(super) fn sibling(&self, size: u32, options: &Options, deadline: Option<Duration>) -> Self {
        let (family, server) = (self.0.family.clone(), self.0.server.clone());
        Self::of_family(family, server, size, options, deadline)
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.0.server
    }

    pub(super) fn acquire_timeout(&self) -> Duration {
        self.0.acquire_timeout
    }

    /// Begins a transaction that writes. A connection that turns out to be closed at BEGIN is replaced, since nothing
    /// was sent before.
    pub(super) async fn begin(&self) -> Result<Transaction, DbErr> {
        let mut retries = self.retries(true);
        loop {
            let begun = Transaction::begin(self.get_database_backend(), self.lease().await?).await;
            if !retries.allow_another(&begun) {
                return begun;
            }
        }
    }

    /// Returns the same pool, except that a power cut may undo the commit of a single statement on SQLite.
    pub(super) fn unsynced(&self) -> Unsynced<'_> {
        Unsynced::of(self)
    }

    /// Verifies that a server that accepts writes answers.
    pub(super) async fn ping(&self) -> Result<(), DbErr> {
        let mut retries = self.retries(true);
        loop {
            let outcome = self.lease().await?.verify().await;
            if !retries.allow_another(&outcome) {
                return outcome;
            }
        }
    }

    /// Reads by a statement with a stamp (see `store::identity`). An answer of a server that does not accept writes, or
    /// of another server than that of the connection, is not returned: the connections of this generation are closed,
    /// and the statement is executed again.
    pub(super) async fn query_stamped(&self, statement: Statement) -> Result<PoolResult, DbErr> {
        let mut retries = self.retries(true);
        loop {
            let answer = self.lease().await?.query_stamped(statement.clone()).await;
            if !retries.allow_another(&answer) {
                return answer;
            }
        }
    }

    /// Opens a new connection and closes the previous ones; those in use are closed when they are returned. If no
    /// connection can be opened, the previous ones stay. Returns whether the server commits synchronously to a standby.
    pub(super) async fn renew(&self) -> Result<bool, DbErr> {
        let pool = &self.0;
        let connecting = timeout(pool.acquire_timeout, Box::pin(pool.connect()));
        let mut fresh = connecting
            .await
            .unwrap_or(Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)))
            .inspect_err(|error| pool.metrics.failed(error))?;
        // If the generation has ended in the meantime, this also applies to the new connection.
        pool.own_generation.fetch_add(1, Ordering::SeqCst);
        fresh.generation += 1;
        pool.close_idle();
        let is_synchronous = fresh.identity.is_synchronous;
        pool.put_back(fresh);
        Ok(is_synchronous)
    }

    /// Closes the open connections of this pool and of its siblings: at once, or when they are returned.
    pub(super) fn end_generation(&self) {
        self.0.end_generation();
    }

    /// The generation of connections that are opened now.
    pub(super) fn generation(&self) -> u64 {
        self.0.generation()
    }

    /// Closes the pool to its callers, or opens it again.
    pub(super) fn set_closed(&self, is_closed: bool) {
        self.0.is_closed.store(is_closed, Ordering::Relaxed);
    }

    /// Waits for the operations under way and closes all connections.
    pub(super) async fn close(&self) -> Result<(), DbErr> {
        // An error means that the pool is already closed and no operation is under way.
        let all = self.0.permits.acquire_many(self.0.size).await;
        self.0.permits.close();
        drop(all);
        for idle in self.0.take_idle() {
            idle.pooled.connection.close().await?;
        }
        Ok(())
    }

    /// Returns the counters since the start, and the current number of connections.
    pub(super) fn snapshot(&self) -> PoolSnapshot {
        let pool = &self.0;
        let size = usize::try_from(pool.size).unwrap_or(usize::MAX);
        let used = size.saturating_sub(pool.permits.available_permits());
        pool.metrics.snapshot(used, pool.idle().len())
    }

    /// Returns whether both handles belong to the same pool.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Takes the slot of a connection, as its user does.
    #[cfg(test)]
    pub(crate) async fn occupy(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.0.permits.clone().acquire_owned().await.unwrap()
    }

    /// Waits for a connection, which may have to be opened.
    async fn lease(&self) -> Result<Lease, DbErr> {
        let begun = Instant::now();
        let lease = timeout(self.0.acquire_timeout, self.lease_without_timeout())
            .await
            .unwrap_or(Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)));
        self.0.metrics.waited(begun.elapsed());
        lease.inspect_err(|error| self.0.metrics.failed(error))
    }

    async fn lease_without_timeout(&self) -> Result<Lease, DbErr> {
        let pool = &self.0;
        if pool.is_closed.load(Ordering::Relaxed) {
            let why = "the database requires a newer version of this program";
            return Err(DbErr::Conn(from_sqlx(io::Error::other(why).into())));
        }
        pool.server.check_file()?;
        let permit = pool.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))?;
        while let Some(idle) = pool.pop_idle() {
            if let Some(pooled) = pool.verified(idle).await {
                return Ok(Lease::new(pooled, pool.clone(), permit));
            }
        }
        // Boxed because the future is large and rare.
        let pooled = Box::pin(pool.connect()).await?;
        Ok(Lease::new(pooled, pool.clone(), permit))
    }
}
