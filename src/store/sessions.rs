//! Queries on sessions. A session that was revoked has no row.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use super::StoreError;
use super::entity::session::{ActiveModel, Column, Entity, format_auth_methods};
use super::entity::user;
use crate::clock::Timestamp;
use crate::domain::session::{Lifetimes, Session, SessionId};
use crate::domain::token::TokenHash;
use crate::domain::user::{User, UserId};

/// Adds a session.
///
/// # Errors
/// When the database fails.
pub async fn insert(
    db: &impl ConnectionTrait,
    session: &Session,
    token: &TokenHash,
) -> Result<(), StoreError> {
    let row = ActiveModel {
        id: Set(session.id.0),
        token_hash: Set(token.as_bytes().to_vec()),
        user_id: Set(session.user_id.0),
        created_at: Set(session.created_at),
        last_seen_at: Set(session.last_seen_at),
        expires_at: Set(session.expires_at),
        auth_methods: Set(format_auth_methods(&session.auth_methods)),
        client_ip_address: Set(session.client.ip_address.map(|address| address.to_string())),
        client_user_agent: Set(session.client.user_agent.clone()),
    };
    Entity::insert(row).exec_without_returning(db).await?;
    Ok(())
}

/// Finds a session, ended or not, and its person.
///
/// # Errors
/// When the database fails.
pub async fn find_with_user(
    db: &impl ConnectionTrait,
    token: &TokenHash,
) -> Result<Option<(Session, User)>, StoreError> {
    let found = Entity::find()
        .filter(Column::TokenHash.eq(token.as_bytes().to_vec()))
        .find_also_related(user::Entity)
        .one(db)
        .await?;
    let Some((session, Some(user))) = found else {
        return Ok(None);
    };
    Ok(Some((session.into(), user.try_into()?)))
}

/// Whether a session is still there, ended or not.
///
/// # Errors
/// When the database fails.
pub async fn exists(db: &impl ConnectionTrait, id: SessionId) -> Result<bool, StoreError> {
    Ok(Entity::find_by_id(id.0).one(db).await?.is_some())
}

/// All sessions of a person, ended or not, the newest first.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &impl ConnectionTrait, user: UserId) -> Result<Vec<Session>, StoreError> {
    let rows = Entity::find()
        .filter(Column::UserId.eq(user.0))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .all(db)
        .await?;
    Ok(rows.into_iter().map(Session::from).collect())
}

/// Notes that a session was used. Never moves the time back.
///
/// # Errors
/// When the database fails.
pub async fn set_last_seen(
    db: &impl ConnectionTrait,
    id: SessionId,
    now: Timestamp,
) -> Result<(), StoreError> {
    Entity::update_many()
        .filter(Column::Id.eq(id.0))
        .filter(Column::LastSeenAt.lt(now))
        .col_expr(Column::LastSeenAt, Expr::value(now))
        .exec(db)
        .await?;
    Ok(())
}

/// Revokes the session of a token. No such session is no error.
///
/// # Errors
/// When the database fails.
pub async fn delete_by_token(db: &impl ConnectionTrait, token: &TokenHash) -> Result<(), StoreError> {
    Entity::delete_many()
        .filter(Column::TokenHash.eq(token.as_bytes().to_vec()))
        .exec(db)
        .await?;
    Ok(())
}

/// Which sessions of a person to revoke.
#[derive(Debug)]
pub enum Selection {
    /// All of them.
    All,
    /// All but this one.
    AllBut(SessionId),
    /// These; another person's are passed over.
    These(Vec<SessionId>),
}

/// Revokes sessions of a person and says how many it were.
///
/// # Errors
/// When the database fails.
pub async fn delete(
    db: &impl ConnectionTrait,
    user: UserId,
    selection: Selection,
) -> Result<u64, StoreError> {
    let delete = Entity::delete_many().filter(Column::UserId.eq(user.0));
    let delete = match selection {
        Selection::All => delete,
        Selection::AllBut(kept) => delete.filter(Column::Id.ne(kept.0)),
        Selection::These(ids) => delete.filter(Column::Id.is_in(ids.into_iter().map(|id| id.0))),
    };
    Ok(delete.exec(db).await?.rows_affected)
}

/// Makes room for one more live session of a person, so that there are at most `max` then: removes the ended ones, and
/// of the live ones the oldest.
///
/// # Errors
/// When the database fails.
pub async fn make_room(
    db: &impl ConnectionTrait,
    user: UserId,
    max: u32,
    lifetimes: &Lifetimes,
    now: Timestamp,
) -> Result<(), StoreError> {
    let ended = Condition::any()
        .add(Column::ExpiresAt.lte(now))
        .add(Column::LastSeenAt.lte(now - lifetimes.idle));
    Entity::delete_many()
        .filter(Column::UserId.eq(user.0))
        .filter(ended)
        .exec(db)
        .await?;
    let surplus: Vec<SessionId> = Entity::find()
        .filter(Column::UserId.eq(user.0))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .offset(u64::from(max.saturating_sub(1)))
        // SQLite and MySQL know no OFFSET without LIMIT; more than one is there only after `max` was lowered.
        .limit(1000)
        .all(db)
        .await?
        .into_iter()
        .map(|row| SessionId(row.id))
        .collect();
    if !surplus.is_empty() {
        delete(db, user, Selection::These(surplus)).await?;
    }
    Ok(())
}
