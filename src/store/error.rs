//! Error type of the store, and the classification of database errors.

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

/// Reason for which a query or a transaction failed.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// Another user has this phone number.
    #[error("phone number taken")]
    PhoneNumberTaken,
    /// The database URL is invalid.
    #[error(transparent)]
    InvalidUrl(#[from] UrlError),
    /// The database lacks something that the service relies on, or one of its files cannot be trusted.
    #[error("{0}")]
    Unsuitable(String),
    /// The transaction certainly did not commit, and a retry may succeed: a deadlock, a serialization failure, a lock
    /// timeout, a server that no longer accepts writes, a stale plan, or a connection that was lost before COMMIT was
    /// sent.
    #[error("the database did not commit")]
    NotCommitted(#[source] DbErr),
    /// The database cannot be reached, is busy for too long, or has no space; a later attempt may succeed. If the
    /// COMMIT of a transaction fails this way, it is unknown whether the transaction committed.
    #[error("database unavailable")]
    Unavailable(#[source] DbErr),
    /// The database rejected the statement, or its answer is not understood.
    #[error("database fault")]
    Fault(#[source] DbErr),
}

impl StoreError {
    /// Creates the error of a transaction that did not commit.
    pub(crate) fn not_committed(why: &str) -> Self {
        Self::NotCommitted(DbErr::Custom(why.to_owned()))
    }

    /// Returns whether the database server may be about to start, so that the caller should wait for it: it cannot be
    /// reached, has not started, has too many connections now, or does not accept writes yet. A wrong password, a
    /// missing database or a file that cannot be opened is a mistake of the configuration.
    pub(crate) fn may_be_starting(&self) -> bool {
        match self {
            Self::Unavailable(DbErr::ConnectionAcquire(_)) => true,
            Self::Unavailable(DbErr::Conn(RuntimeErr::SqlxError(cause))) => match cause.as_ref() {
                // An invalid certificate is reported as invalid data.
                sqlx::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
                sqlx::Error::Database(answer) if answer.try_downcast_ref::<SqliteError>().is_none() => {
                    kind_of_answer(answer.as_ref()) != DbErrorKind::Fault
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Returns whether other calls or transactions caused the failure, which is no evidence against the database
    /// itself.
    pub(crate) fn is_contention(&self) -> bool {
        matches!(
            self,
            Self::NotCommitted(_) | Self::Unavailable(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
        )
    }

    /// Returns whether the connection was lost and a new one may help. It is unknown whether the sent statement was
    /// committed.
    pub(crate) fn is_lost_connection(&self) -> bool {
        let Self::Unavailable(error @ (DbErr::Exec(_) | DbErr::Query(_))) = self else {
            return false;
        };
        is_broken(error) && !is_timeout(error)
    }

    /// Creates the error of a reading that failed.
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

/// Meaning of a failure for the caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DbErrorKind {
    /// Another transaction caused a conflict; this one did not commit.
    Conflict,
    /// The server does not accept writes, or is a standby: the statement had no effect, and may succeed on a new
    /// connection to another server.
    WrongServer,
    /// A prepared statement is stale: it was not executed, and may succeed on a new connection.
    Stale,
    /// The database cannot be reached, is busy for too long, or has no space.
    Unavailable,
    /// The database rejected the statement, or its answer is not understood.
    Fault,
}

impl DbErrorKind {
    /// All kinds, in the order of their numbers.
    pub(super) const ALL: [Self; 5] = [
        Self::Conflict,
        Self::WrongServer,
        Self::Stale,
        Self::Unavailable,
        Self::Fault,
    ];

    /// Classifies an error.
    pub(super) fn of(error: &DbErr) -> Self {
        kind(error)
    }

    /// Value of the metric label.
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
        // Any answer of a server to a connection attempt may be temporary: a rotated password, too many connections, a
        // start.
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

/// Converts the loss of the connection: its transaction certainly did not commit.
pub(super) fn lost_before_commit(error: DbErr) -> DbErr {
    let lost = sqlx::Error::AnyDriverError(Box::new(LostBeforeCommit(error)));
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(lost)))
}

/// An unused answer: another server sent it than the one to which the connection was opened, or one that does not
/// accept writes.
#[derive(Debug, Error)]
#[error("another server answers, or one that does not accept writes")]
struct OtherServer;

/// See [`OtherServer`].
pub(super) fn other_server() -> DbErr {
    let other = sqlx::Error::AnyDriverError(Box::new(OtherServer));
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(other)))
}

/// Each database has error codes of its own.
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
        // SQLITE_BUSY, SQLITE_LOCKED. A COMMIT with this answer has not happened.
        Ok(5 | 6) => DbErrorKind::Conflict,
        // SQLITE_READONLY, SQLITE_INTERRUPT (the time limit of a list), SQLITE_IOERR, SQLITE_FULL and SQLITE_CANTOPEN.
        Ok(8 | 9 | 10 | 13 | 14) => DbErrorKind::Unavailable,
        _ => DbErrorKind::Fault,
    }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>. `routine` is the function of the server's source
/// that raises the error; unlike the message, it does not depend on the language.
fn kind_of_postgres_answer(code: &str, routine: Option<&str>) -> DbErrorKind {
    match code {
        // deadlock_detected. A standby returns the same code when a reader blocks the recovery.
        "40P01" if routine != Some("DeadLockReport") => DbErrorKind::WrongServer,
        // deadlock_detected, lock_not_available (lock_timeout).
        "40P01" | "55P03" => DbErrorKind::Conflict,
        // read_only_sql_transaction; serialization_failure, which READ COMMITTED returns only on a standby.
        "25006" | "40001" => DbErrorKind::WrongServer,
        // feature_not_supported (a cached plan of another result type, or a statement that a standby does not support);
        // object_not_in_prerequisite_state (recovery is in progress); invalid_sql_statement_name (a prepared statement
        // that the server has forgotten). Each may have another cause, so only this pool is renewed.
        "0A000" | "55000" | "26000" => DbErrorKind::Stale,
        // in_failed_sql_transaction (an earlier statement has failed), idle_in_transaction_session_timeout,
        // query_canceled (statement_timeout).
        "25P02" | "25P03" | "57014" => DbErrorKind::Unavailable,
        // Connection exceptions, also of pgbouncer; insufficient resources; shutdown or start of the server; errors of
        // its system.
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
        // A lock timeout, a deadlock; for MariaDB also a row that changed since the snapshot.
        1205 | 1213 | 1020 => DbErrorKind::Conflict,
        // No space: disk, memory, table, connections (of the server and of the user).
        1021 | 1037 | 1038 | 1041 | 1114 | 1040 | 1203 | 1226
        // The server shuts down, or its network fails; the connection or the query was killed.
        | 1053 | 1077 | 1079 | 1158..=1161 | 1184 | 1317 | 1927 | 3168 | 3169
        // The connection was idle for too long, or is in a transaction that this program has not begun.
        | 4031 | 1568
        // The statement timeout: MariaDB's and MySQL's.
        | 1969 | 3024 => DbErrorKind::Unavailable,
        // The server is read-only (by an option, by the transaction, by --innodb-read-only); a node of Galera is not
        // ready.
        1290 | 1792 | 1836 | 1047 => DbErrorKind::WrongServer,
        // A prepared statement has to be prepared again, or is unknown.
        1615 | 1243 => DbErrorKind::Stale,
        _ => DbErrorKind::Fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_conflicts_are_retried_and_constraint_violations_are_not() {
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
    fn postgres_codes_map_to_their_kinds() {
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
        // 40003, statement_completion_unknown: it is unknown whether the statement was executed, so it must not be
        // retried.
        for code in ["23505", "42P01", "40003", "28P01", ""] {
            assert_eq!(kind(code), DbErrorKind::Fault, "{code}");
        }
    }

    #[test]
    fn mysql_numbers_map_to_their_kinds() {
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

    /// A rotated password and too many connections: the same codes are faults as answers to a statement.
    #[test]
    fn every_answer_to_a_connection_attempt_may_be_temporary() {
        let refused = sqlx::Error::Configuration("anything".into());
        let refused = DbErr::Conn(RuntimeErr::SqlxError(Arc::new(refused)));
        assert_eq!(kind(&refused), DbErrorKind::Unavailable);
    }

    #[test]
    fn a_connection_lost_before_commit_means_not_committed() {
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
