//! Transactions.

use std::mem;
use std::sync::{Arc, OnceLock};

use sea_orm::prelude::async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::Mutex;

use super::lease::{ConnectionState, Lease};
use crate::store::StoreError;
use crate::store::connection::is_timeout;
use crate::store::error::{DbErrorKind, lost_before_commit};
use crate::telemetry::tracing::{Span, SpanKind, TraceContext};

/// Statement that begins a transaction that writes. The isolation level is READ COMMITTED, so that a transaction reads
/// a locked row as it is then, and not as it was at the start of the transaction. Sessions of MySQL set the level when
/// they connect. SQLite has no levels; there, a transaction that reads first and writes later would fail if another
/// transaction wrote in between.
fn begin(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        DbBackend::MySql => "START TRANSACTION",
        _ => "BEGIN IMMEDIATE",
    }
}

/// A transaction. It is rolled back unless it is committed.
///
/// On SQLite it begins with its first statement: each trip to the thread of a connection costs more than most
/// statements, so BEGIN goes along with the first, and along with COMMIT whatever nobody has to know the outcome of
/// before. Servers are told of each when its time comes: what it locks is locked in the order of the code.
pub struct Transaction {
    backend: DbBackend,
    /// Never contended: a transaction executes one statement after another.
    work: Mutex<TransactionState>,
}

struct TransactionState {
    lease: Lease,
    /// Of the whole transaction. It ends with it.
    _trace: Option<Span>,
    is_begun: bool,
    /// What goes along with COMMIT.
    with_commit: Vec<(Statement, Affected)>,
}

/// How many rows a statement has changed that may go along with COMMIT.
#[derive(Clone, Debug, Default)]
pub struct Affected(Arc<OnceLock<u64>>);

impl Affected {
    /// `None`: it was not executed yet.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        self.0.get().copied()
    }

    fn set(&self, rows: u64) {
        // Each is set once: here, or at the commit, which takes the transaction.
        let _ = self.0.set(rows);
    }
}

impl TransactionState {
    /// Notes that from now on, and until it is committed, the transaction has to be rolled back.
    fn begin(&mut self) {
        self.is_begun = true;
        self.lease.state = ConnectionState::Unknown;
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
    /// Begins one on this connection.
    ///
    /// # Errors
    /// When BEGIN fails; nothing else was sent then.
    pub(super) async fn begin(backend: DbBackend, mut lease: Lease) -> Result<Self, DbErr> {
        let trace = TraceContext::current().child("database transaction", SpanKind::Work);
        lease.trace = trace.as_ref().map(Span::current);
        let mut work = TransactionState {
            lease,
            _trace: trace,
            is_begun: false,
            with_commit: Vec::new(),
        };
        if backend != DbBackend::Sqlite {
            work.begin();
            work.lease.execute_unprepared(begin(backend)).await?;
        }
        Ok(Self {
            backend,
            work: Mutex::new(work),
        })
    }

    /// Has a statement executed, on SQLite after all others, right before COMMIT. If it fails there, so does
    /// [`Self::commit`], and nothing is committed.
    ///
    /// # Errors
    /// When the database fails.
    pub(in crate::store) async fn execute_with_commit(
        &self,
        statement: Statement,
    ) -> Result<Affected, DbErr> {
        let affected = Affected::default();
        if self.backend == DbBackend::Sqlite {
            let mut work = self.work.lock().await;
            work.with_commit.push((statement, affected.clone()));
        } else {
            affected.set(self.execute_raw(statement).await?.rows_affected());
        }
        Ok(affected)
    }

    /// Commits it.
    ///
    /// # Errors
    /// [`StoreError::NotCommitted`] when it certainly did not commit; otherwise it may have.
    pub async fn commit(self) -> Result<(), StoreError> {
        let mut work = self.work.into_inner();
        let statements = mem::take(&mut work.with_commit);
        if statements.is_empty() && !work.is_begun {
            return Ok(());
        }
        let (mut sql, mut values, mut affected) = (String::new(), Vec::new(), Vec::new());
        for (statement, of_this) in statements {
            sql.push_str(&statement.sql);
            sql.push_str("; ");
            values.extend(statement.values.into_iter().flatten());
            affected.push(of_this);
        }
        if affected.is_empty() {
            work.lease.execute_unprepared("COMMIT").await?;
        } else {
            sql.push_str("COMMIT");
            let (lease, all) = work.next(Statement::from_sql_and_values(self.backend, sql, values));
            let rows = lease.execute_each(all).await?;
            // The last one is of COMMIT; before those of the statements there may be one of BEGIN.
            for (of_this, rows) in affected.iter().rev().zip(rows.into_iter().rev().skip(1)) {
                of_this.set(rows);
            }
        }
        work.lease.state = ConnectionState::Good;
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
        lease
            .execute(statement)
            .await
            .map_err(|error| before_commit(lease, error))
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let mut work = self.work.lock().await;
        let (lease, statement) = work.next(Statement::from_string(self.backend, sql));
        lease
            .execute_unprepared(&statement.sql)
            .await
            .map_err(|error| before_commit(lease, error))
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let mut work = self.work.lock().await;
        let (lease, statement) = work.next(statement);
        lease
            .query_one(statement)
            .await
            .map_err(|error| before_commit(lease, error))
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut work = self.work.lock().await;
        let (lease, statement) = work.next(statement);
        lease
            .query_all(statement)
            .await
            .map_err(|error| before_commit(lease, error))
    }
}

/// Classifies a failure before COMMIT: if the connection is lost, the server rolls the transaction back. A server that
/// did not answer in time also does so, but there is no time left for a retry. An answer that is not understood would
/// not be understood again.
fn before_commit(lease: &Lease, error: DbErr) -> DbErr {
    if lease.is_lost() && DbErrorKind::of(&error) == DbErrorKind::Unavailable && !is_timeout(&error) {
        lost_before_commit(error)
    } else {
        error
    }
}
