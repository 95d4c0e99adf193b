//! Queries on failed and running attempts. A subject without remembered attempts has no row, or an expired one.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, LockBehavior, LockType};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbBackend, DeleteMany, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, QueryTrait as _, SqlErr, TryInsertResult,
};
use uuid::Uuid;

use super::entity::attempt::{ActiveModel, Column, Entity, Model};
use super::{Affected, DeferWrites as _, StoreError, Transaction, delete_found};
use crate::clock::Timestamp;
use crate::domain::throttle::{Memory, SubjectId};

/// Stored attempts of a subject.
#[derive(Clone, Copy, Debug)]
pub struct AttemptRow {
    /// The subject.
    pub subject: SubjectId,
    /// The attempt that inserted the row.
    pub inserted_by: Uuid,
    /// The remembered attempts.
    pub memory: Memory,
}

impl From<Model> for AttemptRow {
    fn from(row: Model) -> Self {
        Self {
            subject: SubjectId(row.id),
            inserted_by: row.inserted_by,
            memory: Memory {
                forgotten_at: row.forgotten_at,
                last_at: row.last_at,
            },
        }
    }
}

/// Inserts the rows of subjects that have none, and returns their number. MySQL inserts all of them or none.
///
/// # Errors
/// The database fails.
pub async fn insert_new(db: &impl ConnectionTrait, rows: &[AttemptRow]) -> Result<u64, StoreError> {
    let models = rows.iter().map(|row| ActiveModel {
        id: Set(row.subject.0),
        inserted_by: Set(row.inserted_by),
        forgotten_at: Set(row.memory.forgotten_at),
        last_at: Set(row.memory.last_at),
    });
    let insert = Entity::insert_many(models);
    let inserted = if db.get_database_backend() == DbBackend::MySql {
        // The number of affected rows of MySQL does not distinguish a new row from an existing one.
        match insert.exec_without_returning(db).await {
            Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => 0,
            inserted => inserted?,
        }
    } else {
        // PostgreSQL would log a violation and abort the transaction.
        match insert.on_conflict_do_nothing().exec_without_returning(db).await? {
            TryInsertResult::Inserted(inserted) => inserted,
            TryInsertResult::Empty | TryInsertResult::Conflicted => 0,
        }
    };
    Ok(inserted)
}

/// Locks the rows of these subjects until the transaction ends, in the order of their ids, and returns them.
///
/// # Errors
/// The database fails.
pub async fn lock(tx: &Transaction, subjects: &[SubjectId]) -> Result<Vec<AttemptRow>, StoreError> {
    let rows = Entity::find()
        .filter(Column::Id.is_in(subjects.iter().map(|subject| subject.0)))
        .order_by_asc(Column::Id)
        .lock_exclusive()
        .all(tx)
        .await?;
    Ok(rows.into_iter().map(AttemptRow::from).collect())
}

/// Sets the remembered attempts of a subject.
///
/// # Errors
/// The database fails.
pub async fn update(
    db: &impl ConnectionTrait,
    subject: SubjectId,
    memory: &Memory,
) -> Result<(), StoreError> {
    Entity::update_many()
        .filter(Column::Id.eq(subject.0))
        .col_expr(Column::ForgottenAt, Expr::value(memory.forgotten_at))
        .col_expr(Column::LastAt, Expr::value(memory.last_at))
        .exec(db)
        .await?;
    Ok(())
}

/// Removes the remembered attempts of a subject.
///
/// # Errors
/// The database fails.
pub async fn delete(db: &impl ConnectionTrait, subject: SubjectId) -> Result<(), StoreError> {
    Entity::delete_by_id(subject.0).exec(db).await?;
    Ok(())
}

/// Deletes the rows that no other attempt has changed since they were added. The write is deferred, and so is their
/// number.
///
/// # Errors
/// When the database fails.
pub async fn delete_untouched_deferred(
    tx: &Transaction,
    rows: &[AttemptRow],
) -> Result<Affected, StoreError> {
    let statement = untouched(rows).build(tx.get_database_backend());
    Ok(tx.execute_deferred(statement).await?)
}

/// Removes those of these rows that have not changed since they were inserted, and returns their number.
///
/// # Errors
/// The database fails.
pub async fn delete_untouched(db: &impl ConnectionTrait, rows: &[AttemptRow]) -> Result<u64, StoreError> {
    Ok(untouched(rows).exec(db).await?.rows_affected)
}

fn untouched(rows: &[AttemptRow]) -> DeleteMany<Entity> {
    let untouched = rows.iter().fold(Condition::any(), |any, row| {
        any.add(
            Condition::all()
                .add(Column::Id.eq(row.subject.0))
                .add(Column::InsertedBy.eq(row.inserted_by))
                .add(Column::ForgottenAt.eq(row.memory.forgotten_at)),
        )
    });
    Entity::delete_many().filter(untouched)
}

/// Result of [`find_forgotten`].
#[derive(Debug)]
pub struct ForgottenPage {
    /// Subjects with forgotten attempts.
    pub forgotten: Vec<SubjectId>,
    /// The last subject of the batch. `None`: there are no more.
    pub last: Option<SubjectId>,
}

/// Reads the next `limit` rows in the order of their ids, and returns those that are forgotten at `time`. It needs no
/// index, which every sign-in would have to update.
///
/// # Errors
/// The database fails.
pub async fn find_forgotten(
    db: &impl ConnectionTrait,
    after: Option<SubjectId>,
    limit: u64,
    time: Timestamp,
) -> Result<ForgottenPage, StoreError> {
    let mut select = Entity::find()
        .select_only()
        .columns([Column::Id, Column::ForgottenAt])
        .order_by_asc(Column::Id)
        .limit(limit);
    if let Some(after) = after {
        select = select.filter(Column::Id.gt(after.0));
    }
    let rows: Vec<(Uuid, Timestamp)> = select.into_tuple().all(db).await?;
    let forgotten = rows.iter().filter(|(_, forgotten_at)| *forgotten_at <= time);
    Ok(ForgottenPage {
        forgotten: forgotten.map(|(id, _)| SubjectId(*id)).collect(),
        last: rows.last().map(|(id, _)| SubjectId(*id)),
    })
}

/// Removes those of these rows that are still forgotten at `time`. A row that another transaction has locked stays
/// until the next pass: a transaction that locks many rows and waits for none cannot deadlock.
///
/// # Errors
/// The database fails.
pub async fn delete_forgotten(
    tx: &Transaction,
    subjects: &[SubjectId],
    time: Timestamp,
) -> Result<u64, StoreError> {
    let forgotten = Entity::find()
        .filter(Column::Id.is_in(subjects.iter().map(|subject| subject.0)))
        .filter(Column::ForgottenAt.lte(time))
        .order_by_asc(Column::Id)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    delete_found(tx, forgotten, Column::Id).await
}
