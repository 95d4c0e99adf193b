//! What can go wrong with the database.

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
    #[error("it is not of the form sqlite://FILE")]
    InvalidUrl,
    /// The database cannot be reached, is busy for too long, or has no room; later it may work.
    #[error("database unavailable")]
    Unavailable(#[source] DbErr),
    /// The database refused, or answered what we do not understand.
    #[error("database fault")]
    Fault(#[source] DbErr),
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        if is_passing(&error) {
            Self::Unavailable(error)
        } else {
            Self::Fault(error)
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::PhoneNumberTaken => Self::PhoneNumberTaken,
            StoreError::Unavailable(_) => Self::DatabaseUnavailable(error),
            StoreError::Fault(_) | StoreError::InvalidUrl => Self::internal(error),
        }
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        StoreError::from(error).into()
    }
}

/// Whether waiting may help.
fn is_passing(error: &DbErr) -> bool {
    match error {
        DbErr::ConnectionAcquire(_) => true,
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => match cause.as_ref() {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(cause) => cause.code().is_some_and(|code| is_passing_sqlite_code(&code)),
            _ => false,
        },
        _ => false,
    }
}

/// SQLITE_BUSY, SQLITE_LOCKED, SQLITE_IOERR, SQLITE_FULL and SQLITE_CANTOPEN. The low byte of an extended result code is
/// the primary one (<https://www.sqlite.org/rescode.html>).
fn is_passing_sqlite_code(code: &str) -> bool {
    code.parse::<u32>()
        .is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_and_full_pass_and_constraints_do_not() {
        for code in ["5", "261", "517", "6", "10", "266", "13", "14"] {
            assert!(is_passing_sqlite_code(code), "{code}");
        }
        for code in ["19", "2067", "1", "8", "", "HY000"] {
            assert!(!is_passing_sqlite_code(code), "{code}");
        }
    }
}
