//! Times in queries.

use sea_orm::{DbBackend, Value};

use crate::clock::Timestamp;

/// A time to compare with. As what sqlx makes of it for MySQL, a TIMESTAMP, it would be NULL before 1970 and after
/// 2038.
pub(super) fn comparable(time: Timestamp, backend: DbBackend) -> Value {
    match backend {
        DbBackend::MySql => time.naive_utc().into(),
        _ => time.into(),
    }
}
