//! Table `change_log`: one row, the head of the change log.

use sea_orm::entity::prelude::*;

/// The id of the one row.
pub(crate) const ID: i16 = 1;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "change_log")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i16,
    /// Which history the numbers belong to: a new one after a restore.
    pub epoch: Uuid,
    /// The number of the last change that was committed.
    pub last_seq: i64,
    /// The least version level of a process that may serve on this database.
    pub version_floor: i32,
}

impl ActiveModelBehavior for ActiveModel {}
