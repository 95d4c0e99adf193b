//! Queries on the keys of calling services.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, Order};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, ExprTrait as _, Iterable as _, JoinType,
    PaginatorTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::entity::Columns;
use super::entity::service_key::{ActiveModel, Column, Entity, Model};
use super::identity::{stamp, stamp_columns};
use super::{Pool, StoreError};
use crate::clock::Timestamp;
use crate::domain::access::{ServiceKey, ServiceKeyId};
use crate::domain::audit::EventActor;
use crate::domain::token::TokenHash;

/// Inserts a new key.
///
/// # Errors
/// The database fails.
pub async fn insert(
    db: &impl ConnectionTrait,
    key: &ServiceKey,
    hash: &TokenHash,
    by: EventActor,
) -> Result<(), StoreError> {
    let row = ActiveModel {
        key_id: Set(key.id.0),
        name: Set(key.name.to_string()),
        key_hash: Set(hash.as_bytes().to_vec()),
        rights: Set(key.rights.to_string()),
        created_at: Set(key.created_at),
        revoked_at: Set(key.revoked_at),
        created_by: Set(by.as_str().to_owned()),
    };
    Entity::insert(row).exec_without_returning(db).await?;
    Ok(())
}

/// Finds at most `limit` keys that are not revoked, with their hashes.
///
/// # Errors
/// The database fails, or no server that accepts writes answers.
pub async fn live(db: &Pool, limit: u64) -> Result<Vec<(TokenHash, ServiceKey)>, StoreError> {
    let backend = db.get_database_backend();
    let is_live = Expr::col((Entity, Column::RevokedAt)).is_null();
    let select = stamp(backend)
        .columns(Column::iter().map(|column| (Entity, column)))
        .join(JoinType::LeftJoin, Entity, is_live)
        .order_by((Entity, Column::KeyId), Order::Asc)
        .limit(limit)
        .take();
    let answer = db.query_stamped(backend.build(&select)).await?;
    let mut keys = Vec::with_capacity(answer.rows.len());
    for row in &answer.rows {
        // Without a key, the row has only the stamp.
        if row
            .try_get_by_index::<Option<Uuid>>(stamp_columns(backend))?
            .is_none()
        {
            continue;
        }
        let row = Model::from_columns(&mut Columns::from(row, stamp_columns(backend)))?;
        // An invalid hash belongs to no key.
        if let Some(hash) = TokenHash::from_stored(&row.key_hash) {
            keys.push((hash, row.into()));
        }
    }
    Ok(keys)
}

/// Counts the keys that are not revoked.
///
/// # Errors
/// The database fails.
pub async fn count_live(db: &impl ConnectionTrait) -> Result<u64, StoreError> {
    Ok(Entity::find()
        .filter(Column::RevokedAt.is_null())
        .count(db)
        .await?)
}

/// Finds at most `limit` keys after `after`, in order of creation, including revoked keys.
///
/// # Errors
/// The database fails.
pub async fn list(
    db: &impl ConnectionTrait,
    after: Option<ServiceKeyId>,
    limit: u64,
) -> Result<Vec<ServiceKey>, StoreError> {
    let rows = Entity::find()
        .filter(Column::KeyId.gt(after.map_or(Uuid::nil(), |id| id.0)))
        .order_by_asc(Column::KeyId)
        .limit(limit)
        .all(db)
        .await?;
    Ok(rows.into_iter().map(ServiceKey::from).collect())
}

/// Finds a key.
///
/// # Errors
/// The database fails.
pub async fn find(db: &impl ConnectionTrait, id: ServiceKeyId) -> Result<Option<ServiceKey>, StoreError> {
    Ok(Entity::find_by_id(id.0).one(db).await?.map(ServiceKey::from))
}

/// Revokes a key. Returns whether it was not revoked before.
///
/// # Errors
/// The database fails.
pub async fn revoke(db: &impl ConnectionTrait, id: ServiceKeyId, now: Timestamp) -> Result<bool, StoreError> {
    let revoked = Entity::update_many()
        .filter(Column::KeyId.eq(id.0))
        .filter(Column::RevokedAt.is_null())
        .col_expr(Column::RevokedAt, Expr::value(now))
        .exec(db)
        .await?;
    Ok(revoked.rows_affected > 0)
}
