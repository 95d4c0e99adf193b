//! Table `heartbeat`: one row, which is written to find out whether the database accepts writes.

use sea_orm::entity::prelude::*;

/// The id of the one row.
pub(crate) const ID: i16 = 1;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "heartbeat")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i16,
    /// How often it was written.
    pub beats: i64,
}

impl ActiveModelBehavior for ActiveModel {}
