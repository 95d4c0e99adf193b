//! Queries on the outbox, the table of unsent messages. [`order`] has their order.

pub mod order;
#[cfg(test)]
mod tests;

use std::time::Duration;

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, ExprTrait as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _,
};
use uuid::Uuid;

use super::entity::outbox_message::{ActiveModel, Column, Entity, Model};
use super::{DeferWrites as _, StoreError, Transaction, delete_found};
use crate::clock::Timestamp;
use crate::domain::code::ChallengeId;
use crate::domain::message::{Content, FlowId, MAX_LIFETIME, MessageId, Notice, NoticeKind, Origin};
use crate::domain::phone::PhoneNumber;
use crate::domain::user::UserId;
use crate::i18n::Language;

/// Template of messages with a code, beside the names of [`NoticeKind`].
const CODE: &str = "code";

/// An unsent message.
#[derive(Clone, Debug)]
pub struct OutboxMessage {
    /// Id of the message.
    pub id: MessageId,
    /// Content of the message.
    pub content: Content,
    /// Class and flow of the message, which select its lane.
    pub origin: Origin,
    /// Number of started deliveries.
    pub tries: u32,
    /// Time of the next delivery.
    pub due_at: Timestamp,
    /// Time after which the message is useless.
    pub expires_at: Timestamp,
}

impl OutboxMessage {
    /// A message that is due now and that no sender has taken.
    #[must_use]
    pub fn new(content: Content, origin: Origin, now: Timestamp, expires_at: Timestamp) -> Self {
        Self {
            id: MessageId::generate(now),
            content,
            origin,
            tries: 0,
            due_at: now,
            expires_at,
        }
    }
}

impl TryFrom<Model> for OutboxMessage {
    type Error = DbErr;

    fn try_from(row: Model) -> Result<Self, DbErr> {
        let id = row.id;
        let bad = |what: &str| DbErr::Type(format!("outbox_messages.{what} of {id}"));
        let content = match NoticeKind::parse(&row.template) {
            None => Content::Code(ChallengeId(row.challenge_id.ok_or_else(|| bad("challenge_id"))?)),
            Some(kind) => {
                let to = PhoneNumber::from_stored(row.phone_number.unwrap_or_default());
                let language = row.language.as_deref().and_then(Language::of_tag);
                Content::Notice(Notice {
                    kind,
                    to: to.map_err(|_| bad("phone_number"))?,
                    person: UserId(row.user_id.ok_or_else(|| bad("user_id"))?),
                    language: language.unwrap_or_default(),
                })
            }
        };
        Ok(Self {
            id: MessageId(id),
            content,
            origin: Origin {
                class: order::class_of(row.lane),
                flow: row.flow.map(FlowId),
            },
            tries: u32::try_from(row.tries).unwrap_or_default(),
            due_at: row.due_at,
            expires_at: row.expires_at,
        })
    }
}

/// Adds a message at the end of its flow. The write is deferred.
///
/// # Errors
/// When the database fails.
pub async fn insert(tx: &Transaction, message: &OutboxMessage) -> Result<(), StoreError> {
    let (template, challenge, notice) = match &message.content {
        Content::Code(challenge) => (CODE, Some(challenge.0), None),
        Content::Notice(notice) => (notice.kind.as_str(), None, Some(notice)),
    };
    let turn = order::next_turn(tx, message.origin).await?;
    let row = ActiveModel {
        id: Set(message.id.0),
        template: Set(template.to_owned()),
        challenge_id: Set(challenge),
        phone_number: Set(notice.map(|notice| notice.to.as_str().to_owned())),
        user_id: Set(notice.map(|notice| notice.person.0)),
        language: Set(notice.map(|notice| notice.language.tag().to_owned())),
        tries: Set(0),
        due_at: Set(message.due_at),
        expires_at: Set(message.expires_at),
        lane: Set(order::ready(message.origin.class)),
        flow: Set(message.origin.flow.map(|flow| flow.0)),
        turn: Set(turn),
    };
    tx.execute_deferred(Entity::insert(row).build(tx.get_database_backend()))
        .await?;
    Ok(())
}

/// Leases a message for its delivery and parks it for that time. `None`: another sender was faster. Limits the expiry
/// to that of a new message: a clock that was ahead must not prolong the retries.
///
/// # Errors
/// The database fails.
pub async fn take(
    db: &impl ConnectionTrait,
    read: OutboxMessage,
    lease: Duration,
    now: Timestamp,
) -> Result<Option<OutboxMessage>, StoreError> {
    let expires_at = Ord::min(read.expires_at, now + MAX_LIFETIME);
    let taken = Entity::update_many()
        .filter(Column::Id.eq(read.id.0))
        .filter(Column::DueAt.eq(read.due_at))
        .col_expr(Column::DueAt, Expr::value(now + lease))
        .col_expr(Column::ExpiresAt, Expr::value(expires_at))
        .col_expr(Column::Lane, Expr::value(order::parked(read.origin.class)))
        .col_expr(Column::Tries, Expr::col(Column::Tries).add(1))
        .exec(db)
        .await?;
    Ok((taken.rows_affected > 0).then(|| OutboxMessage {
        tries: read.tries.saturating_add(1),
        expires_at,
        ..read
    }))
}

/// Number and oldest of the unsent messages.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// Number of messages.
    pub messages: u64,
    /// The oldest message.
    pub oldest: Option<MessageId>,
}

/// Measures the backlog.
///
/// # Errors
/// The database fails.
pub async fn backlog(db: &impl ConnectionTrait) -> Result<Backlog, StoreError> {
    // Ids begin with the time.
    let oldest: Option<Uuid> = Entity::find()
        .select_only()
        .column(Column::Id)
        .order_by_asc(Column::Id)
        .into_tuple()
        .one(db)
        .await?;
    Ok(Backlog {
        messages: Entity::find().count(db).await?,
        oldest: oldest.map(MessageId),
    })
}

/// Schedules another delivery of a leased message at `due_at`, unless another sender has leased it in the meantime.
///
/// # Errors
/// The database fails.
pub async fn postpone(
    db: &impl ConnectionTrait,
    taken: &OutboxMessage,
    due_at: Timestamp,
) -> Result<(), StoreError> {
    Entity::update_many()
        .filter(Column::Id.eq(taken.id.0))
        .filter(Column::Tries.eq(taken.tries))
        .col_expr(Column::DueAt, Expr::value(due_at))
        .exec(db)
        .await?;
    Ok(())
}

/// Deletes a leased message, unless another sender has leased it in the meantime. Returns whether it deleted it.
///
/// # Errors
/// The database fails.
pub async fn give_up(tx: &Transaction, taken: &OutboxMessage) -> Result<bool, StoreError> {
    let removed = Entity::delete_many()
        .filter(Column::Id.eq(taken.id.0))
        .filter(Column::Tries.eq(taken.tries))
        .exec(tx)
        .await?;
    Ok(removed.rows_affected > 0)
}

/// Deletes a message, even if another sender has leased it.
///
/// # Errors
/// The database fails.
pub async fn delete(db: &impl ConnectionTrait, id: MessageId) -> Result<(), StoreError> {
    Entity::delete_by_id(id.0).exec(db).await?;
    Ok(())
}

/// Deletes the notices to a user, when the user is deleted. A code without its challenge is not sent.
///
/// # Errors
/// The database fails.
pub async fn delete_of(tx: &Transaction, user: UserId) -> Result<(), StoreError> {
    // The table has no index for this query, for the same reason as that of challenges.
    let of_user = Entity::find().filter(Column::UserId.eq(user.0));
    delete_found(tx, of_user, Column::Id).await?;
    Ok(())
}
