//! Table `change_log`: one row, the head of the change log.

use sea_orm::entity::prelude::*;

/// Id of the one row.
pub(crate) const ID: i16 = 1;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "change_log")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i16,
    /// Identifies the history that the numbers belong to. It changes after a restore.
    pub epoch: Uuid,
    /// Number of the last committed change.
    pub last_seq: i64,
    /// Minimum version level of a process that may serve on this database.
    pub version_floor: i32,
}

impl ActiveModelBehavior for ActiveModel {}
