//! Of a source, all codes that are used count for the prefix, and not only those whose asking does: nothing has to be stored of that.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const CHALLENGES: &str = "challenges";
const IS_WATCHED: &str = "is_watched";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.has_column(CHALLENGES, IS_WATCHED).await? {
            let drop = Table::alter()
                .table(CHALLENGES)
                .drop_column(IS_WATCHED)
                .to_owned();
            manager.alter_table(drop).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if !manager.has_column(CHALLENGES, IS_WATCHED).await? {
            let mut is_watched = ColumnDef::new(IS_WATCHED);
            let add = Table::alter()
                .table(CHALLENGES)
                .add_column(is_watched.boolean().not_null().default(false))
                .to_owned();
            manager.alter_table(add).await?;
        }
        Ok(())
    }
}
