//! Heartbeat: a small write, by which a process finds out whether the database accepts writes. Where the server commits
//! synchronously to a standby, its success also shows that the server was not cut off from the standby, which may have
//! been promoted meanwhile.

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, ExprTrait as _, QueryFilter as _};

use super::StoreError;
use super::entity::heartbeat::{Column, Entity, ID};

/// Writes it, and returns when that is committed.
///
/// # Errors
/// When the database does not commit it.
pub async fn beat(db: &impl ConnectionTrait) -> Result<(), StoreError> {
    // Another value each time: MySQL does not write a row that stays the same.
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
