//! Table `sessions`.

use sea_orm::entity::prelude::*;

use super::Columns;
use crate::domain::session::{AuthMethod, AuthMethods, ClientInfo, Session, SessionId};
use crate::domain::user::UserId;

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "sessions")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The SHA-256 of the token, 32 bytes.
    #[sea_orm(unique)]
    pub token_hash: Vec<u8>,
    pub user_id: Uuid,
    pub created_at: DateTimeUtc,
    pub last_seen_at: DateTimeUtc,
    pub expires_at: DateTimeUtc,
    /// Names of authentication methods, separated by commas.
    pub auth_methods: String,
    pub client_ip_address: Option<String>,
    pub client_user_agent: Option<String>,
    #[sea_orm(belongs_to, from = "user_id", to = "id")]
    pub user: BelongsTo<super::user::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// Reads all columns, in the order of [`Column`].
    pub(crate) fn from_columns(columns: &mut Columns<'_>) -> Result<Self, DbErr> {
        Ok(Self {
            id: columns.take()?,
            token_hash: columns.take()?,
            user_id: columns.take()?,
            created_at: columns.take()?,
            last_seen_at: columns.take()?,
            expires_at: columns.take()?,
            auth_methods: columns.take()?,
            client_ip_address: columns.take()?,
            client_user_agent: columns.take()?,
        })
    }
}

/// The value of column `auth_methods`.
pub(crate) fn format_auth_methods(methods: &[AuthMethod]) -> String {
    let names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    names.join(",")
}

fn parse_auth_methods(names: &str) -> AuthMethods {
    // Skips the names of a newer version, which this version does not know.
    AuthMethod::ALL
        .into_iter()
        .filter(|method| names.split(',').any(|name| name == method.as_str()))
        .collect()
}

impl From<Model> for Session {
    fn from(row: Model) -> Self {
        Self {
            id: SessionId(row.id),
            user_id: UserId(row.user_id),
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            expires_at: row.expires_at,
            auth_methods: parse_auth_methods(&row.auth_methods),
            client: ClientInfo {
                ip_address: row.client_ip_address.and_then(|address| address.parse().ok()),
                user_agent: row.client_user_agent.map(String::into_boxed_str),
            },
        }
    }
}
