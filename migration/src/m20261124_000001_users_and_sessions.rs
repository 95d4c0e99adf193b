//! Users, their sessions, and rows for locks.

use sea_orm_migration::prelude::*;

use crate::table;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[derive(DeriveIden)]
enum Users {
    Table,
    Id,
    PhoneNumber,
    PasswordHash,
    CredentialVersion,
    Status,
    IsStaff,
    IsSuperuser,
    PhoneVerifiedAt,
    Locale,
    CreatedAt,
    UpdatedAt,
    LastLoginAt,
}

#[derive(DeriveIden)]
enum Sessions {
    Table,
    Id,
    TokenHash,
    UserId,
    CreatedAt,
    LastSeenAt,
    ExpiresAt,
    AuthMethods,
    ClientIpAddress,
    ClientUserAgent,
}

#[derive(DeriveIden)]
enum Locks {
    Table,
    Name,
}

/// Index: the sessions of a user, by age.
const USER_INDEX: &str = "idx_sessions_user_id_created_at";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let timestamp = |name| crate::timestamp(manager, name);
        manager
            .create_table(
                table(manager, Users::Table)
                    .col(ColumnDef::new(Users::Id).uuid().not_null().primary_key())
                    .col(
                        ColumnDef::new(Users::PhoneNumber)
                            .string_len(24)
                            .not_null()
                            .unique_key(),
                    )
                    .col(ColumnDef::new(Users::PasswordHash).string_len(255))
                    .col(ColumnDef::new(Users::CredentialVersion).big_integer().not_null())
                    .col(ColumnDef::new(Users::Status).string_len(16).not_null())
                    .col(ColumnDef::new(Users::IsStaff).boolean().not_null())
                    .col(ColumnDef::new(Users::IsSuperuser).boolean().not_null())
                    .col(timestamp(Users::PhoneVerifiedAt.into_iden()))
                    .col(ColumnDef::new(Users::Locale).string_len(35))
                    .col(timestamp(Users::CreatedAt.into_iden()).not_null())
                    .col(timestamp(Users::UpdatedAt.into_iden()).not_null())
                    .col(timestamp(Users::LastLoginAt.into_iden()))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                table(manager, Sessions::Table)
                    .col(ColumnDef::new(Sessions::Id).uuid().not_null().primary_key())
                    .col(
                        ColumnDef::new(Sessions::TokenHash)
                            .binary_len(32)
                            .not_null()
                            .unique_key(),
                    )
                    .col(ColumnDef::new(Sessions::UserId).uuid().not_null())
                    .col(timestamp(Sessions::CreatedAt.into_iden()).not_null())
                    .col(timestamp(Sessions::LastSeenAt.into_iden()).not_null())
                    .col(timestamp(Sessions::ExpiresAt.into_iden()).not_null())
                    .col(ColumnDef::new(Sessions::AuthMethods).string_len(64).not_null())
                    .col(ColumnDef::new(Sessions::ClientIpAddress).string_len(45))
                    .col(ColumnDef::new(Sessions::ClientUserAgent).string_len(512))
                    .foreign_key(
                        ForeignKey::create()
                            .name("fk_sessions_user_id")
                            .from(Sessions::Table, Sessions::UserId)
                            .to(Users::Table, Users::Id)
                            .on_delete(ForeignKeyAction::Cascade),
                    )
                    .to_owned(),
            )
            .await?;
        // MySQL has no CREATE INDEX IF NOT EXISTS.
        if !manager.has_index("sessions", USER_INDEX).await? {
            manager
                .create_index(
                    Index::create()
                        .name(USER_INDEX)
                        .table(Sessions::Table)
                        .col(Sessions::UserId)
                        .col(Sessions::CreatedAt)
                        .to_owned(),
                )
                .await?;
        }
        manager
            .create_table(
                table(manager, Locks::Table)
                    .col(
                        ColumnDef::new(Locks::Name)
                            .string_len(32)
                            .not_null()
                            .primary_key(),
                    )
                    .to_owned(),
            )
            .await?;
        manager
            .execute(
                Query::insert()
                    .into_table(Locks::Table)
                    .columns([Locks::Name])
                    .values_panic(["superusers".into()])
                    .on_conflict(
                        OnConflict::column(Locks::Name)
                            .do_nothing_on([Locks::Name])
                            .to_owned(),
                    )
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table(Locks::Table).if_exists().to_owned())
            .await?;
        manager
            .drop_table(Table::drop().table(Sessions::Table).if_exists().to_owned())
            .await?;
        manager
            .drop_table(Table::drop().table(Users::Table).if_exists().to_owned())
            .await
    }
}
