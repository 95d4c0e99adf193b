//! Order of the outbox: start-time fair queueing (Goyal, Vin, Cheng 1996) by client network, stored in an index.
//!
//! Each message gets its turn when it enters a lane: one after that of the last message of its flow, or, if the flow
//! has none, the turn of the first message in the lane. Flows therefore alternate, and a new flow waits for at most one
//! message of each other flow. The next message is the first entry of the index (`lane`, `turn`, `id`), for any size of
//! the backlog.
//!
//! A message that is leased or postponed is *parked*, so that senders do not read it. It enters its lane again when it
//! is due. The previous version leaves messages in their lane; senders park them. Concurrent inserts of one flow may
//! get the same turn: at most as many as there are connections to the database.

use std::time::Duration;

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    Select,
};

use super::{CODE, OutboxMessage};
use crate::clock::{MAX_SKEW, Timestamp};
use crate::domain::message::{DeliveryClass, FlowId, NoticeKind, Origin};
use crate::store::StoreError;
use crate::store::entity::outbox_message::{Column, Entity};

/// The lane of messages that can be sent.
pub(super) const fn ready(class: DeliveryClass) -> i16 {
    match class {
        DeliveryClass::Known => 0,
        DeliveryClass::Stranger => 1,
    }
}

/// The lane of messages that wait until they are due.
pub(super) const fn parked(class: DeliveryClass) -> i16 {
    match class {
        DeliveryClass::Known => 2,
        DeliveryClass::Stranger => 3,
    }
}

/// The class of the messages in a lane.
pub(super) const fn class_of(lane: i16) -> DeliveryClass {
    match lane {
        0 | 2 => DeliveryClass::Known,
        _ => DeliveryClass::Stranger,
    }
}

/// The turn of a message that enters its lane now.
pub(super) async fn next_turn(db: &impl ConnectionTrait, origin: Origin) -> Result<i64, StoreError> {
    let lane = || Entity::find().filter(Column::Lane.eq(ready(origin.class)));
    let of_flow = match origin.flow {
        Some(FlowId(flow)) => lane().filter(Column::Flow.eq(flow)),
        None => lane().filter(Column::Flow.is_null()),
    };
    if let Some(last) = turn(db, of_flow.order_by_desc(Column::Turn)).await? {
        return Ok(last.saturating_add(1));
    }
    let first = turn(db, lane().order_by_asc(Column::Turn)).await?;
    Ok(first.unwrap_or_default())
}

async fn turn(db: &impl ConnectionTrait, select: Select<Entity>) -> Result<Option<i64>, StoreError> {
    let select = select.select_only().column(Column::Turn).limit(1);
    Ok(select.into_tuple().one(db).await?)
}

/// Returns whether a message can be sent now. No lease is longer than `longest_lease`. A message that is due later than
/// that comes from a clock that was ahead, and is due now.
#[must_use]
pub fn is_due(message: &OutboxMessage, longest_lease: Duration, now: Timestamp) -> bool {
    message.due_at <= now || message.due_at > latest(longest_lease, now)
}

fn latest(longest_lease: Duration, now: Timestamp) -> Timestamp {
    now + longest_lease + MAX_SKEW
}

/// Returns the first `limit` messages of a lane. Messages that only a newer version can send are left to it. A row that
/// cannot be parsed is deleted: it would stay first in the lane for ever.
///
/// # Errors
/// The database fails.
pub async fn first(
    db: &impl ConnectionTrait,
    writer: &impl ConnectionTrait,
    class: DeliveryClass,
    limit: u64,
) -> Result<Vec<OutboxMessage>, StoreError> {
    let select = ours(ready(class))
        .order_by_asc(Column::Turn)
        .order_by_asc(Column::Id)
        .limit(limit);
    let mut messages = Vec::new();
    for row in select.all(db).await? {
        let id = row.id;
        match OutboxMessage::try_from(row) {
            Ok(message) => messages.push(message),
            Err(error) => {
                tracing::error!(%error, message_id = %id, "a message cannot be parsed and is deleted");
                Entity::delete_by_id(id).exec(writer).await?;
            }
        }
    }
    Ok(messages)
}

/// Returns the message that has waited longest, if it was due at `due_by`.
///
/// # Errors
/// The database fails.
pub async fn longest_waiting(
    db: &impl ConnectionTrait,
    class: DeliveryClass,
    due_by: Timestamp,
) -> Result<Option<OutboxMessage>, StoreError> {
    let select = ours(ready(class))
        .filter(Column::DueAt.lte(due_by))
        .order_by_asc(Column::DueAt)
        .order_by_asc(Column::Id)
        .limit(1);
    Ok(read(db, select).await?.pop())
}

/// Parks a message that is not due, which the previous version left in its lane.
///
/// # Errors
/// The database fails.
pub async fn park(db: &impl ConnectionTrait, message: &OutboxMessage) -> Result<(), StoreError> {
    Entity::update_many()
        .filter(Column::Id.eq(message.id.0))
        .filter(Column::DueAt.eq(message.due_at))
        .col_expr(Column::Lane, Expr::value(parked(message.origin.class)))
        .exec(db)
        .await?;
    Ok(())
}

/// Returns the parked messages that are due, at most `limit` of each class.
///
/// # Errors
/// The database fails.
pub async fn parked_due(
    db: &impl ConnectionTrait,
    longest_lease: Duration,
    limit: u64,
    now: Timestamp,
) -> Result<Vec<OutboxMessage>, StoreError> {
    let mut due = Vec::new();
    for class in DeliveryClass::ALL {
        // Two ranges of one index, since databases differ in their plans for an OR.
        let lane = || ours(parked(class)).limit(limit);
        let usual = lane()
            .filter(Column::DueAt.lte(now))
            .order_by_asc(Column::DueAt)
            .order_by_asc(Column::Id);
        due.extend(read(db, usual).await?);
        let ahead = lane()
            .filter(Column::DueAt.gt(latest(longest_lease, now)))
            .order_by_desc(Column::DueAt)
            .order_by_desc(Column::Id);
        due.extend(read(db, ahead).await?);
    }
    Ok(due)
}

/// Moves a parked message to the end of its flow, unless another sender has done so.
///
/// # Errors
/// The database fails.
pub async fn unpark(db: &impl ConnectionTrait, message: &OutboxMessage) -> Result<(), StoreError> {
    let class = message.origin.class;
    let turn = next_turn(db, message.origin).await?;
    Entity::update_many()
        .filter(Column::Id.eq(message.id.0))
        .filter(Column::DueAt.eq(message.due_at))
        .filter(Column::Lane.eq(parked(class)))
        .col_expr(Column::Lane, Expr::value(ready(class)))
        .col_expr(Column::Turn, Expr::value(turn))
        .exec(db)
        .await?;
    Ok(())
}

fn ours(lane: i16) -> Select<Entity> {
    let templates = NoticeKind::ALL.map(NoticeKind::as_str);
    Entity::find()
        .filter(Column::Lane.eq(lane))
        .filter(Column::Template.is_in(templates.into_iter().chain([CODE])))
}

async fn read(db: &impl ConnectionTrait, select: Select<Entity>) -> Result<Vec<OutboxMessage>, StoreError> {
    let messages = select.all(db).await?.into_iter().map(OutboxMessage::try_from);
    // A message that cannot be parsed must not block the others.
    let readable = messages.filter_map(|message| {
        message
            .inspect_err(|error| tracing::error!(%error, "a message cannot be parsed"))
            .ok()
    });
    Ok(readable.collect())
}
