//! A connection pool that recovers as soon as the database does.
//!
//! A database that is stopped, or behind a network that drops packets, breaks no connection for a long time: TCP
//! retries for a quarter of an hour, and the server's own timeouts do not help then. So nothing here waits without a
//! timeout: a statement is abandoned a little after the server should have abandoned it, and its connection is closed.
//! A connection that was idle for a while is verified before it is used.
//!
//! A connection returns to the pool at once, without a question to the database, unless its state is not known, because
//! its caller has gone in the middle of a statement or of a transaction. Then it is rolled back first, in the
//! background. (sqlx's own pool pings every connection that returns, and waits for the answer without a timeout. A
//! connection whose answer is lost in the network keeps its slot in that pool for as long as TCP retries.)
//!
//! After a failover the pool follows the server that accepts writes. A connection is opened to such a server only, and
//! is closed together with all of its *generation*, which are the connections that were opened before the failover was
//! noticed, as soon as one of them answers for another server, or that its server is read-only. What had no effect is
//! retried on a new connection; what may have been committed never is.

mod lease;
mod statements;
#[cfg(test)]
mod tests;
mod transaction;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io, mem};

use sea_orm::{ConnAcquireErr, ConnectionTrait as _, DbBackend, DbErr, QueryResult, Statement};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use lease::{Idle, Lease, Pooled, within};
pub use statements::Unsynced;
pub use transaction::{Affected, DeferWrites, Transaction};

use super::connection::{from_sqlx, is_broken};
use super::error::DbErrorKind;
use super::identity::Incarnation;
use super::metrics::{Metrics, PoolSnapshot};
use super::server::Server;
use super::{Options, StoreError};

/// How long a connection may take to be verified, and to be closed.
const VERIFICATION_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that was idle for longer is verified before it is used. That costs a round trip, so a busy one is not.
const TRUSTED_IDLE_TIME: Duration = Duration::from_secs(1);

/// A connection that was idle for longer is closed: firewalls drop such connections silently, and to find that out
/// takes longer than to connect.
const MAX_IDLE_TIME: Duration = Duration::from_secs(5 * 60);

/// A connection that is older is closed when it is free.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// How much longer than the server's statement timeout the pool waits for a statement.
const MARGIN: Duration = Duration::from_millis(500);

/// A connection pool. Cheap to clone.
#[derive(Clone)]
pub struct Pool(Arc<PoolState>);

struct PoolState {
    server: Arc<Server>,
    size: u32,
    /// One permit for each connection that is used.
    permits: Arc<Semaphore>,
    /// The connections that are not used. The last one was used last.
    idle: Mutex<Vec<Idle>>,
    acquire_timeout: Duration,
    /// How long to wait for a statement. `None`: there is no network between this process and the database.
    statement_timeout: Option<Duration>,
    /// After what time SQLite interrupts a statement. `None`: it does not.
    deadline: Option<Duration>,
    family: Arc<Backend>,
    /// What this pool adds to the generation of its family.
    own_generation: AtomicU64,
    /// Whether no connection is given out: the database requires a newer version of this program.
    is_closed: AtomicBool,
    metrics: Metrics,
}

/// The rows of a statement with a stamp (see `store::identity`), and the server that returned them.
pub(super) struct PoolResult {
    /// At least one, on a server.
    pub(super) rows: Vec<QueryResult>,
    pub(super) incarnation: Incarnation,
    /// The generation of the connection.
    pub(super) generation: u64,
}

/// What all pools of a store have in common.
#[derive(Default)]
struct Backend {
    generation: AtomicU64,
    /// The number of the server to which a connection was opened last. 0: none yet.
    server: AtomicU64,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of at most `size` connections, none of which is open yet.
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

    /// As [`Self::new`], with one connection that is open.
    pub(super) async fn open(server: Arc<Server>, size: u32, options: &Options) -> Result<Self, StoreError> {
        let pool = Self::new(server, size, options);
        drop(pool.lease().await?);
        Ok(pool)
    }

    /// Another pool of connections to the same server, whose generations end together with those of this one.
    /// `deadline`: when SQLite interrupts a statement, which also ends with its caller. A server has its own statement
    /// timeout.
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

    /// Begins a transaction that writes. A connection that turns out to be closed at BEGIN is replaced: nothing was
    /// sent before it.
    pub(super) async fn begin(&self) -> Result<Transaction, DbErr> {
        let mut retries = self.retries(true);
        loop {
            let begun = Transaction::begin(self.get_database_backend(), self.lease().await?).await;
            if !retries.allow_another(&begun) {
                return begun;
            }
        }
    }

    /// The same pool, but what SQLite commits by a single statement need not survive a power cut.
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
    /// of another server than the one that the connection was opened to, is not returned: the connections of this
    /// generation are closed, and the statement is executed again.
    pub(super) async fn query_stamped(&self, statement: Statement) -> Result<PoolResult, DbErr> {
        let mut retries = self.retries(true);
        loop {
            let answer = self.lease().await?.query_stamped(statement.clone()).await;
            if !retries.allow_another(&answer) {
                return answer;
            }
        }
    }

    /// Opens a new connection and closes those of before, except those that are used now, which follow. If no
    /// connection can be opened, those of before stay. Returns whether the server commits synchronously to a standby.
    pub(super) async fn renew(&self) -> Result<bool, DbErr> {
        let pool = &self.0;
        let connecting = timeout(pool.acquire_timeout, Box::pin(pool.connect()));
        let mut fresh = connecting
            .await
            .unwrap_or(Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)))
            .inspect_err(|error| pool.metrics.failed(error))?;
        // If the generation has ended meanwhile, that holds for this connection, too.
        pool.own_generation.fetch_add(1, Ordering::SeqCst);
        fresh.generation += 1;
        pool.close_idle();
        let is_synchronous = fresh.identity.is_synchronous;
        pool.put_back(fresh);
        Ok(is_synchronous)
    }

    /// Closes the connections of this pool and of its siblings that are open now: at once, or when they are returned.
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

    /// Waits for what is under way and closes all connections.
    pub(super) async fn close(&self) -> Result<(), DbErr> {
        // An error: the pool is closed already, and nothing is under way.
        let all = self.0.permits.acquire_many(self.0.size).await;
        self.0.permits.close();
        drop(all);
        for idle in self.0.take_idle() {
            idle.pooled.connection.close().await?;
        }
        Ok(())
    }

    /// The counters since the start, and the number of connections now.
    pub(super) fn snapshot(&self) -> PoolSnapshot {
        let pool = &self.0;
        let size = usize::try_from(pool.size).unwrap_or(usize::MAX);
        let used = size.saturating_sub(pool.permits.available_permits());
        pool.metrics.snapshot(used, pool.idle().len())
    }

    /// Whether this is the same pool as another.
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
        let asked = Instant::now();
        let lease = timeout(self.0.acquire_timeout, self.lease_without_timeout())
            .await
            .unwrap_or(Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)));
        self.0.metrics.waited(asked.elapsed());
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
        // In a box: it is large and rare.
        let pooled = Box::pin(pool.connect()).await?;
        Ok(Lease::new(pooled, pool.clone(), permit))
    }
}

impl PoolState {
    /// Whether there is a network between this process and the database.
    fn is_remote(&self) -> bool {
        self.statement_timeout.is_some()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop_idle(&self) -> Option<Idle> {
        self.idle().pop()
    }

    fn take_idle(&self) -> Vec<Idle> {
        mem::take(&mut self.idle())
    }

    /// The generation of connections that are opened now.
    fn generation(&self) -> u64 {
        self.family.generation.load(Ordering::SeqCst) + self.own_generation.load(Ordering::SeqCst)
    }

    fn end_generation(&self) {
        self.family.generation.fetch_add(1, Ordering::SeqCst);
        self.close_idle();
    }

    /// Drops the connections that are not used, without a farewell. One that was silent or lost is seldom the only one,
    /// and to try them one after another would take longer than to connect.
    fn drop_idle(&self) {
        drop(self.take_idle());
    }

    fn close_idle(&self) {
        for idle in self.take_idle() {
            idle.pooled.close();
        }
    }

    async fn connect(&self) -> Result<Pooled, DbErr> {
        // Before it is opened: what is learned of meanwhile is about this connection, too.
        let mut generation = self.generation();
        let (connection, identity) = self.server.connect().await?;
        let server = identity.incarnation.number();
        let before = self.family.server.swap(server, Ordering::SeqCst);
        if before != 0 && before != server {
            // The connections of before are to another server. What they read may be from before a failover.
            self.end_generation();
            generation += 1;
        }
        Ok(Pooled {
            connection,
            identity,
            opened: Instant::now(),
            generation,
            is_synced: true,
        })
    }

    /// The connection, if it can be used.
    async fn verified(&self, idle: Idle) -> Option<Pooled> {
        let (mut pooled, since) = (idle.pooled, idle.since.elapsed());
        if !self.is_remote() {
            return Some(pooled);
        }
        if pooled.generation != self.generation() || since >= MAX_IDLE_TIME {
            pooled.close();
            return None;
        }
        if since < TRUSTED_IDLE_TIME {
            return Some(pooled);
        }
        match within(Some(VERIFICATION_TIMEOUT), pooled.verify()).await {
            Ok(()) => Some(pooled),
            Err(error) => {
                self.metrics.failed(&error);
                self.judge(&error, pooled.generation);
                None
            }
        }
    }

    /// Ends what an error shows to be of no use: the connections that are like the one on which it occurred, which was
    /// opened in this generation. Returns whether that one is to be closed.
    fn judge(&self, error: &DbErr, generation: u64) -> bool {
        match DbErrorKind::of(error) {
            // What is learned late is known already.
            DbErrorKind::WrongServer if generation == self.generation() => self.end_generation(),
            DbErrorKind::WrongServer => {}
            // Those of this pool have executed the same statements.
            DbErrorKind::Stale => self.close_idle(),
            _ if is_broken(error) => self.drop_idle(),
            _ => return false,
        }
        true
    }

    fn put_back(&self, pooled: Pooled) {
        let is_outdated = pooled.generation != self.generation() || pooled.opened.elapsed() > MAX_AGE;
        if self.is_remote() && is_outdated {
            return pooled.close();
        }
        let since = Instant::now();
        self.idle().push(Idle { pooled, since });
    }
}
