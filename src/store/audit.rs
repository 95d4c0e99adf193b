//! Queries on the audit log. An event is written in the transaction that it describes. It waits for no lock and blocks
//! no other transaction. Changes of many events skip those that another transaction has locked.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, LockBehavior, LockType};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbBackend, EntityTrait as _, ExprTrait as _,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _, Statement,
};
use uuid::Uuid;

use super::entity::audit_erasure;
use super::entity::audit_event::{ActiveModel, Column, Entity};
use super::times::comparable;
use super::{DeferWrites, StoreError, Transaction, delete_found};
use crate::clock::{Timestamp, first_id};
use crate::domain::audit::{
    Action, AuditEntry, Event, EventFilter, EventId, Field, MAX_SERVICE_LENGTH, Outcome,
};
use crate::domain::user::UserId;

/// Writes an event. In a transaction, the write is deferred.
///
/// # Errors
/// When the database fails.
pub async fn insert(db: &impl DeferWrites, event: &Event) -> Result<(), StoreError> {
    db.execute_deferred(insertion(db.get_database_backend(), event))
        .await?;
    Ok(())
}

fn insertion(backend: DbBackend, event: &Event) -> Statement {
    let Event {
        id,
        at,
        occurrences,
        outcome,
        attempt,
    } = event;
    let fields: Vec<&str> = attempt.fields.iter().copied().map(Field::as_str).collect();
    let service = attempt.caller.service.as_deref();
    let row = ActiveModel {
        id: Set(id.0),
        at: Set(*at),
        action: Set(attempt.action.as_str().to_owned()),
        outcome: Set(outcome.as_str().to_owned()),
        reason: Set(outcome.refusal().map(|refusal| refusal.as_str().to_owned())),
        actor: Set(attempt.actor.as_str().to_owned()),
        actor_id: Set(attempt.actor.user().map(|user| user.0)),
        subject_id: Set(attempt.subject.map(|user| user.0)),
        session_id: Set(attempt.session.map(|session| session.0)),
        fields: Set((!fields.is_empty()).then(|| fields.join(","))),
        ended_sessions: Set(attempt
            .ended_sessions
            .map(|count| i64::try_from(count).unwrap_or(i64::MAX))),
        service: Set(service.map(|name| name.chars().take(MAX_SERVICE_LENGTH).collect())),
        client_ip_address: Set(attempt.client.ip_address.map(|address| address.to_string())),
        client_user_agent: Set(attempt.client.user_agent.as_deref().map(str::to_owned)),
        request_id: Set(attempt.caller.request_id.as_deref().map(str::to_owned)),
        occurrences: Set(i64::try_from(*occurrences).unwrap_or(i64::MAX)),
    };
    Entity::insert(row).build(backend)
}

/// Adds equal events to the row of the first one. Returns whether the row exists.
///
/// # Errors
/// The database fails.
pub async fn add_occurrences(
    db: &impl ConnectionTrait,
    event: EventId,
    count: u64,
) -> Result<bool, StoreError> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let updated = Entity::update_many()
        .filter(Column::Id.eq(event.0))
        .col_expr(Column::Occurrences, Expr::col(Column::Occurrences).add(count))
        .exec(db)
        .await?;
    Ok(updated.rows_affected > 0)
}

/// Returns at most `limit` events, the newest first, older than the event `before`.
///
/// The events of a user are found by an index, and a time range by the ids. The other filters are applied to these
/// events one after another.
///
/// # Errors
/// The database fails, or the search takes too long.
pub async fn list(
    db: &impl ConnectionTrait,
    filter: &EventFilter,
    before: Option<EventId>,
    limit: u64,
) -> Result<Vec<AuditEntry>, StoreError> {
    let backend = db.get_database_backend();
    let mut select = Entity::find().order_by_desc(Column::Id).limit(limit);
    if let Some(before) = before {
        select = select.filter(Column::Id.lt(before.0));
    }
    let EventFilter {
        subject,
        actor,
        action,
        is_done,
        service,
        since,
        until,
    } = filter;
    if let Some(subject) = subject {
        select = select.filter(Column::SubjectId.eq(subject.0));
    }
    if let Some(actor) = actor {
        select = select.filter(Column::ActorId.eq(actor.0));
    }
    if let Some(action) = action {
        select = select.filter(Column::Action.eq(action.as_str()));
    }
    if let Some(is_done) = is_done {
        let done = Outcome::Done.as_str();
        select = select.filter(if *is_done {
            Column::Outcome.eq(done)
        } else {
            Column::Outcome.ne(done)
        });
    }
    if let Some(service) = service {
        select = select.filter(Column::Service.eq(service.as_str()));
    }
    if let Some(since) = since {
        select = select
            .filter(Column::Id.gte(first_id(*since)))
            .filter(Column::At.gte(comparable(*since, backend)));
    }
    if let Some(until) = until {
        // An id has a precision of one millisecond.
        let end = *until + std::time::Duration::from_millis(1);
        select = select
            .filter(Column::Id.lt(first_id(end)))
            .filter(Column::At.lt(comparable(*until, backend)));
    }
    let rows = select.all(db).await?;
    Ok(rows.into_iter().map(AuditEntry::from).collect())
}

/// Removes at most `limit` of the events before `time`, as [`remove_older`] does.
///
/// # Errors
/// The database fails.
pub async fn remove_before(tx: &Transaction, time: Timestamp, limit: u64) -> Result<u64, StoreError> {
    remove_older(tx, EventId(first_id(time)), limit).await
}

/// Returns the id of the `number`-th event that is older than `than`, or of all events. `None`: there are fewer.
///
/// # Errors
/// The database fails.
pub async fn nth_older(
    db: &impl ConnectionTrait,
    than: Option<EventId>,
    number: u64,
) -> Result<Option<EventId>, StoreError> {
    let mut select = Entity::find().select_only().column(Column::Id);
    if let Some(EventId(than)) = than {
        select = select.filter(Column::Id.lt(than));
    }
    let select = select
        .order_by_desc(Column::Id)
        .offset(number.saturating_sub(1))
        .limit(1);
    let id: Option<Uuid> = select.into_tuple().one(db).await?;
    Ok(id.map(EventId))
}

/// Returns the number of events that are older than `than`, or of all. Call it where there are few.
///
/// # Errors
/// The database fails.
pub async fn count_older(db: &impl ConnectionTrait, than: Option<EventId>) -> Result<u64, StoreError> {
    let older = than.map(|EventId(than)| Column::Id.lt(than));
    Ok(Entity::find()
        .filter(Condition::all().add_option(older))
        .count(db)
        .await?)
}

/// Returns the number of events that are newer than `than`, or of all. Call it where there are few.
///
/// # Errors
/// The database fails.
pub async fn count_newer(db: &impl ConnectionTrait, than: Option<EventId>) -> Result<u64, StoreError> {
    let newer = than.map(|EventId(than)| Column::Id.gt(than));
    Ok(Entity::find()
        .filter(Condition::all().add_option(newer))
        .count(db)
        .await?)
}

/// Removes at most `limit` of the events that are older than `than`, the oldest first, and returns their number. Events
/// that another transaction has locked stay until the next pass.
///
/// # Errors
/// The database fails.
pub async fn remove_older(tx: &Transaction, than: EventId, limit: u64) -> Result<u64, StoreError> {
    let old = Entity::find()
        .filter(Column::Id.lt(than.0))
        .order_by_asc(Column::Id)
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    delete_found(tx, old, Column::Id).await
}

/// Erases a user from at most `limit` events about the user, and from as many by the user. A substitute id or none
/// replaces the user, and the events keep no device, session or call. Administrative actions of the user keep the id,
/// even after the user has lost the rights of an administrator: a demotion must not make them anonymous. Returns an
/// upper limit of the remaining events of either kind: none remain if it is less than `limit`. Skips events that
/// another transaction has locked.
///
/// # Errors
/// The database fails.
pub async fn erase(
    tx: &Transaction,
    user: UserId,
    substitute: Option<UserId>,
    limit: u64,
) -> Result<u64, StoreError> {
    let administration = Action::ADMINISTRATION.map(Action::as_str);
    // Written without NOT, since a comparison with NULL would make the condition unknown.
    let is_erased = Condition::any()
        .add(Column::ActorId.is_null())
        .add(Column::ActorId.ne(user.0))
        .add(Column::Outcome.ne(Outcome::Done.as_str()))
        .add(
            Condition::all()
                .add(Column::Action.is_not_in(administration))
                .add(
                    // Users also verify their own numbers.
                    Condition::any()
                        .add(Column::Action.ne(Action::VerifyPhone.as_str()))
                        .add(Column::SubjectId.eq(user.0)),
                ),
        );
    let mut max_found = 0;
    for column in [Column::SubjectId, Column::ActorId] {
        let ids: Vec<Uuid> = Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(column.eq(user.0))
            .filter(is_erased.clone())
            .limit(limit)
            .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
            .into_tuple()
            .all(tx)
            .await?;
        if ids.is_empty() {
            continue;
        }
        max_found = Ord::max(max_found, u64::try_from(ids.len()).unwrap_or(u64::MAX));
        Entity::update_many()
            .filter(Column::Id.is_in(ids))
            .col_expr(column, Expr::value(substitute.map(|user| user.0)))
            .col_expr(Column::SessionId, Expr::value(None::<Uuid>))
            .col_expr(Column::ClientIpAddress, Expr::value(None::<String>))
            .col_expr(Column::ClientUserAgent, Expr::value(None::<String>))
            .col_expr(Column::RequestId, Expr::value(None::<String>))
            .exec(tx)
            .await?;
    }
    Ok(max_found)
}

/// Records that a user was deleted: a call that had begun before may still write an event that names the user.
///
/// # Errors
/// The database fails.
pub async fn insert_erasure(
    db: &impl ConnectionTrait,
    user: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let row = audit_erasure::ActiveModel {
        user_id: Set(user.0),
        at: Set(now),
    };
    audit_erasure::Entity::insert(row)
        .exec_without_returning(db)
        .await?;
    Ok(())
}

/// Returns at most `limit` of the recently deleted users after `after`, in the order of their ids.
///
/// # Errors
/// The database fails.
pub async fn erasures(
    db: &impl ConnectionTrait,
    after: Option<UserId>,
    limit: u64,
) -> Result<Vec<(UserId, Timestamp)>, StoreError> {
    let mut select = audit_erasure::Entity::find()
        .order_by_asc(audit_erasure::Column::UserId)
        .limit(limit);
    if let Some(after) = after {
        select = select.filter(audit_erasure::Column::UserId.gt(after.0));
    }
    let rows = select.all(db).await?;
    Ok(rows
        .into_iter()
        .map(|row| (UserId(row.user_id), row.at))
        .collect())
}

/// Sets the time at which a user was deleted.
///
/// # Errors
/// The database fails.
pub async fn restart_erasure(
    db: &impl ConnectionTrait,
    user: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    audit_erasure::Entity::update_many()
        .filter(audit_erasure::Column::UserId.eq(user.0))
        .col_expr(audit_erasure::Column::At, Expr::value(now))
        .exec(db)
        .await?;
    Ok(())
}

/// Deletes the record that a user was deleted.
///
/// # Errors
/// The database fails.
pub async fn delete_erasure(db: &impl ConnectionTrait, user: UserId) -> Result<(), StoreError> {
    audit_erasure::Entity::delete_by_id(user.0).exec(db).await?;
    Ok(())
}
