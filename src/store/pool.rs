//! A pool of connections that is whole again as soon as the database is, and transactions.
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

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io, mem};

use sea_orm::prelude::async_trait::async_trait;
use sea_orm::{ConnAcquireErr, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Server, from_sqlx, is_broken};
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
}

struct Idle {
    connection: Connection,
    opened: Instant,
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
        }))
    }

    /// As [`Self::new`], with one that is open.
    pub(super) async fn open(server: Server, size: u32, options: &Options) -> Result<Self, StoreError> {
        let pool = Self::new(server, size, options);
        drop(pool.lease().await?);
        Ok(pool)
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin(&self) -> Result<Transaction, DbErr> {
        let mut work = Work {
            lease: self.lease().await?,
            is_begun: false,
            at_commit: Vec::new(),
        };
        let backend = self.get_database_backend();
        if backend != DbBackend::Sqlite {
            work.begin();
            work.lease.execute_unprepared(begin(backend)).await?;
        }
        Ok(Transaction {
            backend,
            work: tokio::sync::Mutex::new(work),
        })
    }

    pub(super) async fn ping(&self) -> Result<(), DbErr> {
        self.lease()
            .await?
            .run(async |connection| connection.ping().await)
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

    /// Takes the place of a connection, as whoever uses one does.
    #[cfg(test)]
    pub(crate) async fn occupy(&self) -> OwnedSemaphorePermit {
        self.0.permits.clone().acquire_owned().await.unwrap()
    }

    /// Waits for a connection, which may have to be opened.
    async fn lease(&self) -> Result<Lease, DbErr> {
        timeout(self.0.acquire_timeout, self.lease_whenever())
            .await
            .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?
    }

    async fn lease_whenever(&self) -> Result<Lease, DbErr> {
        let pool = &self.0;
        let permit = pool.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))?;
        let lease = |connection, opened| Lease {
            connection: Some(connection),
            opened,
            standing: Standing::Good,
            pool: pool.clone(),
            permit: Some(permit),
        };
        while let Some(mut idle) = pool.pop_idle() {
            if pool.is_alive(&mut idle).await {
                return Ok(lease(idle.connection, idle.opened));
            }
            pool.distrust();
        }
        // In a box: it is large and seldom.
        let connection = Box::pin(pool.server.connect()).await?;
        Ok(lease(connection, Instant::now()))
    }
}

impl Shared {
    fn pop_idle(&self) -> Option<Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn take_idle(&self) -> Vec<Idle> {
        mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner))
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
        since < MAX_IDLE_TIME && matches!(timeout(SIGN_OF_LIFE, idle.connection.ping()).await, Ok(Ok(())))
    }

    fn put_back(&self, connection: Connection, opened: Instant) {
        if self.patience.is_some() && opened.elapsed() > MAX_AGE {
            if let Ok(runtime) = Handle::try_current() {
                // Whether it hears of it or not.
                runtime.spawn(timeout(SIGN_OF_LIFE, connection.close()));
            }
            return;
        }
        let since = Instant::now();
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Idle {
                connection,
                opened,
                since,
            });
    }
}

/// What is known of a connection when it goes back.
#[derive(Clone, Copy)]
enum Standing {
    /// It can be used again.
    Good,
    /// It may be in a transaction, or in the middle of an answer that nobody waited for.
    Unknown,
}

/// A connection that somebody has.
struct Lease {
    /// `None`: it is lost.
    connection: Option<Connection>,
    opened: Instant,
    standing: Standing,
    pool: Arc<Shared>,
    /// `None`: it has gone on with the connection.
    permit: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// Does something with the connection, which is closed if it does not get over it.
    async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, DbErr>,
    ) -> Result<T, DbErr> {
        let Some(connection) = &mut self.connection else {
            return Err(lost("the connection to the database was lost before"));
        };
        let standing = mem::replace(&mut self.standing, Standing::Unknown);
        let outcome = match self.pool.patience {
            None => work(connection).await,
            Some(patience) => timeout(patience, work(connection))
                .await
                .unwrap_or_else(|_| Err(lost("the database does not answer"))),
        };
        self.standing = standing;
        if outcome.as_ref().is_err_and(is_broken) {
            self.connection = None;
            self.pool.distrust();
        }
        outcome
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if let Standing::Good = self.standing {
            return self.pool.put_back(connection, self.opened);
        }
        // Where no runtime is left, the process ends, and the connection with it.
        if let Ok(runtime) = Handle::try_current() {
            let (pool, permit, opened) = (self.pool.clone(), self.permit.take(), self.opened);
            runtime.spawn(async move {
                let rolled_back = if pool.patience.is_some() {
                    matches!(timeout(SIGN_OF_LIFE, connection.roll_back()).await, Ok(Ok(())))
                } else {
                    connection.roll_back().await.is_ok()
                };
                if rolled_back {
                    pool.put_back(connection, opened);
                } else {
                    pool.distrust();
                }
                drop(permit);
            });
        }
    }
}

fn lost(what: &'static str) -> DbErr {
    DbErr::Conn(from_sqlx(io::Error::new(io::ErrorKind::TimedOut, what).into()))
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

impl Lease {
    async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.run(async |connection| connection.execute(statement).await)
            .await
    }

    async fn execute_unprepared(&mut self, sql: &str) -> Result<ExecResult, DbErr> {
        self.run(async |connection| connection.execute_unprepared(sql).await)
            .await
    }

    async fn query_one(&mut self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.run(async |connection| connection.query_one(statement).await)
            .await
    }

    async fn query_all(&mut self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.run(async |connection| connection.query_all(statement).await)
            .await
    }
}

/// What begins a transaction that writes. What was locked is read in it as it is then, and not as it was when the transaction
/// began: READ COMMITTED, as sessions of MySQL are told when they connect. SQLite has no levels; there, a transaction that
/// reads first and writes later would fail if another wrote between.
fn begin(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        DbBackend::MySql => "START TRANSACTION",
        _ => "BEGIN IMMEDIATE",
    }
}

/// A transaction. It is rolled back unless it is committed.
///
/// On SQLite it begins with its first statement: each trip to the thread of a connection costs more than most statements, so
/// BEGIN goes along with the first, and along with COMMIT whatever nobody has to know the outcome of before.
pub struct Transaction {
    backend: DbBackend,
    /// Nobody waits for it: a transaction does one thing after another.
    work: tokio::sync::Mutex<Work>,
}

struct Work {
    lease: Lease,
    is_begun: bool,
    /// What is executed right before COMMIT.
    at_commit: Vec<Statement>,
}

impl Work {
    /// Notes that from now on, and until it is committed, the transaction has to be rolled back.
    fn begin(&mut self) {
        self.is_begun = true;
        self.lease.standing = Standing::Unknown;
    }

    /// The connection, and the statement with what has to go before it.
    fn next(&mut self, mut statement: Statement) -> (&mut Lease, Statement) {
        if !self.is_begun {
            self.begin();
            statement.sql = format!("{}; {}", begin(statement.db_backend), statement.sql);
        }
        (&mut self.lease, statement)
    }
}

impl Transaction {
    /// Has a statement executed right before COMMIT, after all others. If it fails, so does [`Self::commit`], and nothing is
    /// committed.
    pub(super) async fn at_commit(&self, statement: Statement) {
        self.work.lock().await.at_commit.push(statement);
    }

    /// Commits it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it certainly did not commit; else nobody knows whether it did.
    pub async fn commit(self) -> Result<(), StoreError> {
        let mut work = self.work.into_inner();
        let statements = mem::take(&mut work.at_commit);
        if statements.is_empty() && !work.is_begun {
            return Ok(());
        }
        if self.backend == DbBackend::Sqlite {
            let (mut sql, mut values) = (String::new(), Vec::new());
            for statement in statements {
                sql.push_str(&statement.sql);
                sql.push_str("; ");
                values.extend(statement.values.into_iter().flatten());
            }
            sql.push_str("COMMIT");
            let (lease, all) = work.next(Statement::from_sql_and_values(self.backend, sql, values));
            lease.execute(all).await?;
        } else {
            for statement in statements {
                work.lease.execute(statement).await?;
            }
            work.lease.execute_unprepared("COMMIT").await?;
        }
        work.lease.standing = Standing::Good;
        Ok(())
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let mut work = self.work.lock().await;
        let (lease, statement) = work.next(statement);
        lease.execute(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let mut work = self.work.lock().await;
        let (lease, statement) = work.next(Statement::from_string(self.backend, sql));
        lease.execute_unprepared(&statement.sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let mut work = self.work.lock().await;
        let (lease, statement) = work.next(statement);
        lease.query_one(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut work = self.work.lock().await;
        let (lease, statement) = work.next(statement);
        lease.query_all(statement).await
    }
}
