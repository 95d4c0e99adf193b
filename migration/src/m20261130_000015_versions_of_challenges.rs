//! The version of the user's credentials at the request of a challenge: a change of credentials ends its code.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const CHALLENGES: &str = "challenges";
const CREDENTIAL_VERSION: &str = "credential_version";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.has_column(CHALLENGES, CREDENTIAL_VERSION).await? {
            return Ok(());
        }
        // The previous version does not set it: codes of an account without it are invalid here.
        let mut column = ColumnDef::new(CREDENTIAL_VERSION);
        let column = column.big_integer();
        let add = Table::alter().table(CHALLENGES).add_column(column).to_owned();
        manager.alter_table(add).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if !manager.has_column(CHALLENGES, CREDENTIAL_VERSION).await? {
            return Ok(());
        }
        let drop = Table::alter()
            .table(CHALLENGES)
            .drop_column(Alias::new(CREDENTIAL_VERSION))
            .to_owned();
        manager.alter_table(drop).await
    }
}
