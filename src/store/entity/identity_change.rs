//! Table `identity_changes`: the entries of the change log.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "identity_changes")]
pub(crate) struct Model {
    /// Number in the log, from 1 and without a gap, in the order of the commits.
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub kind: String,
    pub user_id: Option<Uuid>,
    pub session_id: Option<Uuid>,
    pub at: DateTimeUtc,
    /// Random, so that two histories that have reached the same number differ. An older version writes none.
    pub entry_id: Option<Uuid>,
}

impl ActiveModelBehavior for ActiveModel {}
