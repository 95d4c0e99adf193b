//! Times in queries.

use sea_orm::{DbBackend, Value};

use crate::clock::Timestamp;

/// Converts a time for comparisons. sqlx would convert it to a TIMESTAMP for MySQL, which would be NULL before 1970 and
/// after 2038.
pub(super) fn comparable(time: Timestamp, backend: DbBackend) -> Value {
    match backend {
        DbBackend::MySql => time.naive_utc().into(),
        _ => time.into(),
    }
}
