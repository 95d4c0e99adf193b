//! Counters of messages.

use sea_orm_migration::prelude::*;

use crate::table;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[derive(DeriveIden)]
enum SmsCounters {
    Table,
    Id,
    HourSince,
    HourCount,
    DaySince,
    DayCount,
    Asked,
    AskedLately,
    LatelySince,
    Verified,
    PausedUntil,
    CountedAt,
}

/// Index: rows to delete.
const COUNTED_INDEX: &str = "idx_sms_counters_counted_at";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let timestamp = |name| crate::timestamp(manager, name);
        let count = |name: SmsCounters| ColumnDef::new(name).big_integer().not_null().to_owned();
        manager
            .create_table(
                table(manager, SmsCounters::Table)
                    .col(ColumnDef::new(SmsCounters::Id).uuid().not_null().primary_key())
                    .col(timestamp(SmsCounters::HourSince.into_iden()).not_null())
                    .col(count(SmsCounters::HourCount))
                    .col(timestamp(SmsCounters::DaySince.into_iden()).not_null())
                    .col(count(SmsCounters::DayCount))
                    // For prefixes only; other rows keep the initial values.
                    .col(count(SmsCounters::Asked))
                    .col(count(SmsCounters::AskedLately))
                    .col(timestamp(SmsCounters::LatelySince.into_iden()).not_null())
                    .col(count(SmsCounters::Verified))
                    .col(timestamp(SmsCounters::PausedUntil.into_iden()))
                    .col(timestamp(SmsCounters::CountedAt.into_iden()).not_null())
                    .to_owned(),
            )
            .await?;
        // MySQL has no CREATE INDEX IF NOT EXISTS.
        if !manager.has_index("sms_counters", COUNTED_INDEX).await? {
            manager
                .create_index(
                    Index::create()
                        .name(COUNTED_INDEX)
                        .table(SmsCounters::Table)
                        .col(SmsCounters::CountedAt)
                        .to_owned(),
                )
                .await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table(SmsCounters::Table).if_exists().to_owned())
            .await
    }
}
