//! Start of the hold after a change of the phone number.

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _};

use super::super::StoreError;
use super::super::entity::user::{Column, Entity};
use crate::clock::Timestamp;
use crate::domain::user::UserId;

/// Sets the time of the last change of a user's phone number to `now`, if it is later.
///
/// # Errors
/// The database fails.
pub async fn bound_phone_change(
    db: &impl ConnectionTrait,
    id: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    Entity::update_many()
        .filter(Column::Id.eq(id.0))
        .filter(Column::PhoneChangedAt.gt(now))
        .col_expr(Column::PhoneChangedAt, Expr::value(now))
        .exec(db)
        .await?;
    Ok(())
}
