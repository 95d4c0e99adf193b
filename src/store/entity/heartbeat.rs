//! Table `heartbeat`: one row. A write to it shows whether the database accepts writes.

use sea_orm::entity::prelude::*;

/// Id of the one row.
pub(crate) const ID: i16 = 1;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "heartbeat")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i16,
    /// Number of writes.
    pub beats: i64,
}

impl ActiveModelBehavior for ActiveModel {}
