//! Administration: a column for deactivation by an administrator, and indexes of users by registration and last
//! sign-in. (The unique index lists users by number.)

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[derive(DeriveIden)]
enum Users {
    Table,
    Id,
    CreatedAt,
    LastLoginAt,
    DeactivatedByAdmin,
}

const USERS: &str = "users";
const DEACTIVATED_BY_ADMIN: &str = "deactivated_by_admin";

const CREATED_INDEX: &str = "idx_users_created_at_id";
const LAST_LOGIN_INDEX: &str = "idx_users_last_login_at_id";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if !manager.has_column(USERS, DEACTIVATED_BY_ADMIN).await? {
            // The previous version does not set it.
            let mut column = ColumnDef::new(Users::DeactivatedByAdmin);
            column.boolean().not_null().default(false);
            let add = Table::alter()
                .table(Users::Table)
                .add_column(&mut column)
                .to_owned();
            manager.alter_table(add).await?;
        }
        for (name, column) in [
            (CREATED_INDEX, Users::CreatedAt),
            (LAST_LOGIN_INDEX, Users::LastLoginAt),
        ] {
            // MySQL has no CREATE INDEX IF NOT EXISTS.
            if !manager.has_index(USERS, name).await? {
                let create = Index::create()
                    .name(name)
                    .table(Users::Table)
                    .col(column)
                    .col(Users::Id)
                    .to_owned();
                manager.create_index(create).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for name in [LAST_LOGIN_INDEX, CREATED_INDEX] {
            if manager.has_index(USERS, name).await? {
                let drop = Index::drop().name(name).table(Users::Table).to_owned();
                manager.drop_index(drop).await?;
            }
        }
        if manager.has_column(USERS, DEACTIVATED_BY_ADMIN).await? {
            let drop = Table::alter()
                .table(Users::Table)
                .drop_column(Users::DeactivatedByAdmin)
                .to_owned();
            manager.alter_table(drop).await?;
        }
        Ok(())
    }
}
