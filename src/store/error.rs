//! What can go wrong with the database.

use sea_orm::sqlx::error::DatabaseError;
use sea_orm::sqlx::mysql::MySqlDatabaseError;
use sea_orm::sqlx::postgres::PgDatabaseError;
use sea_orm::{DbErr, RuntimeErr, sqlx};
use thiserror::Error;

use crate::error::Error;

/// Why a query or a transaction failed.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// Somebody has this phone number.
    #[error("phone number taken")]
    PhoneNumberTaken,
    /// The URL of the database cannot be read, or is of a kind that is not known. What is wrong with it is not told, since
    /// it may have a secret in it.
    #[error(
        "it is not of the form sqlite://FILE, postgres://USER:PASSWORD@HOST/DATABASE or \
         mysql://USER:PASSWORD@HOST/DATABASE, or has a parameter that is not known"
    )]
    InvalidUrl,
    /// Other transactions were in the way: a deadlock, a serialization failure, or a lock that was waited for too long. The
    /// transaction did certainly not commit, and done again it may succeed.
    #[error("database conflict")]
    Conflict(#[source] DbErr),
    /// The database cannot be reached, is busy for too long, or has no room; later it may work. Whether a transaction
    /// committed is not known if it was its COMMIT that failed so.
    #[error("database unavailable")]
    Unavailable(#[source] DbErr),
    /// The database refused, or answered what we do not understand.
    #[error("database fault")]
    Fault(#[source] DbErr),
}

impl StoreError {
    /// Another transaction was in the way of ours, which did not commit.
    pub(crate) fn conflict(why: &str) -> Self {
        Self::Conflict(DbErr::Custom(why.to_owned()))
    }

    /// What should have been read was not.
    pub(crate) fn unavailable(why: &str) -> Self {
        Self::Unavailable(DbErr::Custom(why.to_owned()))
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match kind(&error) {
            Kind::Conflict => Self::Conflict(error),
            Kind::Unavailable => Self::Unavailable(error),
            Kind::Fault => Self::Fault(error),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::PhoneNumberTaken => Self::PhoneNumberTaken,
            StoreError::Conflict(_) | StoreError::Unavailable(_) => Self::DatabaseUnavailable(error),
            StoreError::Fault(_) | StoreError::InvalidUrl => Self::internal(error),
        }
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        StoreError::from(error).into()
    }
}

/// What a failure means for whoever asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Conflict,
    Unavailable,
    Fault,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 3] = [Self::Conflict, Self::Unavailable, Self::Fault];

    /// What a failure is.
    pub(super) fn of(error: &DbErr) -> Self {
        kind(error)
    }

    /// What it is called.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Fault => "fault",
        }
    }
}

fn kind(error: &DbErr) -> Kind {
    match error {
        DbErr::ConnectionAcquire(_) => Kind::Unavailable,
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => match cause.as_ref() {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Tls(_)
            | sqlx::Error::WorkerCrashed => Kind::Unavailable,
            sqlx::Error::Database(cause) => kind_of_answer(cause.as_ref()),
            _ => Kind::Fault,
        },
        _ => Kind::Fault,
    }
}

/// Each database has codes of its own.
fn kind_of_answer(error: &dyn DatabaseError) -> Kind {
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        kind_of_postgres_code(error.code())
    } else if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        kind_of_mysql_number(error.number())
    } else {
        error
            .code()
            .map_or(Kind::Fault, |code| kind_of_sqlite_code(&code))
    }
}

/// The low byte of an extended result code is the primary one (<https://www.sqlite.org/rescode.html>).
fn kind_of_sqlite_code(code: &str) -> Kind {
    match code.parse::<u32>().map(|code| code & 0xff) {
        // SQLITE_BUSY, SQLITE_LOCKED. A COMMIT that is answered so has not happened.
        Ok(5 | 6) => Kind::Conflict,
        // SQLITE_IOERR, SQLITE_FULL and SQLITE_CANTOPEN.
        Ok(10 | 13 | 14) => Kind::Unavailable,
        _ => Kind::Fault,
    }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn kind_of_postgres_code(code: &str) -> Kind {
    match code {
        // serialization_failure, deadlock_detected, lock_not_available (lock_timeout).
        "40001" | "40P01" | "55P03" => Kind::Conflict,
        // read_only_sql_transaction (a standby, after a failover), idle_in_transaction_session_timeout, in_failed_sql_transaction
        // (what went before has failed), query_canceled (statement_timeout).
        "25006" | "25P02" | "25P03" | "57014" => Kind::Unavailable,
        // Connection exceptions, of pgbouncer too; insufficient resources; the server's end or start; errors of its system.
        _ if ["08", "53", "57P", "58"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Kind::Unavailable
        }
        _ => Kind::Fault,
    }
}

/// <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>,
/// <https://mariadb.com/docs/server/reference/error-codes>
fn kind_of_mysql_number(number: u16) -> Kind {
    match number {
        // A lock that was waited for too long, a deadlock; of MariaDB a row that changed since the snapshot.
        1205 | 1213 | 1020 => Kind::Conflict,
        // No room: disk, memory, table, connections (of the server and of the user).
        1021 | 1037 | 1038 | 1041 | 1114 | 1040 | 1203 | 1226
        // The server ends, or its network fails; the connection or the query was killed.
        | 1053 | 1077 | 1079 | 1158..=1161 | 1184 | 1317 | 1927 | 3168 | 3169
        // The connection was idle for too long, or is in a transaction that nobody knows of; a node of Galera is not ready.
        | 4031 | 1568 | 1047
        // It is read only, as a replica is after a failover.
        | 1290 | 1792 | 1836
        // The bound of statements: MariaDB's and MySQL's.
        | 1969 | 3024 => Kind::Unavailable,
        _ => Kind::Fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_conflicts_pass_and_constraints_do_not() {
        for code in ["5", "261", "517", "6"] {
            assert_eq!(kind_of_sqlite_code(code), Kind::Conflict, "{code}");
        }
        for code in ["10", "266", "13", "14"] {
            assert_eq!(kind_of_sqlite_code(code), Kind::Unavailable, "{code}");
        }
        for code in ["19", "2067", "1", "8", "", "HY000"] {
            assert_eq!(kind_of_sqlite_code(code), Kind::Fault, "{code}");
        }
    }

    #[test]
    fn postgres_conflicts_pass_and_constraints_do_not() {
        for code in ["40001", "40P01", "55P03"] {
            assert_eq!(kind_of_postgres_code(code), Kind::Conflict, "{code}");
        }
        for code in [
            "08006", "08P01", "53300", "57P01", "57P03", "57014", "58030", "25006",
        ] {
            assert_eq!(kind_of_postgres_code(code), Kind::Unavailable, "{code}");
        }
        // 40003, statement_completion_unknown: whether it happened is not known, so it must not be done again.
        for code in ["23505", "42P01", "40003", "28P01", ""] {
            assert_eq!(kind_of_postgres_code(code), Kind::Fault, "{code}");
        }
    }

    #[test]
    fn mysql_conflicts_pass_and_constraints_do_not() {
        for number in [1205, 1213] {
            assert_eq!(kind_of_mysql_number(number), Kind::Conflict, "{number}");
        }
        for number in [1040, 1053, 1836, 1969, 3024] {
            assert_eq!(kind_of_mysql_number(number), Kind::Unavailable, "{number}");
        }
        for number in [1062, 1146, 1064, 1045] {
            assert_eq!(kind_of_mysql_number(number), Kind::Fault, "{number}");
        }
    }
}
