//! A connection that somebody has of the pool, and how it goes back.

use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use sea_orm::{DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::{SIGN_OF_LIFE, Shared};
use crate::store::connection::{Connection, from_sqlx, is_broken};
use crate::trace::{Current, What};

/// From here on SQLite answers a commit when it is on the disk, as it does when it is opened.
const SYNCED: &str = "PRAGMA synchronous=FULL; ";

/// From here on it answers when the system has it: such a commit outlives this process, and not a power cut. The file stays
/// whole, and the next commit that is synced takes it along.
const UNSYNCED: &str = "PRAGMA synchronous=NORMAL; ";

/// What is known of a connection when it goes back.
#[derive(Clone, Copy)]
pub(super) enum Standing {
    /// It can be used again.
    Good,
    /// It may be in a transaction, or in the middle of an answer that nobody waited for.
    Unknown,
}

/// A connection that somebody has.
pub(super) struct Lease {
    /// `None`: it is lost.
    pub(super) connection: Option<Connection>,
    pub(super) opened: Instant,
    /// Whether the connection is as [`SYNCED`] makes it. It is so for all statements but those that need not be.
    pub(super) is_synced: bool,
    pub(super) standing: Standing,
    /// The transaction that it is for. `None`: what is done with it belongs to whoever does it.
    pub(super) trace: Option<Current>,
    pub(super) pool: Arc<Shared>,
    /// `None`: it has gone on with the connection.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// Does something with the connection, which is closed if it does not get over it.
    pub(super) async fn run<T>(
        &mut self,
        operation: &'static str,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, DbErr>,
    ) -> Result<T, DbErr> {
        let here = self.trace.clone().unwrap_or_else(Current::here);
        let system = self.pool.server.name();
        let span = here.child(operation, What::Statement { system, operation });
        let Some(connection) = &mut self.connection else {
            return Err(lost("the connection to the database was lost before"));
        };
        let standing = mem::replace(&mut self.standing, Standing::Unknown);
        let outcome = within(self.pool.patience, work(connection)).await;
        self.standing = standing;
        if let Err(error) = &outcome {
            self.pool.metrics.failed(error);
            if let Some(span) = &span {
                span.fail();
            }
        }
        drop(span);
        if outcome.as_ref().is_err_and(is_broken) {
            self.connection = None;
            self.pool.distrust();
        }
        outcome
    }

    /// Does something by a statement, synced.
    pub(super) async fn run_synced<T>(
        &mut self,
        mut statement: Statement,
        work: impl AsyncFnOnce(&mut Connection, Statement) -> Result<T, DbErr>,
    ) -> Result<T, DbErr> {
        let operation = operation_of(&statement.sql);
        if !self.is_synced {
            statement.sql.insert_str(0, SYNCED);
        }
        let outcome = self
            .run(operation, async |connection| work(connection, statement).await)
            .await;
        self.is_synced |= outcome.is_ok();
        outcome
    }

    pub(super) async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.run_synced(statement, Connection::execute).await
    }

    pub(super) async fn execute_each(&mut self, statement: Statement) -> Result<Vec<u64>, DbErr> {
        self.run_synced(statement, Connection::execute_each).await
    }

    pub(super) async fn execute_unsynced(&mut self, mut statement: Statement) -> Result<ExecResult, DbErr> {
        let operation = operation_of(&statement.sql);
        if statement.db_backend == DbBackend::Sqlite && self.is_synced {
            statement.sql.insert_str(0, UNSYNCED);
            self.is_synced = false;
        }
        self.run(operation, async |connection| connection.execute(statement).await)
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

/// What a statement does, by its first word. BEGIN may go before it, with which a transaction of SQLite begins.
fn operation_of(sql: &str) -> &'static str {
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
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if let Standing::Good = self.standing {
            return self.pool.put_back(connection, self.opened, self.is_synced);
        }
        // Where no runtime is left, the process ends, and the connection with it.
        if let Ok(runtime) = Handle::try_current() {
            let (pool, permit) = (self.pool.clone(), self.permit.take());
            let (opened, is_synced) = (self.opened, self.is_synced);
            runtime.spawn(async move {
                let bound = pool.patience.map(|_| SIGN_OF_LIFE);
                if within(bound, connection.roll_back()).await.is_ok() {
                    pool.put_back(connection, opened, is_synced);
                } else {
                    pool.distrust();
                }
                drop(permit);
            });
        }
    }
}

/// Waits for an answer of the database. `None`: as long as it takes.
pub(super) async fn within<T>(
    bound: Option<Duration>,
    answer: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, DbErr> {
    match bound {
        None => answer.await,
        Some(bound) => timeout(bound, answer)
            .await
            .unwrap_or_else(|_| Err(lost("the database does not answer"))),
    }
}

fn lost(what: &'static str) -> DbErr {
    DbErr::Conn(from_sqlx(io::Error::new(io::ErrorKind::TimedOut, what).into()))
}
