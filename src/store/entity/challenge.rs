//! Table `challenges`: that somebody is to show by a one-time code that they hold a number. One that was met, or whose
//! time is over, has no row. The code is not in it.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "challenges")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub purpose: String,
    pub phone_number: String,
    /// The user of the number at the request.
    pub user_id: Option<Uuid>,
    /// The version of the user's credentials at the request. NULL: there was no user, or an older version wrote the
    /// row.
    pub credential_version: Option<i64>,
    /// The key that the code is made with.
    pub key_id: String,
    /// Whether the code is sent at all.
    pub is_sent: bool,
    /// The counter of the prefix and of the source that asked for the code. NULL: the pumping guard watches nothing.
    pub watched_source: Option<Uuid>,
    /// Whether it was requested on a known device or with a session of the user.
    pub is_known: bool,
    pub language: String,
    /// How many codes were tried.
    pub attempts: i32,
    pub created_at: DateTimeUtc,
    pub sent_at: DateTimeUtc,
    pub expires_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
