//! Table `challenges`: requests to prove ownership of a number by a one-time code. A redeemed challenge has no row, and
//! an expired one is removed. The code is not stored.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "challenges")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub purpose: String,
    pub phone_number: String,
    /// User of the number at the time of the request.
    pub user_id: Option<Uuid>,
    /// Version of the user's credentials at the time of the request. NULL: there was no user, or an older version wrote
    /// the row.
    pub credential_version: Option<i64>,
    /// Key from which the code is derived.
    pub key_id: String,
    /// Whether the code is sent.
    pub is_sent: bool,
    /// Counter of the prefix and of the source that requested the code. NULL: the pumping guard watches nothing.
    pub watched_source: Option<Uuid>,
    /// Whether it was requested on a known device or with a session of the user.
    pub is_known: bool,
    pub language: String,
    /// Number of attempts at the code.
    pub attempts: i32,
    pub created_at: DateTimeUtc,
    pub sent_at: DateTimeUtc,
    pub expires_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
