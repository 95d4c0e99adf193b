//! The keys of calling services.

use sea_orm_migration::prelude::*;

use crate::table;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[derive(DeriveIden)]
enum ServiceKeys {
    Table,
    KeyId,
    Name,
    KeyHash,
    Rights,
    CreatedAt,
    RevokedAt,
    CreatedBy,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let timestamp = |name| crate::timestamp(manager, name);
        manager
            .create_table(
                table(manager, ServiceKeys::Table)
                    // A UUIDv7, so the primary key is in order of time.
                    .col(ColumnDef::new(ServiceKeys::KeyId).uuid().not_null().primary_key())
                    // Not unique: during a rotation, the old and the new key are valid.
                    .col(ColumnDef::new(ServiceKeys::Name).string_len(63).not_null())
                    .col(
                        ColumnDef::new(ServiceKeys::KeyHash)
                            .binary_len(32)
                            .not_null()
                            .unique_key(),
                    )
                    .col(ColumnDef::new(ServiceKeys::Rights).string_len(255).not_null())
                    .col(timestamp(ServiceKeys::CreatedAt.into_iden()).not_null())
                    .col(timestamp(ServiceKeys::RevokedAt.into_iden()))
                    .col(ColumnDef::new(ServiceKeys::CreatedBy).string_len(16).not_null())
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table(ServiceKeys::Table).if_exists().to_owned())
            .await
    }
}
