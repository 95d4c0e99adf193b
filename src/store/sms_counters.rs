//! Queries on the counters of SMS messages.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbBackend, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, SqlErr,
};
use uuid::Uuid;

use super::entity::sms_counter::{ActiveModel, Column, Entity, Model};
use super::{StoreError, Transaction};
use crate::clock::Timestamp;
use crate::domain::sms_limits::{Counter, CounterId, Usage, Window};

impl From<Model> for Counter {
    fn from(row: Model) -> Self {
        let window = |since, count| Window {
            since,
            count: u64::try_from(count).unwrap_or_default(),
        };
        let few = |count: i64| u32::try_from(count).unwrap_or_default();
        Self {
            hour: window(row.hour_since, row.hour_count),
            day: window(row.day_since, row.day_count),
            usage: Usage {
                asked: few(row.asked),
                asked_lately: few(row.asked_lately),
                lately_since: row.lately_since,
                verified: few(row.verified),
                shared_asked: few(row.shared_asked),
                shared_verified: few(row.shared_verified),
                halvings: few(row.halvings),
                paused_until: row.paused_until,
            },
        }
    }
}

fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Inserts an empty counter, unless there is one.
///
/// # Errors
/// The database fails.
pub async fn insert_new(db: &impl ConnectionTrait, id: CounterId, now: Timestamp) -> Result<(), StoreError> {
    let Counter { hour, day, usage } = Counter::new(now);
    let row = ActiveModel {
        id: Set(id.0),
        hour_since: Set(hour.since),
        hour_count: Set(0),
        day_since: Set(day.since),
        day_count: Set(0),
        asked: Set(0),
        asked_lately: Set(0),
        lately_since: Set(usage.lately_since),
        verified: Set(0),
        shared_asked: Set(0),
        shared_verified: Set(0),
        halvings: Set(0),
        paused_until: Set(None),
        counted_at: Set(now),
    };
    let insert = Entity::insert(row);
    if db.get_database_backend() == DbBackend::MySql {
        return match insert.exec_without_returning(db).await {
            Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Ok(()),
            inserted => Ok(inserted.map(drop)?),
        };
    }
    // PostgreSQL would log a violation.
    insert.on_conflict_do_nothing().exec_without_returning(db).await?;
    Ok(())
}

/// Locks these counters until the transaction ends, in the order of their ids, and returns them.
///
/// # Errors
/// The database fails.
pub async fn lock(tx: &Transaction, ids: &[CounterId]) -> Result<Vec<(CounterId, Counter)>, StoreError> {
    let rows = Entity::find()
        .filter(Column::Id.is_in(ids.iter().map(|id| id.0)))
        .order_by_asc(Column::Id)
        .lock_exclusive()
        .all(tx)
        .await?;
    let counters = rows
        .into_iter()
        .map(|row| (CounterId(row.id), Counter::from(row)));
    Ok(counters.collect())
}

/// Sets a counter. Call it under its lock.
///
/// # Errors
/// The database fails.
pub async fn update(
    tx: &Transaction,
    id: CounterId,
    counter: &Counter,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Counter { hour, day, usage } = counter;
    Entity::update_many()
        .filter(Column::Id.eq(id.0))
        .col_expr(Column::HourSince, Expr::value(hour.since))
        .col_expr(Column::HourCount, Expr::value(stored(hour.count)))
        .col_expr(Column::DaySince, Expr::value(day.since))
        .col_expr(Column::DayCount, Expr::value(stored(day.count)))
        .col_expr(Column::Asked, Expr::value(i64::from(usage.asked)))
        .col_expr(Column::AskedLately, Expr::value(i64::from(usage.asked_lately)))
        .col_expr(Column::LatelySince, Expr::value(usage.lately_since))
        .col_expr(Column::Verified, Expr::value(i64::from(usage.verified)))
        .col_expr(Column::SharedAsked, Expr::value(i64::from(usage.shared_asked)))
        .col_expr(
            Column::SharedVerified,
            Expr::value(i64::from(usage.shared_verified)),
        )
        .col_expr(Column::Halvings, Expr::value(i64::from(usage.halvings)))
        .col_expr(Column::PausedUntil, Expr::value(usage.paused_until))
        .col_expr(Column::CountedAt, Expr::value(now))
        .exec(tx)
        .await?;
    Ok(())
}

/// Removes at most `limit` counters that were unused since `since`, and returns their number.
///
/// # Errors
/// The database fails.
pub async fn remove_unused(
    db: &impl ConnectionTrait,
    limit: u64,
    since: Timestamp,
) -> Result<u64, StoreError> {
    let unused: Vec<Uuid> = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::CountedAt.lt(since))
        .order_by_asc(Column::CountedAt)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await?;
    if unused.is_empty() {
        return Ok(0);
    }
    // Another call may have used a counter in between.
    let removed = Entity::delete_many()
        .filter(Column::Id.is_in(unused))
        .filter(Column::CountedAt.lt(since))
        .exec(db)
        .await?;
    Ok(removed.rows_affected)
}
