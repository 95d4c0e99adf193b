//! What can go wrong with the database.

use std::io;
use std::sync::Arc;

use sea_orm::sqlx::error::DatabaseError;
use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::sqlx::postgres::PgDatabaseError;
use sea_orm::sqlx::sqlite::SqliteError;
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, sqlx};
use thiserror::Error;

use super::connection::{is_broken, is_timeout};
use super::url::UrlError;

/// Why a query or a transaction failed.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// Somebody has this phone number.
    #[error("phone number taken")]
    PhoneNumberTaken,
    /// The URL of the database is not valid.
    #[error(transparent)]
    InvalidUrl(#[from] UrlError),
    /// The database lacks something that the service relies on, or one of its files cannot be trusted.
    #[error("{0}")]
    Unsuitable(String),
    /// The transaction certainly did not commit, and may succeed when it is retried: a deadlock, a serialization
    /// failure, a lock timeout, a server that does not accept writes any more, a stale plan, or a connection that was
    /// lost before COMMIT was sent.
    #[error("the database did not commit")]
    NotCommitted(#[source] DbErr),
    /// The database cannot be reached, is busy for too long, or has no room; later it may work. Whether a transaction
    /// committed is not known if it was its COMMIT that failed so.
    #[error("database unavailable")]
    Unavailable(#[source] DbErr),
    /// The database refused, or answered what we do not understand.
    #[error("database fault")]
    Fault(#[source] DbErr),
}

impl StoreError {
    /// The transaction did not commit, for this reason.
    pub(crate) fn not_committed(why: &str) -> Self {
        Self::NotCommitted(DbErr::Custom(why.to_owned()))
    }

    /// Whether the database server may be about to start, so that it is worth waiting for it: it is not reached, has
    /// not started, has too many connections now, or does not accept writes yet. A wrong password, a missing database
    /// or a file that cannot be opened is a mistake.
    pub(crate) fn may_be_starting(&self) -> bool {
        match self {
            Self::Unavailable(DbErr::ConnectionAcquire(_)) => true,
            Self::Unavailable(DbErr::Conn(RuntimeErr::SqlxError(cause))) => match cause.as_ref() {
                // What is wrong with a certificate comes as invalid data.
                sqlx::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
                sqlx::Error::Database(answer) if answer.try_downcast_ref::<SqliteError>().is_none() => {
                    kind_of_answer(answer.as_ref()) != DbErrorKind::Fault
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether other calls or transactions were in the way, which says nothing of the database itself.
    pub(crate) fn is_contention(&self) -> bool {
        matches!(
            self,
            Self::NotCommitted(_) | Self::Unavailable(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
        )
    }

    /// Whether the connection was lost, and a new one may be of use: whether what was sent was committed is not known.
    pub(crate) fn is_lost_connection(&self) -> bool {
        matches!(self, Self::Unavailable(error @ (DbErr::Exec(_) | DbErr::Query(_))) if is_broken(error) && !is_timeout(error))
    }

    /// What should have been read was not.
    pub(crate) fn unavailable(why: &str) -> Self {
        Self::Unavailable(DbErr::Custom(why.to_owned()))
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match kind(&error) {
            DbErrorKind::Conflict | DbErrorKind::WrongServer | DbErrorKind::Stale => {
                Self::NotCommitted(error)
            }
            DbErrorKind::Unavailable => Self::Unavailable(error),
            DbErrorKind::Fault => Self::Fault(error),
        }
    }
}

/// What a failure means for the caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DbErrorKind {
    /// Another transaction was in the way; this one did not commit.
    Conflict,
    /// The server does not accept writes, or is a standby: the statement had no effect, and may succeed on a new
    /// connection to another server.
    WrongServer,
    /// A prepared statement is out of date: it was not executed, and may succeed on a new connection.
    Stale,
    /// The database is not reached, is busy for too long, or has no room.
    Unavailable,
    /// The database refused, or its answer is not understood.
    Fault,
}

impl DbErrorKind {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 5] = [
        Self::Conflict,
        Self::WrongServer,
        Self::Stale,
        Self::Unavailable,
        Self::Fault,
    ];

    /// What a failure is.
    pub(super) fn of(error: &DbErr) -> Self {
        kind(error)
    }

    /// What it is called.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::WrongServer => "wrong_server",
            Self::Stale => "stale",
            Self::Unavailable => "unavailable",
            Self::Fault => "fault",
        }
    }
}

fn kind(error: &DbErr) -> DbErrorKind {
    match error {
        DbErr::ConnectionAcquire(_) => DbErrorKind::Unavailable,
        // Whatever a server answers to connecting may pass: a password that is rotated, too many connections, a start.
        DbErr::Conn(RuntimeErr::SqlxError(_)) => DbErrorKind::Unavailable,
        DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause)) => {
            match cause.as_ref() {
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::Tls(_)
                | sqlx::Error::WorkerCrashed => DbErrorKind::Unavailable,
                sqlx::Error::AnyDriverError(cause) if cause.is::<LostBeforeCommit>() => DbErrorKind::Conflict,
                sqlx::Error::AnyDriverError(cause) if cause.is::<OtherServer>() => DbErrorKind::WrongServer,
                sqlx::Error::Database(cause) => kind_of_answer(cause.as_ref()),
                _ => DbErrorKind::Fault,
            }
        }
        _ => DbErrorKind::Fault,
    }
}

/// A connection that was lost in the middle of a transaction, before COMMIT was sent: the server rolls it back.
#[derive(Debug, Error)]
#[error("the connection was lost before COMMIT")]
struct LostBeforeCommit(#[source] DbErr);

/// Notes that the transaction, whose connection was lost by this, certainly did not commit.
pub(super) fn lost_before_commit(error: DbErr) -> DbErr {
    let lost = sqlx::Error::AnyDriverError(Box::new(LostBeforeCommit(error)));
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(lost)))
}

/// An answer that is not used, since another server gave it than the one that the connection was opened to, or one that
/// does not accept writes.
#[derive(Debug, Error)]
#[error("another server answers, or one that does not accept writes")]
struct OtherServer;

/// See [`OtherServer`].
pub(super) fn other_server() -> DbErr {
    let other = sqlx::Error::AnyDriverError(Box::new(OtherServer));
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(other)))
}

/// Each database has codes of its own.
fn kind_of_answer(error: &dyn DatabaseError) -> DbErrorKind {
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        kind_of_postgres_answer(error.code(), error.routine())
    } else if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        kind_of_mysql_number(error.number())
    } else {
        error
            .code()
            .map_or(DbErrorKind::Fault, |code| kind_of_sqlite_code(&code))
    }
}

/// The low byte of an extended result code is the primary one (<https://www.sqlite.org/rescode.html>).
fn kind_of_sqlite_code(code: &str) -> DbErrorKind {
    match code.parse::<u32>().map(|code| code & 0xff) {
        // SQLITE_BUSY, SQLITE_LOCKED. A COMMIT that is answered so has not happened.
        Ok(5 | 6) => DbErrorKind::Conflict,
        // SQLITE_READONLY, SQLITE_INTERRUPT (the deadline of a list), SQLITE_IOERR, SQLITE_FULL and SQLITE_CANTOPEN.
        Ok(8 | 9 | 10 | 13 | 14) => DbErrorKind::Unavailable,
        _ => DbErrorKind::Fault,
    }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>. `routine` is the function of the server's source that
/// raises the error; unlike the message it is in no language.
fn kind_of_postgres_answer(code: &str, routine: Option<&str>) -> DbErrorKind {
    match code {
        // deadlock_detected. A standby says the same when a reader is in the way of recovery.
        "40P01" if routine != Some("DeadLockReport") => DbErrorKind::WrongServer,
        // deadlock_detected, lock_not_available (lock_timeout).
        "40P01" | "55P03" => DbErrorKind::Conflict,
        // read_only_sql_transaction; serialization_failure, which READ COMMITTED knows on a standby only.
        "25006" | "40001" => DbErrorKind::WrongServer,
        // feature_not_supported (a cached plan of another result type, or what a standby does not do);
        // object_not_in_prerequisite_state (recovery is in progress); invalid_sql_statement_name (a prepared statement
        // that the server has forgotten). Each may have another cause, so no more than this pool is renewed.
        "0A000" | "55000" | "26000" => DbErrorKind::Stale,
        // in_failed_sql_transaction (an earlier statement has failed), idle_in_transaction_session_timeout,
        // query_canceled (statement_timeout).
        "25P02" | "25P03" | "57014" => DbErrorKind::Unavailable,
        // Connection exceptions, of pgbouncer too; insufficient resources; the server's end or start; errors of its
        // system.
        _ if ["08", "53", "57P", "58"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            DbErrorKind::Unavailable
        }
        _ => DbErrorKind::Fault,
    }
}

/// <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>,
/// <https://mariadb.com/docs/server/reference/error-codes>
fn kind_of_mysql_number(number: u16) -> DbErrorKind {
    match number {
        // A lock that was waited for too long, a deadlock; of MariaDB a row that changed since the snapshot.
        1205 | 1213 | 1020 => DbErrorKind::Conflict,
        // No room: disk, memory, table, connections (of the server and of the user).
        1021 | 1037 | 1038 | 1041 | 1114 | 1040 | 1203 | 1226
        // The server ends, or its network fails; the connection or the query was killed.
        | 1053 | 1077 | 1079 | 1158..=1161 | 1184 | 1317 | 1927 | 3168 | 3169
        // The connection was idle for too long, or is in a transaction that this program has not begun.
        | 4031 | 1568
        // The statement timeout: MariaDB's and MySQL's.
        | 1969 | 3024 => DbErrorKind::Unavailable,
        // The server is read-only (by an option, by the transaction, by --innodb-read-only); a node of Galera is not
        // ready.
        1290 | 1792 | 1836 | 1047 => DbErrorKind::WrongServer,
        // A prepared statement has to be prepared again, or is not known.
        1615 | 1243 => DbErrorKind::Stale,
        _ => DbErrorKind::Fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_conflicts_pass_and_constraints_do_not() {
        for code in ["5", "261", "517", "6"] {
            assert_eq!(kind_of_sqlite_code(code), DbErrorKind::Conflict, "{code}");
        }
        for code in ["8", "776", "9", "10", "266", "13", "14"] {
            assert_eq!(kind_of_sqlite_code(code), DbErrorKind::Unavailable, "{code}");
        }
        for code in ["19", "2067", "1", "11", "", "HY000"] {
            assert_eq!(kind_of_sqlite_code(code), DbErrorKind::Fault, "{code}");
        }
    }

    #[test]
    fn postgres_answers_have_the_kind_that_their_code_stands_for() {
        let kind = |code| kind_of_postgres_answer(code, None);
        let deadlock = kind_of_postgres_answer("40P01", Some("DeadLockReport"));
        assert_eq!(
            (deadlock, kind("55P03")),
            (DbErrorKind::Conflict, DbErrorKind::Conflict)
        );
        let recovery = kind_of_postgres_answer("40P01", Some("ProcessInterrupts"));
        assert_eq!(recovery, DbErrorKind::WrongServer);
        for code in ["25006", "40001"] {
            assert_eq!(kind(code), DbErrorKind::WrongServer, "{code}");
        }
        for code in ["0A000", "55000", "26000"] {
            assert_eq!(kind(code), DbErrorKind::Stale, "{code}");
        }
        for code in [
            "08006", "08P01", "53100", "53300", "57P01", "57P03", "57014", "58030",
        ] {
            assert_eq!(kind(code), DbErrorKind::Unavailable, "{code}");
        }
        // 40003, statement_completion_unknown: whether it was executed is not known, so it must not be retried.
        for code in ["23505", "42P01", "40003", "28P01", ""] {
            assert_eq!(kind(code), DbErrorKind::Fault, "{code}");
        }
    }

    #[test]
    fn mysql_answers_have_the_kind_that_their_number_stands_for() {
        for number in [1205, 1213] {
            assert_eq!(kind_of_mysql_number(number), DbErrorKind::Conflict, "{number}");
        }
        for number in [1290, 1792, 1836, 1047] {
            assert_eq!(kind_of_mysql_number(number), DbErrorKind::WrongServer, "{number}");
        }
        for number in [1615, 1243] {
            assert_eq!(kind_of_mysql_number(number), DbErrorKind::Stale, "{number}");
        }
        for number in [1021, 1040, 1053, 1114, 1969, 3024] {
            assert_eq!(kind_of_mysql_number(number), DbErrorKind::Unavailable, "{number}");
        }
        for number in [1062, 1146, 1064, 1045, 1665] {
            assert_eq!(kind_of_mysql_number(number), DbErrorKind::Fault, "{number}");
        }
    }

    /// A rotated password, too many connections: the same codes that are faults as answers to a statement.
    #[test]
    fn every_answer_to_connecting_may_pass() {
        let refused = sqlx::Error::Configuration("anything".into());
        let refused = DbErr::Conn(RuntimeErr::SqlxError(Arc::new(refused)));
        assert_eq!(kind(&refused), DbErrorKind::Unavailable);
    }

    #[test]
    fn what_is_lost_before_commit_is_not_committed() {
        let gone = io::Error::from(io::ErrorKind::ConnectionReset);
        let gone = DbErr::Query(RuntimeErr::SqlxError(Arc::new(gone.into())));
        assert!(matches!(
            StoreError::from(gone.clone()),
            StoreError::Unavailable(_)
        ));
        let lost = lost_before_commit(gone);
        assert!(matches!(StoreError::from(lost), StoreError::NotCommitted(_)));
    }
}
