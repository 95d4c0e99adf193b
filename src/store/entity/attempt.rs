//! Table `attempts`: what is remembered of attempts that did not succeed, or are under way.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "attempts")]
pub(crate) struct Model {
    /// Of what: see `domain::throttle`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The attempt that made the row.
    pub inserted_by: Uuid,
    pub forgotten_at: DateTimeUtc,
    pub last_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
