//! Table `outbox_messages`: unsent messages. A message that was sent or dropped has no row.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "outbox_messages")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Name of a `Template`.
    pub template: String,
    /// Challenge of a message with a code. A notice has the columns below instead.
    pub challenge_id: Option<Uuid>,
    pub phone_number: Option<String>,
    /// Recipient of the notice.
    pub user_id: Option<Uuid>,
    pub language: Option<String>,
    /// Number of started deliveries.
    pub tries: i32,
    /// Time of the next delivery. A sender moves it forward, so that no other process sends the message until then.
    pub due_at: DateTimeUtc,
    pub expires_at: DateTimeUtc,
    /// Class of the message, and whether it is ready or parked: see `store::outbox::order`.
    pub lane: i16,
    /// Hash of the client network. `None`: the previous version wrote it.
    pub flow: Option<Uuid>,
    /// Position in the lane.
    pub turn: i64,
}

impl ActiveModelBehavior for ActiveModel {}
