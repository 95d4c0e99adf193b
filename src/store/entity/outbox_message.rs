//! Table `outbox_messages`: what is to be sent. A message that was sent, or that nobody can be sent any more, has no
//! row.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "outbox_messages")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The name of a `Template`.
    pub template: String,
    /// The challenge whose code is to be sent, if it is a code; a notice has what follows instead.
    pub challenge_id: Option<Uuid>,
    pub phone_number: Option<String>,
    /// The person who is told.
    pub user_id: Option<Uuid>,
    pub language: Option<String>,
    /// How often it was begun to be sent.
    pub tries: i32,
    /// When to send it. Whoever sends it moves this on, so that nobody else does until then.
    pub due_at: DateTimeUtc,
    pub expires_at: DateTimeUtc,
    /// The class of the message, and whether it is ready or parked: see `store::outbox::order`.
    pub lane: i16,
    /// Hash of the client network. `None`: the version before wrote it.
    pub flow: Option<Uuid>,
    /// Position in the lane.
    pub turn: i64,
}

impl ActiveModelBehavior for ActiveModel {}
