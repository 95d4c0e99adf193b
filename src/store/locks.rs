//! Lock rows: fixed rows that transactions lock to run one after another.

use sea_orm::{ConnectionTrait, EntityTrait as _, QuerySelect as _};

use super::StoreError;
use super::entity::lock;

/// Serialises the transactions that remove a superuser, so that two of them cannot remove each other. The lock is held
/// until the transaction ends. For SQLite, the transaction itself is the lock.
///
/// # Errors
/// The database fails.
pub async fn lock_superusers(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    lock::Entity::find_by_id("superusers")
        .lock_exclusive()
        .one(db)
        .await?;
    Ok(())
}
