//! The schema of phone-identity, as migrations. They name tables and columns by themselves and import no entities, so
//! that an old migration never changes when an entity does.

pub use sea_orm_migration::prelude::MigratorTrait;
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

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
