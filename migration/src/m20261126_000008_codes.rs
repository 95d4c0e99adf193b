//! One-time codes: challenges, the outbox of messages, and the times at which users changed their numbers.

use sea_orm_migration::prelude::*;

use crate::table;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[derive(DeriveIden)]
enum Challenges {
    Table,
    Id,
    Purpose,
    PhoneNumber,
    UserId,
    KeyId,
    IsSent,
    IsWatched,
    Language,
    Attempts,
    CreatedAt,
    SentAt,
    ExpiresAt,
}

#[derive(DeriveIden)]
enum OutboxMessages {
    Table,
    Id,
    Template,
    ChallengeId,
    PhoneNumber,
    UserId,
    Language,
    Tries,
    DueAt,
    ExpiresAt,
}

#[derive(DeriveIden)]
enum Users {
    Table,
    PhoneChangedAt,
}

const USERS: &str = "users";
const PHONE_CHANGED_AT: &str = "phone_changed_at";

/// Index: rows to delete.
const CHALLENGE_EXPIRY_INDEX: &str = "idx_challenges_expires_at";

/// Index: messages to send next.
const DUE_INDEX: &str = "idx_outbox_messages_due_at";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let timestamp = |name| crate::timestamp(manager, name);
        manager
            .create_table(
                table(manager, Challenges::Table)
                    .col(ColumnDef::new(Challenges::Id).uuid().not_null().primary_key())
                    .col(ColumnDef::new(Challenges::Purpose).string_len(16).not_null())
                    .col(ColumnDef::new(Challenges::PhoneNumber).string_len(21).not_null())
                    // No foreign key: the statements that create a challenge are the same whether or not an account has
                    // the number.
                    .col(ColumnDef::new(Challenges::UserId).uuid())
                    .col(ColumnDef::new(Challenges::KeyId).string_len(8).not_null())
                    .col(ColumnDef::new(Challenges::IsSent).boolean().not_null())
                    .col(ColumnDef::new(Challenges::IsWatched).boolean().not_null())
                    .col(ColumnDef::new(Challenges::Language).string_len(8).not_null())
                    .col(ColumnDef::new(Challenges::Attempts).integer().not_null())
                    .col(timestamp(Challenges::CreatedAt.into_iden()).not_null())
                    .col(timestamp(Challenges::SentAt.into_iden()).not_null())
                    .col(timestamp(Challenges::ExpiresAt.into_iden()).not_null())
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                table(manager, OutboxMessages::Table)
                    .col(ColumnDef::new(OutboxMessages::Id).uuid().not_null().primary_key())
                    .col(ColumnDef::new(OutboxMessages::Template).string_len(24).not_null())
                    // For a code: the challenge has purpose, number and language.
                    .col(ColumnDef::new(OutboxMessages::ChallengeId).uuid())
                    // For a notice.
                    .col(ColumnDef::new(OutboxMessages::PhoneNumber).string_len(21))
                    .col(ColumnDef::new(OutboxMessages::UserId).uuid())
                    .col(ColumnDef::new(OutboxMessages::Language).string_len(8))
                    .col(ColumnDef::new(OutboxMessages::Tries).integer().not_null())
                    .col(timestamp(OutboxMessages::DueAt.into_iden()).not_null())
                    .col(timestamp(OutboxMessages::ExpiresAt.into_iden()).not_null())
                    .to_owned(),
            )
            .await?;
        if !manager.has_column(USERS, PHONE_CHANGED_AT).await? {
            // The previous version does not set it.
            let add = Table::alter()
                .table(Users::Table)
                .add_column(timestamp(Users::PhoneChangedAt.into_iden()))
                .to_owned();
            manager.alter_table(add).await?;
        }
        // MySQL has no CREATE INDEX IF NOT EXISTS.
        if !manager.has_index("challenges", CHALLENGE_EXPIRY_INDEX).await? {
            manager
                .create_index(
                    Index::create()
                        .name(CHALLENGE_EXPIRY_INDEX)
                        .table(Challenges::Table)
                        .col(Challenges::ExpiresAt)
                        .to_owned(),
                )
                .await?;
        }
        if !manager.has_index("outbox_messages", DUE_INDEX).await? {
            manager
                .create_index(
                    Index::create()
                        .name(DUE_INDEX)
                        .table(OutboxMessages::Table)
                        .col(OutboxMessages::DueAt)
                        .to_owned(),
                )
                .await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.has_column(USERS, PHONE_CHANGED_AT).await? {
            let drop = Table::alter()
                .table(Users::Table)
                .drop_column(Users::PhoneChangedAt)
                .to_owned();
            manager.alter_table(drop).await?;
        }
        for name in [
            OutboxMessages::Table.into_table_ref(),
            Challenges::Table.into_table_ref(),
        ] {
            manager
                .drop_table(Table::drop().table(name).if_exists().to_owned())
                .await?;
        }
        Ok(())
    }
}
