//! One-time codes: challenges, and the outbox of messages that are to be sent.

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
    ChallengeId,
    Tries,
    DueAt,
    ExpiresAt,
}

/// What to remove.
const CHALLENGE_EXPIRY_INDEX: &str = "idx_challenges_expires_at";

/// What to send next.
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
                    // No foreign key: a challenge is made by the same statements whether or not somebody has the number.
                    .col(ColumnDef::new(Challenges::UserId).uuid())
                    .col(ColumnDef::new(Challenges::KeyId).string_len(8).not_null())
                    .col(ColumnDef::new(Challenges::IsSent).boolean().not_null())
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
                    .col(ColumnDef::new(OutboxMessages::ChallengeId).uuid().not_null())
                    .col(ColumnDef::new(OutboxMessages::Tries).integer().not_null())
                    .col(timestamp(OutboxMessages::DueAt.into_iden()).not_null())
                    .col(timestamp(OutboxMessages::ExpiresAt.into_iden()).not_null())
                    .to_owned(),
            )
            .await?;
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
