//! Single statements on a pool, each on any connection, and their retries on another connection.

use sea_orm::prelude::async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use super::lease::operation_of;
use super::{Pool, PoolState};
use crate::store::connection::{is_broken, is_timeout};
use crate::store::error::DbErrorKind;

/// Maximum number of retries of a statement without effect on another connection. A connection may have been returned
/// to the pool just before its generation ended.
const RETRIES: u32 = 2;

impl Pool {
    /// `is_read`: the statement never has an effect.
    pub(super) fn retries(&self, is_read: bool) -> Retries<'_> {
        Retries {
            pool: &self.0,
            is_read,
            left: RETRIES,
        }
    }
}

/// Counts the retries on other connections.
pub(super) struct Retries<'a> {
    pool: &'a PoolState,
    is_read: bool,
    left: u32,
}

impl Retries<'_> {
    /// Returns whether to try once more: the failed statement certainly had no effect, and may succeed on another
    /// connection. A statement that timed out is not retried, since the retry would also be late.
    pub(super) fn allow_another<T>(&mut self, outcome: &Result<T, DbErr>) -> bool {
        let Err(error) = outcome else { return false };
        let had_no_effect =
            matches!(
                DbErrorKind::of(error),
                DbErrorKind::WrongServer | DbErrorKind::Stale
            ) || self.is_read && is_broken(error) && !is_timeout(error) && self.pool.is_remote();
        if !had_no_effect || self.left == 0 {
            return false;
        }
        tracing::debug!(%error, "a statement is retried on another connection");
        self.left -= 1;
        true
    }
}

#[async_trait]
impl ConnectionTrait for Pool {
    fn get_database_backend(&self) -> DbBackend {
        self.0.server.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let mut retries = self.retries(false);
        loop {
            let outcome = self.lease().await?.execute(statement.clone()).await;
            if !retries.allow_another(&outcome) {
                return outcome;
            }
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let mut retries = self.retries(false);
        loop {
            let outcome = self.lease().await?.execute_unprepared(sql).await;
            if !retries.allow_another(&outcome) {
                return outcome;
            }
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let mut retries = self.retries(operation_of(&statement.sql) == "SELECT");
        loop {
            let row = self.lease().await?.query_one(statement.clone()).await;
            if !retries.allow_another(&row) {
                return row;
            }
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut retries = self.retries(operation_of(&statement.sql) == "SELECT");
        loop {
            let rows = self.lease().await?.query_all(statement.clone()).await;
            if !retries.allow_another(&rows) {
                return rows;
            }
        }
    }
}

/// A pool with single commits that may be lost in a power cut. It differs from the pool only for SQLite; the settings
/// of a server decide about its own commits.
#[derive(Clone, Copy, Debug)]
pub struct Unsynced<'a>(&'a Pool);

impl<'a> Unsynced<'a> {
    pub(super) fn of(pool: &'a Pool) -> Self {
        Self(pool)
    }
}

#[async_trait]
impl ConnectionTrait for Unsynced<'_> {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let mut retries = self.0.retries(false);
        loop {
            let outcome = self.0.lease().await?.execute_unsynced(statement.clone()).await;
            if !retries.allow_another(&outcome) {
                return outcome;
            }
        }
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
