//! Statistics of the sources that request codes for a prefix. Also adds a column that databases of the time between the
//! migration of codes and this one lack.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const CHALLENGES: &str = "challenges";
const IS_WATCHED: &str = "is_watched";
const WATCHED_SOURCE: &str = "watched_source";
const SMS_COUNTERS: &str = "sms_counters";
const SHARED_ASKED: &str = "shared_asked";
const SHARED_VERIFIED: &str = "shared_verified";
const UNSHARED: &str = "unshared";
const HALVINGS: &str = "halvings";

/// The new columns. The previous version does not set them: uses of codes that it issued do not count.
fn columns() -> [(&'static str, ColumnDef); 6] {
    let count = |name: &'static str| {
        let mut column = ColumnDef::new(name);
        (
            SMS_COUNTERS,
            column.big_integer().not_null().default(0).to_owned(),
        )
    };
    let mut is_watched = ColumnDef::new(IS_WATCHED);
    [
        (
            CHALLENGES,
            is_watched.boolean().not_null().default(false).to_owned(),
        ),
        (CHALLENGES, ColumnDef::new(WATCHED_SOURCE).uuid().to_owned()),
        count(SHARED_ASKED),
        count(SHARED_VERIFIED),
        count(UNSHARED),
        count(HALVINGS),
    ]
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, mut column) in columns() {
            if !manager.has_column(table, &column.get_column_name()).await? {
                let add = Table::alter().table(table).add_column(&mut column).to_owned();
                manager.alter_table(add).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column) in columns() {
            let name = column.get_column_name();
            // This column is from the migration of codes.
            if name == IS_WATCHED {
                continue;
            }
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
}
