//! Pools and transactions whose statements are given up when the database does not answer.
//!
//! A database that is stopped, or behind a network that swallows everything, breaks no connection for a long time: TCP
//! goes on for a quarter of an hour. The server's own bounds do not help then. So a statement is given up here a little
//! after the server should have given it up; and a connection that goes back into the pool has to answer soon, or is
//! closed. Otherwise it would keep its place in the pool, and the service would not recover when the database does. (sqlx
//! asks each connection that goes back, too, but it waits for ever.)
//!
//! A BEGIN that was given up half way is worse: the server may have begun a transaction that sqlx does not know of, and
//! does not roll back. So a caller that goes away does not end it: it goes on by itself, and what it has begun is rolled
//! back. And after one that was not answered in time, connections that go back are rolled back first.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::prelude::async_trait::async_trait;
use sea_orm::sqlx::{self, Connection};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult,
    RuntimeErr, Statement, TransactionOptions, TransactionTrait as _,
};
use tokio::time::{Instant, timeout};

use super::StoreError;

/// How long a connection may take to show that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// A connection that was idle for longer has to show that it is alive before it is used. Asking costs a round trip, so
/// the busy ones are not asked.
const TRUSTED_IDLE_TIME: Duration = Duration::from_secs(1);

/// How much longer than the server we wait for a statement.
const MARGIN: Duration = Duration::from_millis(500);

/// How long after a BEGIN was given up its connection may come back.
const SUSPICION: Duration = Duration::from_secs(10);

/// When a BEGIN was given up on a connection of a pool. Of which, the pool does not tell.
#[derive(Clone, Debug, Default)]
pub(super) struct GivenUp(Arc<Mutex<Option<Instant>>>);

impl GivenUp {
    /// For `before_acquire`: whether a connection can be used.
    ///
    /// # Errors
    /// When it cannot, and need not be told so.
    pub(super) async fn before_acquire<C: Connection>(
        connection: &mut C,
        idle_for: Duration,
    ) -> Result<bool, sqlx::Error> {
        if idle_for < TRUSTED_IDLE_TIME {
            return Ok(true);
        }
        soon(connection.ping()).await
    }

    /// For `after_release`, by [`soon`]: what a connection has to answer before it goes back into the pool.
    pub(super) fn question(&self) -> &'static str {
        if self.is_recent() {
            // Where there is no transaction, the servers do nothing, and PostgreSQL warns.
            "ROLLBACK"
        } else {
            "SELECT 1"
        }
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_recent(&self) -> bool {
        let given_up = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given_up.is_some_and(|at| at.elapsed() < SUSPICION)
    }
}

/// Waits for a sign of life.
///
/// # Errors
/// When it does not come, or the connection cannot be used any more.
pub(super) async fn soon(sign: impl Future<Output = Result<(), sqlx::Error>>) -> Result<bool, sqlx::Error> {
    match timeout(SIGN_OF_LIFE, sign).await {
        Ok(answer) => answer.map(|()| true),
        Err(_) => Err(too_slow()),
    }
}

fn too_slow() -> sqlx::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the database does not answer").into()
}

/// How long to wait for a statement. `None`: there is nothing between us and the database.
#[derive(Clone, Copy, Debug, Default)]
struct Bound(Option<Duration>);

impl Bound {
    async fn wait<T>(self, statement: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        let Some(patience) = self.0 else {
            return statement.await;
        };
        match timeout(patience, statement).await {
            Ok(outcome) => outcome,
            Err(_) => Err(DbErr::Conn(RuntimeErr::SqlxError(Arc::new(too_slow())))),
        }
    }
}

/// A pool of connections.
#[derive(Clone, Debug)]
pub struct Pool {
    connections: DatabaseConnection,
    bound: Bound,
    given_up: GivenUp,
}

impl Pool {
    /// A pool of a database in this process.
    pub(super) fn unbounded(connections: DatabaseConnection) -> Self {
        Self {
            connections,
            bound: Bound::default(),
            given_up: GivenUp::default(),
        }
    }

    /// A pool of a database behind a network, whose server is told to give statements up after a time.
    pub(super) fn new(
        connections: DatabaseConnection,
        statement_timeout: Duration,
        given_up: GivenUp,
    ) -> Self {
        Self {
            connections,
            bound: Bound(Some(statement_timeout + MARGIN)),
            given_up,
        }
    }

    pub(crate) async fn begin(&self, options: TransactionOptions) -> Result<Transaction, DbErr> {
        let Self {
            connections,
            bound,
            given_up,
        } = self.clone();
        let begin = async move {
            let begun = bound.wait(connections.begin_with_options(options)).await;
            // Or it was no connection that was waited for in vain, and then this is for nothing.
            if begun.is_err() {
                given_up.note();
            }
            begun
        };
        let transaction = if bound.0.is_some() {
            // To its end, whoever goes away meanwhile: see the module.
            let begun = tokio::spawn(begin).await;
            begun.map_err(|error| DbErr::Custom(error.to_string()))??
        } else {
            // SQLite's own thread rolls back what nobody has waited for.
            begin.await?
        };
        Ok(Transaction { transaction, bound })
    }

    pub(super) async fn ping(&self) -> Result<(), DbErr> {
        self.bound.wait(self.connections.ping()).await
    }

    pub(super) async fn close(self) -> Result<(), DbErr> {
        self.connections.close().await
    }
}

/// A transaction. It is rolled back unless it is committed.
#[derive(Debug)]
pub struct Transaction {
    transaction: DatabaseTransaction,
    bound: Bound,
}

impl Transaction {
    /// Commits it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it certainly did not commit; else nobody knows whether it did.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.bound.wait(self.transaction.commit()).await?)
    }
}

/// What both do with a statement.
macro_rules! bounded {
    ($type:ty, $inner:ident) => {
        #[async_trait]
        impl ConnectionTrait for $type {
            fn get_database_backend(&self) -> DbBackend {
                self.$inner.get_database_backend()
            }

            async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
                self.bound.wait(self.$inner.execute_raw(statement)).await
            }

            async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
                self.bound.wait(self.$inner.execute_unprepared(sql)).await
            }

            async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
                self.bound.wait(self.$inner.query_one_raw(statement)).await
            }

            async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
                self.bound.wait(self.$inner.query_all_raw(statement)).await
            }
        }
    };
}

bounded!(Pool, connections);
bounded!(Transaction, transaction);
