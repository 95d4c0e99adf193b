//! Removes columns that the pumping guard no longer uses: whether the request of a code counts for the prefix, because
//! its use counts in any case, and the number of requests of a prefix that do not count.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const CHALLENGES: &str = "challenges";
const IS_WATCHED: &str = "is_watched";
const SMS_COUNTERS: &str = "sms_counters";
const UNSHARED: &str = "unshared";

fn columns() -> [(&'static str, ColumnDef); 2] {
    let (mut is_watched, mut unshared) = (ColumnDef::new(IS_WATCHED), ColumnDef::new(UNSHARED));
    [
        (
            CHALLENGES,
            is_watched.boolean().not_null().default(false).to_owned(),
        ),
        (
            SMS_COUNTERS,
            unshared.big_integer().not_null().default(0).to_owned(),
        ),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column) in columns() {
            let name = column.get_column_name();
            if manager.has_column(table, &name).await? {
                let drop = Table::alter()
                    .table(table)
                    .drop_column(Alias::new(name))
                    .to_owned();
                manager.alter_table(drop).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, mut column) in columns() {
            if !manager.has_column(table, &column.get_column_name()).await? {
                let add = Table::alter().table(table).add_column(&mut column).to_owned();
                manager.alter_table(add).await?;
            }
        }
        Ok(())
    }
}
