//! Heartbeat: a small write that shows whether the database accepts writes. If the server commits synchronously to a
//! standby, its success also proves that the server was not cut off from the standby, which may have been promoted in
//! the meantime.

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, ExprTrait as _, QueryFilter as _};

use super::StoreError;
use super::entity::heartbeat::{Column, Entity, ID};

/// Writes the heartbeat, and returns when it is committed.
///
/// # Errors
/// The database does not commit the write.
pub async fn beat(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    // The value changes each time: MySQL does not write an unchanged row.
    let written = Entity::update_many()
        .filter(Column::Id.eq(ID))
        .col_expr(Column::Beats, Expr::col(Column::Beats).add(1))
        .exec(db)
        .await?;
    if written.rows_affected == 1 {
        Ok(())
    } else {
        Err(DbErr::RecordNotUpdated.into())
    }
}
