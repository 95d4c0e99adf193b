//! One connection to a database of any kind, for the statements of SeaORM.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sea_orm::sqlx::mysql::{MySqlConnection, MySqlDatabaseError};
use sea_orm::sqlx::postgres::{PgConnection, PgDatabaseError, PgSeverity};
use sea_orm::sqlx::query::Query;
use sea_orm::sqlx::sqlite::{SqliteConnection, SqliteQueryResult, SqliteRow};
use sea_orm::sqlx::{self, AssertSqlSafe, Connection as _, Either, Executor as _, IntoArguments};
use sea_orm::{DbErr, ExecResult, QueryResult, RuntimeErr, Statement};
use sea_query_sqlx::SqlxValues;
use tokio_stream::{Stream, StreamExt as _};

/// Number of steps of SQLite's virtual machine between two checks of the deadline: some tens of microseconds.
const PROGRESS_STEPS: i32 = 1000;

/// An open connection. Dropping it closes it, and the server rolls back an open transaction.
#[derive(Debug)]
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

/// Applies the same action to the connection of any backend.
macro_rules! with {
    ($connection:expr, $it:ident => $action:expr) => {
        match $connection {
            Connection::Sqlite($it) => $action,
            Connection::Postgres($it) => $action,
            Connection::MySql($it) => $action,
        }
    };
}

impl Connection {
    /// Makes SQLite interrupt later statements after this time, or as soon as the returned token is dropped: a
    /// statement would otherwise continue after its caller has gone away. Servers have time limits of their own.
    pub(super) async fn set_deadline(&mut self, time: Duration) -> Result<Arc<()>, DbErr> {
        let token = Arc::new(());
        if let Self::Sqlite(it) = self {
            let (alive, deadline) = (Arc::downgrade(&token), Instant::now() + time);
            let mut handle = it
                .lock_handle()
                .await
                .map_err(|error| DbErr::Conn(from_sqlx(error)))?;
            handle.set_progress_handler(PROGRESS_STEPS, move || {
                alive.strong_count() > 0 && Instant::now() < deadline
            });
        }
        Ok(token)
    }

    /// Executes a statement. SQLite accepts several statements in one; the result is that of the last one.
    pub(super) async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        let done = match self {
            // sqlx would add up the results of all statements, and BEGIN reports the rows of the statement before it.
            Self::Sqlite(it) => each_result(it.fetch_many(query(statement)))
                .await
                .map(|mut results| results.pop().unwrap_or_default().into()),
            Self::Postgres(it) => query(statement).execute(it).await.map(ExecResult::from),
            Self::MySql(it) => query(statement).execute(it).await.map(ExecResult::from),
        };
        done.map_err(|error| DbErr::Exec(from_sqlx(error)))
    }

    /// Executes several statements in one, which SQLite accepts, and returns the number of changed rows of each. The
    /// numbers of BEGIN and COMMIT have no meaning.
    pub(super) async fn execute_each(&mut self, statement: Statement) -> Result<Vec<u64>, DbErr> {
        let Self::Sqlite(it) = self else {
            return Ok(vec![self.execute(statement).await?.rows_affected()]);
        };
        let results = each_result(it.fetch_many(query(statement))).await;
        let results = results.map_err(|error| DbErr::Exec(from_sqlx(error)))?;
        Ok(results.iter().map(SqliteQueryResult::rows_affected).collect())
    }

    pub(super) async fn execute_unprepared(&mut self, sql: &str) -> Result<ExecResult, DbErr> {
        let sql = AssertSqlSafe(sql.to_owned());
        let done = with!(self, it => it.execute(sql).await.map(ExecResult::from));
        done.map_err(|error| DbErr::Exec(from_sqlx(error)))
    }

    pub(super) async fn query_one(&mut self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let row = with!(self, it => {
            let row = query(statement).fetch_optional(it).await;
            row.map(|row| row.map(QueryResult::from))
        });
        row.map_err(|error| DbErr::Query(from_sqlx(error)))
    }

    pub(super) async fn query_all(&mut self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let rows = with!(self, it => {
            let rows = query(statement).fetch_all(it).await;
            rows.map(|rows| rows.into_iter().map(QueryResult::from).collect())
        });
        rows.map_err(|error| DbErr::Query(from_sqlx(error)))
    }

    /// Ends the transaction, if there is one. This also shows that the connection is usable.
    pub(super) async fn roll_back(&mut self) -> Result<(), DbErr> {
        match self.execute_unprepared("ROLLBACK").await {
            // SQLite returns an error if there is no transaction.
            Err(error) if is_broken(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads by an unprepared statement, which saves a round trip if it is executed once.
    pub(super) async fn query_unprepared(&mut self, sql: &str) -> Result<Vec<QueryResult>, DbErr> {
        let sql = AssertSqlSafe(sql.to_owned());
        let rows = with!(self, it => {
            let rows = it.fetch_all(sql).await;
            rows.map(|rows| rows.into_iter().map(QueryResult::from).collect())
        });
        rows.map_err(|error| DbErr::Query(from_sqlx(error)))
    }

    pub(super) async fn ping(&mut self) -> Result<(), DbErr> {
        with!(self, it => it.ping().await).map_err(|error| DbErr::Conn(from_sqlx(error)))
    }

    pub(super) async fn close(self) -> Result<(), DbErr> {
        with!(self, it => it.close().await).map_err(|error| DbErr::Conn(from_sqlx(error)))
    }
}

async fn each_result(
    mut results: impl Stream<Item = Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>> + Unpin,
) -> Result<Vec<SqliteQueryResult>, sqlx::Error> {
    let mut each = Vec::new();
    while let Some(result) = results.next().await {
        each.extend(result?.left());
    }
    Ok(each)
}

fn query<DB>(statement: Statement) -> Query<'static, DB, SqlxValues>
where
    DB: sqlx::Database,
    SqlxValues: IntoArguments<DB>,
{
    let Statement { sql, values, .. } = statement;
    let values = values.unwrap_or_else(|| sea_orm::Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(sql), SqlxValues(values))
}

pub(super) fn from_sqlx(error: sqlx::Error) -> RuntimeErr {
    RuntimeErr::SqlxError(Arc::new(error))
}

/// Returns whether a connection is unusable after this error: the error is not the database's answer to a statement, or
/// it is the last answer before the server closes the connection.
pub(super) fn is_broken(error: &DbErr) -> bool {
    let (DbErr::Conn(RuntimeErr::SqlxError(cause))
    | DbErr::Exec(RuntimeErr::SqlxError(cause))
    | DbErr::Query(RuntimeErr::SqlxError(cause))) = error
    else {
        return true;
    };
    let sqlx::Error::Database(answer) = cause.as_ref() else {
        return true;
    };
    if let Some(answer) = answer.try_downcast_ref::<PgDatabaseError>() {
        matches!(answer.severity(), PgSeverity::Fatal | PgSeverity::Panic)
    } else if let Some(answer) = answer.try_downcast_ref::<MySqlDatabaseError>() {
        // The server shuts down, its network fails, or the connection was killed or idle for too long.
        matches!(
            answer.number(),
            1053 | 1077 | 1079 | 1158..=1161 | 1184 | 1927 | 3168 | 3169 | 4031
        )
    } else {
        false
    }
}

/// Error of an answer that did not come in time.
pub(super) fn timed_out(what: &'static str) -> DbErr {
    DbErr::Conn(from_sqlx(io::Error::new(io::ErrorKind::TimedOut, what).into()))
}

/// Returns whether the error is [`timed_out`] or the timeout of TCP.
pub(super) fn is_timeout(error: &DbErr) -> bool {
    let (DbErr::Conn(RuntimeErr::SqlxError(cause))
    | DbErr::Exec(RuntimeErr::SqlxError(cause))
    | DbErr::Query(RuntimeErr::SqlxError(cause))) = error
    else {
        return false;
    };
    matches!(cause.as_ref(), sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}
