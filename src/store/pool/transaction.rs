//! Transactions.

use std::mem;
use std::sync::{Arc, OnceLock};

use sea_orm::prelude::async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::{Mutex, MutexGuard};

use super::Pool;
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
/// On SQLite each trip to the thread of a connection costs more than most statements. So BEGIN is sent with the first
/// statement, and deferred statements with COMMIT. A statement after deferred ones is executed after them, so the order
/// of effects is the order of the code. On a server each statement is sent at once: its locks are taken in the order of
/// the code.
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
    /// Whether deferred statements failed before the commit, which must not commit the rest then.
    has_lost_writes: bool,
    /// The deferred statements, in order.
    deferred: Vec<Deferred>,
}

/// A statement that waits for the next one, or for COMMIT.
struct Deferred {
    statement: Statement,
    affected: Affected,
}

/// A connection whose writes may wait for the next statement, or for COMMIT, if the caller needs no outcome of them.
#[async_trait]
pub trait DeferWrites: ConnectionTrait {
    /// Executes a statement, at the latest before the next one or before COMMIT. If it fails there, so does that one.
    ///
    /// # Errors
    /// When the database fails.
    async fn execute_deferred(&self, statement: Statement) -> Result<Affected, DbErr>;
}

/// The number of rows that a statement has changed, which may be deferred.
#[derive(Clone, Debug, Default)]
pub struct Affected(Arc<OnceLock<u64>>);

impl Affected {
    /// `None`: the statement was not executed yet.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        self.0.get().copied()
    }

    fn set(&self, rows: u64) {
        // Each statement is executed once.
        let _ = self.0.set(rows);
    }
}

impl TransactionState {
    /// From now on, and until it is committed, the transaction has to be rolled back.
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

    /// Executes the deferred statements in one trip.
    async fn flush(&mut self) -> Result<(), DbErr> {
        let deferred = mem::take(&mut self.deferred);
        match deferred.first() {
            Some(first) => {
                let backend = first.statement.db_backend;
                let flushed = self.execute_all(backend, deferred, None).await;
                self.has_lost_writes |= flushed.is_err();
                flushed
            }
            None => Ok(()),
        }
    }

    /// Executes deferred statements in one trip, and then `last`, if there is one.
    async fn execute_all(
        &mut self,
        backend: DbBackend,
        deferred: Vec<Deferred>,
        last: Option<&str>,
    ) -> Result<(), DbErr> {
        let (mut sql, mut values, mut affected) = (Vec::new(), Vec::new(), Vec::new());
        for Deferred {
            statement,
            affected: of_this,
        } in deferred
        {
            sql.push(statement.sql);
            values.extend(statement.values.into_iter().flatten());
            affected.push(of_this);
        }
        sql.extend(last.map(str::to_owned));
        let (lease, all) = self.next(Statement::from_sql_and_values(backend, sql.join("; "), values));
        let rows = lease.execute_each(all).await?;
        // The counts of the statements are followed by that of `last`. One of BEGIN may precede them.
        let skipped = usize::from(last.is_some());
        for (of_this, rows) in affected.iter().rev().zip(rows.into_iter().rev().skip(skipped)) {
            of_this.set(rows);
        }
        Ok(())
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
            has_lost_writes: false,
            deferred: Vec::new(),
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

    /// Executes the deferred statements before the next one.
    async fn begin_statement(&self) -> Result<MutexGuard<'_, TransactionState>, DbErr> {
        let mut work = self.work.lock().await;
        if let Err(error) = work.flush().await {
            return Err(before_commit(&work.lease, error));
        }
        Ok(work)
    }

    /// Takes the deferred statements out, so that statements on other tables run ahead of them: these do not depend on
    /// each other, and so need no trip of their own. [`Self::defer_again`] puts them back.
    pub(in crate::store) async fn take_deferred(&self) -> DeferredStatements {
        DeferredStatements(mem::take(&mut self.work.lock().await.deferred))
    }

    /// Puts the statements of [`Self::take_deferred`] back.
    pub(in crate::store) async fn defer_again(&self, statements: DeferredStatements) {
        self.work.lock().await.deferred.extend(statements.0);
    }

    /// Commits the transaction.
    ///
    /// # Errors
    /// [`StoreError::NotCommitted`] when it certainly did not commit; otherwise it may have.
    pub async fn commit(self) -> Result<(), StoreError> {
        let mut work = self.work.into_inner();
        if work.has_lost_writes {
            return Err(DbErr::Custom("a deferred statement failed before".to_owned()).into());
        }
        let deferred = mem::take(&mut work.deferred);
        if deferred.is_empty() {
            if !work.is_begun {
                return Ok(());
            }
            work.lease.execute_unprepared("COMMIT").await?;
        } else {
            work.execute_all(self.backend, deferred, Some("COMMIT")).await?;
        }
        work.lease.state = ConnectionState::Good;
        Ok(())
    }
}

/// Deferred statements, taken out of their transaction.
pub(in crate::store) struct DeferredStatements(Vec<Deferred>);

#[async_trait]
impl DeferWrites for Transaction {
    async fn execute_deferred(&self, statement: Statement) -> Result<Affected, DbErr> {
        let affected = Affected::default();
        if self.backend == DbBackend::Sqlite {
            self.work.lock().await.deferred.push(Deferred {
                statement,
                affected: affected.clone(),
            });
        } else {
            affected.set(self.execute_raw(statement).await?.rows_affected());
        }
        Ok(affected)
    }
}

#[async_trait]
impl DeferWrites for Pool {
    async fn execute_deferred(&self, statement: Statement) -> Result<Affected, DbErr> {
        let affected = Affected::default();
        affected.set(self.execute_raw(statement).await?.rows_affected());
        Ok(affected)
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let mut work = self.begin_statement().await?;
        let (lease, statement) = work.next(statement);
        lease
            .execute(statement)
            .await
            .map_err(|error| before_commit(lease, error))
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let mut work = self.begin_statement().await?;
        let (lease, statement) = work.next(Statement::from_string(self.backend, sql));
        lease
            .execute_unprepared(&statement.sql)
            .await
            .map_err(|error| before_commit(lease, error))
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let mut work = self.begin_statement().await?;
        let (lease, statement) = work.next(statement);
        lease
            .query_one(statement)
            .await
            .map_err(|error| before_commit(lease, error))
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut work = self.begin_statement().await?;
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
