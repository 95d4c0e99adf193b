//! Queries on the outbox: messages that are to be sent.

use std::time::Duration;

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, ExprTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, QueryTrait as _,
};

use super::entity::outbox_message::{ActiveModel, Column, Entity, Model};
use super::{StoreError, Transaction};
use crate::clock::Timestamp;
use crate::domain::code::{ChallengeId, MessageId};

/// A message that is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct OutboxMessage {
    /// The id.
    pub id: MessageId,
    /// The challenge whose code is to be sent.
    pub challenge: ChallengeId,
    /// How often it was begun to be sent.
    pub tries: u32,
    /// When to send it.
    pub due_at: Timestamp,
    /// When there is no use in it any more.
    pub expires_at: Timestamp,
}

impl From<Model> for OutboxMessage {
    fn from(row: Model) -> Self {
        Self {
            id: MessageId(row.id),
            challenge: ChallengeId(row.challenge_id),
            tries: u32::try_from(row.tries).unwrap_or_default(),
            due_at: row.due_at,
            expires_at: row.expires_at,
        }
    }
}

/// Adds a message that nobody has begun to send, along with the commit where that is a trip less.
///
/// # Errors
/// When the database fails.
pub async fn insert_with_commit(tx: &Transaction, message: &OutboxMessage) -> Result<(), StoreError> {
    let row = ActiveModel {
        id: Set(message.id.0),
        challenge_id: Set(message.challenge.0),
        tries: Set(0),
        due_at: Set(message.due_at),
        expires_at: Set(message.expires_at),
    };
    tx.execute_with_commit(Entity::insert(row).build(tx.get_database_backend()))
        .await?;
    Ok(())
}

/// Finds messages that are due, those that are due for the longest time first, `limit` at most.
///
/// # Errors
/// When the database fails.
pub async fn find_due(
    db: &impl ConnectionTrait,
    limit: u64,
    now: Timestamp,
) -> Result<Vec<OutboxMessage>, StoreError> {
    let rows = Entity::find()
        .filter(Column::DueAt.lte(now))
        .order_by_asc(Column::DueAt)
        .limit(limit)
        .all(db)
        .await?;
    Ok(rows.into_iter().map(OutboxMessage::from).collect())
}

/// Takes a message to be sent: for as long as `lease` says, nobody else does. Says whether nobody else had been faster.
///
/// # Errors
/// When the database fails.
pub async fn take(
    db: &impl ConnectionTrait,
    read: &OutboxMessage,
    lease: Duration,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let taken = Entity::update_many()
        .filter(Column::Id.eq(read.id.0))
        .filter(Column::DueAt.eq(read.due_at))
        .col_expr(Column::DueAt, Expr::value(now + lease))
        .col_expr(Column::Tries, Expr::col(Column::Tries).add(1))
        .exec(db)
        .await?;
    Ok(taken.rows_affected > 0)
}

/// Has a message that was taken sent again at another time.
///
/// # Errors
/// When the database fails.
pub async fn postpone(db: &impl ConnectionTrait, id: MessageId, due_at: Timestamp) -> Result<(), StoreError> {
    Entity::update_many()
        .filter(Column::Id.eq(id.0))
        .col_expr(Column::DueAt, Expr::value(due_at))
        .exec(db)
        .await?;
    Ok(())
}

/// Removes a message.
///
/// # Errors
/// When the database fails.
pub async fn delete(db: &impl ConnectionTrait, id: MessageId) -> Result<(), StoreError> {
    Entity::delete_by_id(id.0).exec(db).await?;
    Ok(())
}
