//! Pools and transactions whose statements are given up when the database does not answer.
//!
//! A database that is stopped, or behind a network that swallows everything, breaks no connection for a long time: TCP
//! goes on for a quarter of an hour. The server's own bounds do not help then. So a statement is given up here a little
//! after the server should have given it up; and a connection on which something was given up has to answer soon, or is
//! closed. Otherwise it would keep its place in the pool, and the service would not recover when the database does.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::prelude::async_trait::async_trait;
use sea_orm::sqlx::{self, Connection};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult,
    RuntimeErr, Statement, TransactionOptions, TransactionTrait as _,
};
use tokio::time::timeout;

use super::StoreError;

/// How long a connection may take to show that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// A connection that was idle for longer has to show that it is alive before it is used. Asking costs a round trip, so
/// the busy ones are not asked.
const TRUSTED_IDLE_TIME: Duration = Duration::from_secs(1);

/// How much longer than the server we wait for a statement.
const MARGIN: Duration = Duration::from_millis(500);

/// Whether a statement was given up on a connection of a pool: by its bound, or because nobody waits for it any more.
#[derive(Clone, Debug, Default)]
pub(super) struct GivenUp(Arc<AtomicBool>);

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
        show_life(connection).await
    }

    /// For `after_release`: whether a connection may go back into the pool.
    ///
    /// # Errors
    /// When it cannot be used any more.
    pub(super) async fn after_release<C: Connection>(&self, connection: &mut C) -> Result<bool, sqlx::Error> {
        // It may not be this connection: whose it was, the pool does not tell. Then this costs a round trip.
        if !self.0.swap(false, Ordering::SeqCst) {
            return Ok(true);
        }
        let outcome = show_life(connection).await;
        if outcome.is_err() {
            // The next one may be as bad.
            self.0.store(true, Ordering::SeqCst);
        }
        outcome
    }
}

async fn show_life<C: Connection>(connection: &mut C) -> Result<bool, sqlx::Error> {
    match timeout(SIGN_OF_LIFE, connection.ping()).await {
        Ok(answer) => answer.map(|()| true),
        Err(_) => Err(too_slow()),
    }
}

fn too_slow() -> sqlx::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the database does not answer").into()
}

/// How long to wait, and whom to tell when we do not any more.
#[derive(Clone, Debug, Default)]
struct Bound {
    /// `None`: there is nothing between us and the database.
    patience: Option<Duration>,
    given_up: GivenUp,
}

impl Bound {
    async fn wait<T>(&self, statement: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        let Some(patience) = self.patience else {
            return statement.await;
        };
        let statement = pin!(statement);
        // Dropped before the statement, and so before its connection goes back into the pool.
        let unfinished = Unfinished(Some(&self.given_up));
        match timeout(patience, statement).await {
            Ok(outcome) => {
                unfinished.finish();
                outcome
            }
            Err(_) => Err(DbErr::Conn(RuntimeErr::SqlxError(Arc::new(too_slow())))),
        }
    }
}

/// Tells that a statement was given up, unless it has been finished.
struct Unfinished<'a>(Option<&'a GivenUp>);

impl Unfinished<'_> {
    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(given_up) = self.0 {
            given_up.0.store(true, Ordering::SeqCst);
        }
    }
}

/// A pool of connections.
#[derive(Clone, Debug)]
pub struct Pool {
    connections: DatabaseConnection,
    bound: Bound,
}

impl Pool {
    /// A pool of a database in this process.
    pub(super) fn unbounded(connections: DatabaseConnection) -> Self {
        Self {
            connections,
            bound: Bound::default(),
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
            bound: Bound {
                patience: Some(statement_timeout + MARGIN),
                given_up,
            },
        }
    }

    pub(crate) async fn begin(&self, options: TransactionOptions) -> Result<Transaction, DbErr> {
        let begun = self.connections.begin_with_options(options);
        Ok(Transaction {
            transaction: self.bound.wait(begun).await?,
            bound: self.bound.clone(),
        })
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
