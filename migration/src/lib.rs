//! The schema of phone-identity, as migrations. They name tables and columns by themselves and import no entities, so
//! that an old migration never changes when an entity does.
//!
//! Every step can be done twice: on MySQL what changes the schema commits at once, so a migration that was killed half way
//! is begun anew by the next start.

use sea_orm_migration::prelude::*;
pub use sea_orm_migration::prelude::{MigratorTrait, SchemaManager};
use sea_orm_migration::sea_orm::{DbBackend, EntityTrait as _};
use sea_orm_migration::{IntoSchemaManagerConnection, seaql_migrations};

mod m20261124_000001_users_and_sessions;
mod m20261124_000002_change_log;

/// All migrations, the oldest first.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261124_000001_users_and_sessions::Migration),
            Box::new(m20261124_000002_change_log::Migration),
        ]
    }
}

/// Whether all migrations have been applied. There may be more of them, by a newer version, and that is well: it has only
/// added to the schema what this version does not use, until none of this version runs any more.
///
/// # Errors
/// When the database cannot be read.
pub async fn is_up_to_date<'c>(db: impl IntoSchemaManagerConnection<'c>) -> Result<bool, DbErr> {
    let schema = SchemaManager::new(db);
    if !schema.has_table("seaql_migrations").await? {
        return Ok(false);
    }
    let applied = seaql_migrations::Entity::find()
        .all(schema.get_connection())
        .await?;
    let is_applied = |name: &str| applied.iter().any(|migration| migration.version == name);
    Ok(Migrator::migrations()
        .iter()
        .all(|migration| is_applied(migration.name())))
}

/// A new table, unless it is there.
fn table(manager: &SchemaManager, name: impl IntoTableRef) -> TableCreateStatement {
    let mut table = Table::create();
    table.table(name).if_not_exists();
    if manager.get_database_backend() == DbBackend::MySql {
        // Text is compared by its bytes, as the other databases do: no case is folded and no accent dropped.
        table
            .engine("InnoDB")
            .character_set("utf8mb4")
            .collate("utf8mb4_bin");
    }
    table
}

/// A time, UTC, to the microsecond.
fn timestamp(manager: &SchemaManager, name: DynIden) -> ColumnDef {
    let mut column = ColumnDef::new(name);
    match manager.get_database_backend() {
        // TIMESTAMP ends in 2038, and both types keep whole seconds unless told.
        DbBackend::MySql => column.custom("datetime(6)"),
        _ => column.timestamp_with_time_zone(),
    };
    column
}
