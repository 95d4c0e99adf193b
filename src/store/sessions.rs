//! Queries on sessions. A revoked session has no row.

mod look_up;

use std::time::Duration;

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, LockBehavior, LockType};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbBackend, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, QueryTrait as _, Statement,
};
use uuid::Uuid;

use super::entity::session::{ActiveModel, Column, Entity, format_auth_methods};
use super::{DeferWrites, StoreError, Transaction, only};
use crate::clock::Timestamp;
use crate::domain::session::{Lifetimes, Session, SessionId};
use crate::domain::token::TokenHash;
use crate::domain::user::UserId;

pub use look_up::{FoundSessions, MAX_TOKENS, find_with_users};

/// Adds a session.
///
/// # Errors
/// When the database fails.
pub async fn insert(db: &impl DeferWrites, session: &Session, token: &TokenHash) -> Result<(), StoreError> {
    db.execute_deferred(insertion(db.get_database_backend(), session, token))
        .await?;
    Ok(())
}

fn insertion(backend: DbBackend, session: &Session, token: &TokenHash) -> Statement {
    let row = ActiveModel {
        id: Set(session.id.0),
        token_hash: Set(token.as_bytes().to_vec()),
        user_id: Set(session.user_id.0),
        created_at: Set(session.created_at),
        last_seen_at: Set(session.last_seen_at),
        expires_at: Set(session.expires_at),
        auth_methods: Set(format_auth_methods(&session.auth_methods)),
        client_ip_address: Set(session.client.ip_address.map(|address| address.to_string())),
        client_user_agent: Set(session.client.user_agent.as_deref().map(str::to_owned)),
    };
    Entity::insert(row).build(backend)
}

/// Finds the session of a token, ended or not.
///
/// # Errors
/// The database fails.
pub async fn find(db: &impl ConnectionTrait, token: &TokenHash) -> Result<Option<Session>, StoreError> {
    let rows = Entity::find()
        .filter(Column::TokenHash.eq(token.as_bytes().to_vec()))
        .all(db)
        .await?;
    Ok(only(rows).map(Session::from))
}

/// Returns whether a session has a row, ended or not.
///
/// # Errors
/// The database fails.
pub async fn exists(db: &impl ConnectionTrait, id: SessionId) -> Result<bool, StoreError> {
    Ok(only(Entity::find_by_id(id.0).all(db).await?).is_some())
}

/// Returns all sessions of a user, ended or not, the newest first.
///
/// # Errors
/// The database fails.
pub async fn list(db: &impl ConnectionTrait, user: UserId) -> Result<Vec<Session>, StoreError> {
    let rows = Entity::find()
        .filter(Column::UserId.eq(user.0))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .all(db)
        .await?;
    Ok(rows.into_iter().map(Session::from).collect())
}

/// Locks those of these sessions that meet a condition until the transaction ends. Skips those that another transaction
/// has locked: a transaction that locks many rows and waits for none cannot deadlock.
async fn lock_free(
    tx: &Transaction,
    sessions: &[SessionId],
    condition: Condition,
) -> Result<Vec<Uuid>, StoreError> {
    let ids = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::Id.is_in(sessions.iter().map(|id| id.0)))
        .filter(condition)
        .order_by_asc(Column::Id)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .into_tuple()
        .all(tx)
        .await?;
    Ok(ids)
}

/// Records that sessions were used. Never moves the time back, and never revives an ended session. Skips a session that
/// another transaction has locked: it is being revoked, or was just used on another replica.
///
/// # Errors
/// The database fails.
pub async fn set_last_seen(
    tx: &Transaction,
    sessions: &[SessionId],
    seen: Timestamp,
    lifetimes: &Lifetimes,
) -> Result<(), StoreError> {
    let is_live_and_older = Condition::all()
        .add(Column::LastSeenAt.lt(seen))
        .add(Column::LastSeenAt.gt(seen - lifetimes.idle))
        .add(Column::ExpiresAt.gt(seen));
    let locked = lock_free(tx, sessions, is_live_and_older).await?;
    if !locked.is_empty() {
        Entity::update_many()
            .filter(Column::Id.is_in(locked))
            .col_expr(Column::LastSeenAt, Expr::value(seen))
            .exec(tx)
            .await?;
    }
    Ok(())
}

/// Sets the times of a session to those of `corrected`, unless another call has corrected it since it was read.
///
/// # Errors
/// The database fails.
pub async fn correct(
    db: &impl ConnectionTrait,
    read: &Session,
    corrected: &Session,
) -> Result<(), StoreError> {
    Entity::update_many()
        .filter(Column::Id.eq(read.id.0))
        .filter(Column::CreatedAt.eq(read.created_at))
        .col_expr(Column::CreatedAt, Expr::value(corrected.created_at))
        .col_expr(Column::LastSeenAt, Expr::value(corrected.last_seen_at))
        .col_expr(Column::ExpiresAt, Expr::value(corrected.expires_at))
        .exec(db)
        .await?;
    Ok(())
}

/// Revokes a session, and returns whether it existed.
///
/// # Errors
/// The database fails.
pub async fn delete_one(db: &impl ConnectionTrait, id: SessionId) -> Result<bool, StoreError> {
    Ok(Entity::delete_by_id(id.0).exec(db).await?.rows_affected > 0)
}

/// Sessions of a user to revoke.
#[derive(Debug)]
pub enum Selection {
    /// All sessions.
    All,
    /// All sessions except this one.
    AllBut(SessionId),
    /// These sessions. Those of other users are skipped.
    These(Vec<SessionId>),
}

/// Revokes sessions of a user and returns their number.
///
/// # Errors
/// The database fails.
pub async fn delete(
    db: &impl ConnectionTrait,
    user: UserId,
    selection: &Selection,
) -> Result<u64, StoreError> {
    let delete = Entity::delete_many().filter(Column::UserId.eq(user.0));
    let delete = match selection {
        Selection::All => delete,
        Selection::AllBut(kept) => delete.filter(Column::Id.ne(kept.0)),
        Selection::These(ids) => delete.filter(Column::Id.is_in(ids.iter().map(|id| id.0))),
    };
    Ok(delete.exec(db).await?.rows_affected)
}

/// Time for which an ended session stays: longer than a use may take to be written.
pub const ENDED_GRACE: Duration = Duration::from_mins(1);

/// Condition of the sessions that have ended before `time`: `expires_at`, or `last_seen_at` plus the idle lifetime, is
/// before it.
fn ended_by(time: Timestamp, lifetimes: &Lifetimes) -> Condition {
    Condition::any()
        .add(Column::ExpiresAt.lte(time))
        .add(Column::LastSeenAt.lte(time - lifetimes.idle))
}

/// Makes room for one more live session of a user with `count` sessions, ended or not, so that there are at most `max`
/// live ones then: if there are too many, removes the ended ones, and then the oldest live ones. Returns the live
/// sessions that it revoked.
///
/// # Errors
/// The database fails.
pub async fn make_room(
    db: &impl ConnectionTrait,
    user: UserId,
    count: u64,
    max: u32,
    lifetimes: &Lifetimes,
    now: Timestamp,
) -> Result<Vec<SessionId>, StoreError> {
    let kept = u64::from(max.saturating_sub(1));
    if count <= kept {
        return Ok(Vec::new());
    }
    Entity::delete_many()
        .filter(Column::UserId.eq(user.0))
        .filter(ended_by(now - ENDED_GRACE, lifetimes))
        .exec(db)
        .await?;
    let surplus = find_older(db, user, kept).await?;
    if !surplus.is_empty() {
        let surplus = Selection::These(surplus.clone());
        delete(db, user, &surplus).await?;
    }
    Ok(surplus)
}

/// Returns the sessions of a user, ended or not, except the newest `kept`.
async fn find_older(
    db: &impl ConnectionTrait,
    user: UserId,
    kept: u64,
) -> Result<Vec<SessionId>, StoreError> {
    let ids: Vec<Uuid> = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::UserId.eq(user.0))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .offset(kept)
        // SQLite and MySQL have no OFFSET without LIMIT. There is more than one surplus session only after `max` was
        // lowered.
        .limit(1000)
        .into_tuple()
        .all(db)
        .await?;
    Ok(ids.into_iter().map(SessionId).collect())
}

/// Result of [`find_ended`].
#[derive(Debug)]
pub struct EndedPage {
    /// The ended sessions.
    pub ended: Vec<SessionId>,
    /// Number of sessions that were alive at the end of the grace period.
    pub alive: u64,
    /// The last session of the batch. `None`: there are no more.
    pub last: Option<SessionId>,
}

/// Reads the next `limit` sessions in the order of their ids. Returns those that had ended at `time`, and the number of
/// those that were alive [`ENDED_GRACE`] later. This reads a limited part of the table, without an index that every use
/// of a session would have to update. The database evaluates the condition, since the transfer of all rows costs ten
/// times as much.
///
/// # Errors
/// The database fails.
pub async fn find_ended(
    db: &impl ConnectionTrait,
    after: Option<SessionId>,
    limit: u64,
    lifetimes: &Lifetimes,
    time: Timestamp,
) -> Result<EndedPage, StoreError> {
    let after = after.map(|after| Column::Id.gt(after.0));
    let last: Option<Uuid> = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Condition::all().add_option(after.clone()))
        .order_by_asc(Column::Id)
        .offset(limit.saturating_sub(1))
        .limit(1)
        .into_tuple()
        .one(db)
        .await?;
    let batch = Condition::all()
        .add_option(after)
        .add_option(last.map(|last| Column::Id.lte(last)));
    let ended: Vec<Uuid> = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(batch.clone())
        .filter(ended_by(time, lifetimes))
        .into_tuple()
        .all(db)
        .await?;
    let alive: Option<i64> = Entity::find()
        .select_only()
        .column_as(Column::Id.count(), "alive")
        .filter(batch)
        .filter(ended_by(time + ENDED_GRACE, lifetimes).not())
        .into_tuple()
        .one(db)
        .await?;
    Ok(EndedPage {
        alive: alive
            .and_then(|alive| u64::try_from(alive).ok())
            .unwrap_or_default(),
        ended: ended.into_iter().map(SessionId).collect(),
        last: last.map(SessionId),
    })
}

/// Removes those of these sessions that are still ended at `time`, and returns their number. A session that another
/// transaction has locked stays until the next pass.
///
/// # Errors
/// The database fails.
pub async fn delete_ended(
    tx: &Transaction,
    sessions: &[SessionId],
    lifetimes: &Lifetimes,
    time: Timestamp,
) -> Result<u64, StoreError> {
    let locked = lock_free(tx, sessions, ended_by(time, lifetimes)).await?;
    if locked.is_empty() {
        return Ok(0);
    }
    let deleted = Entity::delete_many()
        .filter(Column::Id.is_in(locked))
        .exec(tx)
        .await?;
    Ok(deleted.rows_affected)
}
