//! The change log: changes that other replicas must apply, in commit order.

use sea_orm_migration::prelude::*;
use uuid::Uuid;

use crate::{table, timestamp};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[derive(DeriveIden)]
enum IdentityChanges {
    Table,
    Seq,
    Kind,
    UserId,
    SessionId,
    At,
}

#[derive(DeriveIden)]
enum ChangeLog {
    Table,
    Id,
    Epoch,
    LastSeq,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                table(manager, IdentityChanges::Table)
                    .col(
                        ColumnDef::new(IdentityChanges::Seq)
                            .big_integer()
                            .not_null()
                            .primary_key(),
                    )
                    .col(ColumnDef::new(IdentityChanges::Kind).string_len(32).not_null())
                    // No foreign keys: a change outlives its user and session.
                    .col(ColumnDef::new(IdentityChanges::UserId).uuid())
                    .col(ColumnDef::new(IdentityChanges::SessionId).uuid())
                    .col(timestamp(manager, IdentityChanges::At.into_iden()).not_null())
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                table(manager, ChangeLog::Table)
                    .col(
                        ColumnDef::new(ChangeLog::Id)
                            .small_integer()
                            .not_null()
                            .primary_key(),
                    )
                    .col(ColumnDef::new(ChangeLog::Epoch).uuid().not_null())
                    .col(ColumnDef::new(ChangeLog::LastSeq).big_integer().not_null())
                    .to_owned(),
            )
            .await?;
        manager
            .execute(
                Query::insert()
                    .into_table(ChangeLog::Table)
                    .columns([ChangeLog::Id, ChangeLog::Epoch, ChangeLog::LastSeq])
                    .values_panic([1.into(), Uuid::new_v4().into(), 0.into()])
                    .on_conflict(
                        OnConflict::column(ChangeLog::Id)
                            .do_nothing_on([ChangeLog::Id])
                            .to_owned(),
                    )
                    .to_owned(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table(ChangeLog::Table).if_exists().to_owned())
            .await?;
        manager
            .drop_table(Table::drop().table(IdentityChanges::Table).if_exists().to_owned())
            .await
    }
}
