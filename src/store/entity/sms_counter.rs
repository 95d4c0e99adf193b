//! Table `sms_counters`: numbers of messages, and the use of codes per prefix. See `domain::sms_limits`.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "sms_counters")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub hour_since: DateTimeUtc,
    pub hour_count: i64,
    pub day_since: DateTimeUtc,
    pub day_count: i64,
    pub asked: i64,
    pub asked_lately: i64,
    pub lately_since: DateTimeUtc,
    pub verified: i64,
    pub shared_asked: i64,
    pub shared_verified: i64,
    pub halvings: i64,
    pub paused_until: Option<DateTimeUtc>,
    /// Time of the last count.
    pub counted_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
