//! Lease of a connection, and its return to the pool.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::{PoolResult, PoolState, VERIFICATION_TIMEOUT};
use crate::store::connection::{Connection, timed_out};
use crate::store::error::other_server;
use crate::store::identity::{Identity, verification};
use crate::telemetry::tracing::{SpanKind, TraceContext};

/// Makes SQLite answer a later commit after it is on the disk. A new connection has this setting.
const SYNCED: &str = "PRAGMA synchronous=FULL; ";

/// Makes SQLite answer a later commit after the operating system has it. Such a commit survives the end of this process
/// but not a power cut. The file stays consistent, and the next synced commit also syncs it.
const UNSYNCED: &str = "PRAGMA synchronous=NORMAL; ";

/// An open connection, and its known properties.
pub(super) struct Pooled {
    pub(super) connection: Connection,
    /// The server to which it was opened.
    pub(super) identity: Identity,
    pub(super) opened: Instant,
    /// The generation of the pool in which it was opened.
    pub(super) generation: u64,
    /// Whether the connection has the setting [`SYNCED`]. Only statements of [`super::Unsynced`] run without it.
    pub(super) is_synced: bool,
}

impl Pooled {
    /// Verifies that the server of the connection answers and accepts writes.
    pub(super) async fn verify(&mut self) -> Result<(), DbErr> {
        let backend = self.identity.backend();
        if backend == DbBackend::Sqlite {
            return self.connection.ping().await;
        }
        let rows = self.connection.query_unprepared(&verification(backend)).await?;
        self.check(rows.first())
    }

    /// Verifies that a row with a stamp is from the server of the connection, and that this server accepts writes.
    fn check(&self, row: Option<&QueryResult>) -> Result<(), DbErr> {
        let is_same = row.map_or(Ok(false), |row| self.identity.is_of(row))?;
        if is_same { Ok(()) } else { Err(other_server()) }
    }

    /// Closes the connection in the background.
    pub(super) fn close(self) {
        // Without a runtime, the process ends, and the connection with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(VERIFICATION_TIMEOUT, self.connection.close()));
        }
    }
}

/// A connection that is not in use.
pub(super) struct Idle {
    pub(super) pooled: Pooled,
    pub(super) since: Instant,
}

/// State of a connection that is returned.
#[derive(Clone, Copy)]
pub(super) enum ConnectionState {
    /// The connection is usable.
    Good,
    /// The connection may be in a transaction, or in the middle of an unread answer.
    Unknown,
}

/// A connection in use.
pub(super) struct Lease {
    /// `None`: the connection is lost.
    pooled: Option<Pooled>,
    pub(super) state: ConnectionState,
    /// Trace of its transaction. `None`: each statement belongs to the trace of its caller.
    pub(super) trace: Option<TraceContext>,
    pool: Arc<PoolState>,
    /// `None`: the permit was moved with the connection.
    permit: Option<OwnedSemaphorePermit>,
}

impl Lease {
    pub(super) fn new(pooled: Pooled, pool: Arc<PoolState>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            pooled: Some(pooled),
            state: ConnectionState::Good,
            trace: None,
            pool,
            permit: Some(permit),
        }
    }

    /// Whether the connection is lost.
    pub(super) fn is_lost(&self) -> bool {
        self.pooled.is_none()
    }

    /// Runs `work` with the connection, and closes the connection if it is unusable afterwards.
    pub(super) async fn run<T>(
        &mut self,
        operation: &'static str,
        work: impl AsyncFnOnce(&mut Pooled) -> Result<T, DbErr>,
    ) -> Result<T, DbErr> {
        let here = self.trace.clone().unwrap_or_else(TraceContext::current);
        let system = self.pool.server.name();
        let span = here.child(operation, SpanKind::Statement { system, operation });
        let Some(pooled) = &mut self.pooled else {
            return Err(timed_out("the connection to the database was lost before"));
        };
        let generation = pooled.generation;
        let state = mem::replace(&mut self.state, ConnectionState::Unknown);
        let deadline = match self.pool.deadline {
            Some(time) => Some(pooled.connection.set_deadline(time).await?),
            None => None,
        };
        let outcome = within(self.pool.statement_timeout, work(pooled)).await;
        drop(deadline);
        self.state = state;
        if let Err(error) = &outcome {
            self.pool.metrics.failed(error);
            if let Some(span) = &span {
                span.fail();
            }
        }
        drop(span);
        if let Err(error) = &outcome
            && self.pool.judge(error, generation)
        {
            self.pooled = None;
        }
        outcome
    }

    /// Verifies the connection.
    pub(super) async fn verify(&mut self) -> Result<(), DbErr> {
        self.run("PING", async |pooled| pooled.verify().await).await
    }

    /// Reads by a statement with a stamp.
    pub(super) async fn query_stamped(&mut self, statement: Statement) -> Result<PoolResult, DbErr> {
        self.run("SELECT", async |pooled| {
            let rows = pooled.connection.query_all(statement).await?;
            if pooled.identity.backend() != DbBackend::Sqlite {
                pooled.check(rows.first())?;
            }
            Ok(PoolResult {
                rows,
                incarnation: pooled.identity.incarnation,
                generation: pooled.generation,
            })
        })
        .await
    }

    /// Runs `work` with a statement, with the setting [`SYNCED`].
    pub(super) async fn run_synced<T>(
        &mut self,
        mut statement: Statement,
        work: impl AsyncFnOnce(&mut Connection, Statement) -> Result<T, DbErr>,
    ) -> Result<T, DbErr> {
        let operation = operation_of(&statement.sql);
        self.run(operation, async |pooled| {
            if !pooled.is_synced {
                statement.sql.insert_str(0, SYNCED);
            }
            let outcome = work(&mut pooled.connection, statement).await;
            pooled.is_synced |= outcome.is_ok();
            outcome
        })
        .await
    }

    pub(super) async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.run_synced(statement, Connection::execute).await
    }

    pub(super) async fn execute_each(&mut self, statement: Statement) -> Result<Vec<u64>, DbErr> {
        self.run_synced(statement, Connection::execute_each).await
    }

    pub(super) async fn execute_unsynced(&mut self, mut statement: Statement) -> Result<ExecResult, DbErr> {
        let operation = operation_of(&statement.sql);
        self.run(operation, async |pooled| {
            if statement.db_backend == DbBackend::Sqlite && pooled.is_synced {
                statement.sql.insert_str(0, UNSYNCED);
                pooled.is_synced = false;
            }
            pooled.connection.execute(statement).await
        })
        .await
    }

    pub(super) async fn execute_unprepared(&mut self, sql: &str) -> Result<ExecResult, DbErr> {
        let statement = Statement::from_string(self.pool.server.backend(), sql);
        let execute =
            async |connection: &mut Connection, it: Statement| connection.execute_unprepared(&it.sql).await;
        self.run_synced(statement, execute).await
    }

    pub(super) async fn query_one(&mut self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.run_synced(statement, Connection::query_one).await
    }

    pub(super) async fn query_all(&mut self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.run_synced(statement, Connection::query_all).await
    }
}

/// Returns the operation of a statement, by its first word. BEGIN may precede it, with which a transaction of SQLite
/// begins.
pub(super) fn operation_of(sql: &str) -> &'static str {
    const OPERATIONS: [&str; 10] = [
        "SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "BEGIN", "START", "COMMIT", "ROLLBACK", "PING",
    ];
    let sql = sql.strip_prefix("BEGIN IMMEDIATE; ").unwrap_or(sql).trim_start();
    OPERATIONS
        .into_iter()
        .find(|operation| sql.starts_with(operation))
        .unwrap_or("OTHER")
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut pooled) = self.pooled.take() else {
            return;
        };
        if let ConnectionState::Good = self.state {
            return self.pool.put_back(pooled);
        }
        // Without a runtime, the process ends, and the connection with it.
        if let Ok(runtime) = Handle::try_current() {
            let (pool, permit) = (self.pool.clone(), self.permit.take());
            runtime.spawn(async move {
                let limit = pool.statement_timeout.map(|_| VERIFICATION_TIMEOUT);
                if within(limit, pooled.connection.roll_back()).await.is_ok() {
                    pool.put_back(pooled);
                } else {
                    pool.drop_idle();
                }
                drop(permit);
            });
        }
    }
}

/// Waits for an answer of the database. `None`: without a timeout.
pub(super) async fn within<T>(
    limit: Option<Duration>,
    answer: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, DbErr> {
    match limit {
        None => answer.await,
        Some(limit) => timeout(limit, answer)
            .await
            .unwrap_or_else(|_| Err(timed_out("the database does not answer"))),
    }
}
