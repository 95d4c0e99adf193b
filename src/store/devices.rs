//! Queries on known devices, on which users have signed in before.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};
use uuid::Uuid;

use super::entity::device::{ActiveModel, Column, Entity};
use super::entity::user;
use super::{StoreError, delete_found, only};
use crate::clock::{MAX_SKEW, Timestamp};
use crate::domain::phone::PhoneNumber;
use crate::domain::session::DeviceId;
use crate::domain::token::TokenHash;
use crate::domain::user::UserId;

/// A known device of a user.
#[derive(Clone, Copy, Debug)]
pub struct StoredDevice {
    /// Id of the device.
    pub id: DeviceId,
    /// Time at which the device is forgotten, unless it is used again.
    pub expires_at: Timestamp,
    /// Whether the user has verified the phone number. `false` for a new device.
    pub is_verified: bool,
}

/// Finds the device of a token if it belongs to the user with this phone number, the version of the credentials has not
/// changed since the token was issued, and the device has not expired.
///
/// # Errors
/// The database fails.
pub async fn find_good(
    db: &impl ConnectionTrait,
    token: &TokenHash,
    phone_number: &PhoneNumber,
    now: Timestamp,
) -> Result<Option<StoredDevice>, StoreError> {
    let rows: Vec<(Uuid, Timestamp, i64, i64, String, Option<Timestamp>)> = Entity::find()
        .select_only()
        .columns([Column::Id, Column::ExpiresAt, Column::CredentialVersion])
        .columns([
            user::Column::CredentialVersion,
            user::Column::PhoneNumber,
            user::Column::PhoneVerifiedAt,
        ])
        .inner_join(user::Entity)
        .filter(Column::TokenHash.eq(token.as_bytes().to_vec()))
        .into_tuple()
        .all(db)
        .await?;
    Ok(
        only(rows).and_then(|(id, expires_at, then, today, number, verified_at)| {
            let is_valid = then == today && now < expires_at && number == phone_number.as_str();
            is_valid.then_some(StoredDevice {
                id: DeviceId(id),
                expires_at,
                is_verified: verified_at.is_some(),
            })
        }),
    )
}

/// Inserts a device.
///
/// # Errors
/// The database fails.
pub async fn insert(
    db: &impl ConnectionTrait,
    device: &StoredDevice,
    token: &TokenHash,
    user: UserId,
    credential_version: i64,
) -> Result<(), StoreError> {
    let row = ActiveModel {
        id: Set(device.id.0),
        token_hash: Set(token.as_bytes().to_vec()),
        user_id: Set(user.0),
        credential_version: Set(credential_version),
        expires_at: Set(device.expires_at),
    };
    Entity::insert(row).exec_without_returning(db).await?;
    Ok(())
}

/// Deletes the oldest devices of a user, so that there are at most `max` after one more is inserted. Call it under the
/// lock of the user's row.
///
/// # Errors
/// The database fails.
pub async fn make_room(db: &impl ConnectionTrait, user: UserId, max: u32) -> Result<(), StoreError> {
    let surplus = Entity::find()
        .filter(Column::UserId.eq(user.0))
        .order_by_desc(Column::ExpiresAt)
        .order_by_desc(Column::Id)
        .offset(u64::from(max.saturating_sub(1)))
        // SQLite and MySQL have no OFFSET without LIMIT. There is more than one surplus device only after `max` was
        // lowered.
        .limit(1000);
    delete_found(db, surplus, Column::Id).await?;
    Ok(())
}

/// Extends the lifetime of a device. Moves an expiry back only if it is further ahead than [`MAX_SKEW`].
///
/// # Errors
/// The database fails.
pub async fn extend(
    db: &impl ConnectionTrait,
    device: DeviceId,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    let is_earlier_or_ahead = Condition::any()
        .add(Column::ExpiresAt.lt(expires_at))
        .add(Column::ExpiresAt.gt(expires_at + MAX_SKEW));
    Entity::update_many()
        .filter(Column::Id.eq(device.0))
        .filter(is_earlier_or_ahead)
        .col_expr(Column::ExpiresAt, Expr::value(expires_at))
        .exec(db)
        .await?;
    Ok(())
}

/// Finds at most `limit` devices that are expired at `time`.
///
/// # Errors
/// The database fails.
pub async fn find_expired(
    db: &impl ConnectionTrait,
    limit: u64,
    time: Timestamp,
) -> Result<Vec<DeviceId>, StoreError> {
    let ids: Vec<Uuid> = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::ExpiresAt.lte(time))
        .order_by_asc(Column::ExpiresAt)
        .limit(limit)
        .into_tuple()
        .all(db)
        .await?;
    Ok(ids.into_iter().map(DeviceId).collect())
}

/// Deletes those of these devices that are still expired at `time`.
///
/// # Errors
/// The database fails.
pub async fn delete_expired(
    db: &impl ConnectionTrait,
    devices: &[DeviceId],
    time: Timestamp,
) -> Result<u64, StoreError> {
    let deleted = Entity::delete_many()
        .filter(Column::Id.is_in(devices.iter().map(|device| device.0)))
        .filter(Column::ExpiresAt.lte(time))
        .exec(db)
        .await?;
    Ok(deleted.rows_affected)
}
