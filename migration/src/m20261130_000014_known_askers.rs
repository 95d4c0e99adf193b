//! Marks challenges that were requested on a known device or with a session of the user: their wrong codes have their
//! own limit.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const CHALLENGES: &str = "challenges";
const IS_KNOWN: &str = "is_known";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.has_column(CHALLENGES, IS_KNOWN).await? {
            return Ok(());
        }
        // The previous version does not set it: its challenges count as those of strangers.
        let mut column = ColumnDef::new(IS_KNOWN);
        let column = column.boolean().not_null().default(false);
        let add = Table::alter().table(CHALLENGES).add_column(column).to_owned();
        manager.alter_table(add).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if !manager.has_column(CHALLENGES, IS_KNOWN).await? {
            return Ok(());
        }
        let drop = Table::alter()
            .table(CHALLENGES)
            .drop_column(Alias::new(IS_KNOWN))
            .to_owned();
        manager.alter_table(drop).await
    }
}
