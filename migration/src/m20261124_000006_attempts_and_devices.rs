//! Throttled attempts, and the known devices of users.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

use crate::table;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[derive(DeriveIden)]
enum Attempts {
    Table,
    Id,
    InsertedBy,
    ForgottenAt,
    LastAt,
}

#[derive(DeriveIden)]
enum Devices {
    Table,
    Id,
    TokenHash,
    UserId,
    CredentialVersion,
    ExpiresAt,
}

#[derive(DeriveIden)]
enum Users {
    Table,
    Id,
}

/// Index: the devices of a user, by last use.
const USER_INDEX: &str = "idx_devices_user_id_expires_at";

/// Index: rows to delete.
const EXPIRY_INDEX: &str = "idx_devices_expires_at";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let timestamp = |name| crate::timestamp(manager, name);
        let mut attempts = table(manager, Attempts::Table)
            .col(ColumnDef::new(Attempts::Id).uuid().not_null().primary_key())
            .col(ColumnDef::new(Attempts::InsertedBy).uuid().not_null())
            .col(timestamp(Attempts::ForgottenAt.into_iden()).not_null())
            .col(timestamp(Attempts::LastAt.into_iden()).not_null())
            .to_owned();
        if manager.get_database_backend() == DbBackend::Sqlite {
            // Every sign-in inserts and deletes a row here, so the table has one B-tree and not two.
            attempts.extra("WITHOUT ROWID");
        }
        manager.create_table(attempts).await?;
        manager
            .create_table(
                table(manager, Devices::Table)
                    .col(ColumnDef::new(Devices::Id).uuid().not_null().primary_key())
                    .col(
                        ColumnDef::new(Devices::TokenHash)
                            .binary_len(32)
                            .not_null()
                            .unique_key(),
                    )
                    .col(ColumnDef::new(Devices::UserId).uuid().not_null())
                    .col(
                        ColumnDef::new(Devices::CredentialVersion)
                            .big_integer()
                            .not_null(),
                    )
                    .col(timestamp(Devices::ExpiresAt.into_iden()).not_null())
                    .foreign_key(
                        ForeignKey::create()
                            .name("fk_devices_user_id")
                            .from(Devices::Table, Devices::UserId)
                            .to(Users::Table, Users::Id)
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        // MySQL has no CREATE INDEX IF NOT EXISTS.
        if !manager.has_index("devices", USER_INDEX).await? {
            manager
                .create_index(
                    Index::create()
                        .name(USER_INDEX)
                        .table(Devices::Table)
                        .col(Devices::UserId)
                        .col(Devices::ExpiresAt)
                        .to_owned(),
                )
                .await?;
        }
        if !manager.has_index("devices", EXPIRY_INDEX).await? {
            manager
                .create_index(
                    Index::create()
                        .name(EXPIRY_INDEX)
                        .table(Devices::Table)
                        .col(Devices::ExpiresAt)
                        .to_owned(),
                )
                .await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table(Devices::Table).if_exists().to_owned())
            .await?;
        manager
            .drop_table(Table::drop().table(Attempts::Table).if_exists().to_owned())
            .await
    }
}
