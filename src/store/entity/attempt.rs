//! Table `attempts`: failed and running attempts.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "attempts")]
pub(crate) struct Model {
    /// Id of the subject: see `domain::throttle`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The attempt that inserted the row.
    pub inserted_by: Uuid,
    pub forgotten_at: DateTimeUtc,
    pub last_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
