//! Table `audit_events`.

use sea_orm::entity::prelude::*;

use crate::domain::audit::{AuditEntry, EventId};
use crate::domain::session::{ClientInfo, SessionId};
use crate::domain::user::UserId;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "audit_events")]
pub(crate) struct Model {
    /// A UUIDv7: the order of the ids is that of time.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub at: DateTimeUtc,
    pub action: String,
    pub outcome: String,
    pub reason: Option<String>,
    /// Kind of the actor.
    pub actor: String,
    pub actor_id: Option<Uuid>,
    pub subject_id: Option<Uuid>,
    pub session_id: Option<Uuid>,
    /// Names of fields, separated by commas.
    pub fields: Option<String>,
    pub ended_sessions: Option<i64>,
    pub service: Option<String>,
    pub client_ip_address: Option<String>,
    pub client_user_agent: Option<String>,
    pub request_id: Option<String>,
    /// Number of equal events that the row represents.
    pub occurrences: i64,
}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for AuditEntry {
    fn from(row: Model) -> Self {
        let fields = row.fields.unwrap_or_default();
        Self {
            id: EventId(row.id),
            at: row.at,
            occurrences: u64::try_from(row.occurrences).unwrap_or(1),
            action: row.action,
            outcome: row.outcome,
            reason: row.reason,
            actor: row.actor,
            actor_id: row.actor_id.map(UserId),
            subject_id: row.subject_id.map(UserId),
            session_id: row.session_id.map(SessionId),
            fields: fields
                .split(',')
                .filter(|field| !field.is_empty())
                .map(str::to_owned)
                .collect(),
            ended_sessions: row.ended_sessions.and_then(|count| u64::try_from(count).ok()),
            service: row.service,
            client: ClientInfo {
                ip_address: row.client_ip_address.and_then(|address| address.parse().ok()),
                user_agent: row.client_user_agent.map(String::into_boxed_str),
            },
            request_id: row.request_id,
        }
    }
}
