//! Fixed rows that transactions lock to follow one another.

use sea_orm::{ConnectionTrait, EntityTrait as _, QuerySelect as _};

use super::StoreError;
use super::entity::lock;

/// Makes transactions that remove a superuser follow one another, so that two cannot remove each other. Held until the
/// transaction ends. On SQLite the transaction itself is the lock.
///
/// # Errors
/// When the database fails.
pub async fn lock_superusers(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    lock::Entity::find_by_id("superusers")
        .lock_exclusive()
        .one(db)
        .await?;
    Ok(())
}
