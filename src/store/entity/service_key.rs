//! Table `service_keys`: the keys of calling services. Revoked keys stay, so that lists show them.

use sea_orm::entity::prelude::*;

use super::Columns;
use crate::domain::access::{Rights, ServiceKey, ServiceKeyId, ServiceName};

#[sea_orm::model]
#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "service_keys")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: Uuid,
    pub name: String,
    /// The SHA-256 of the key, 32 bytes.
    #[sea_orm(unique)]
    pub key_hash: Vec<u8>,
    /// Names of rights, separated by commas.
    pub rights: String,
    pub created_at: DateTimeUtc,
    pub revoked_at: Option<DateTimeUtc>,
    /// Kind of the actor that created it, as in the audit log.
    pub created_by: String,
}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// Reads all columns, in the order of [`Column`].
    pub(crate) fn from_columns(columns: &mut Columns<'_>) -> Result<Self, DbErr> {
        Ok(Self {
            key_id: columns.take()?,
            name: columns.take()?,
            key_hash: columns.take()?,
            rights: columns.take()?,
            created_at: columns.take()?,
            revoked_at: columns.take()?,
            created_by: columns.take()?,
        })
    }
}

impl From<Model> for ServiceKey {
    fn from(row: Model) -> Self {
        Self {
            id: ServiceKeyId(row.key_id),
            name: ServiceName::from_stored(row.name),
            rights: Rights::from_stored(&row.rights),
            created_at: row.created_at,
            revoked_at: row.revoked_at,
        }
    }
}
