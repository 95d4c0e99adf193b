//! The schema of phone-identity, as migrations. They name tables and columns by themselves and import no entities, so
//! that an old migration never changes when an entity does.

pub use sea_orm_migration::prelude::MigratorTrait;
use sea_orm_migration::prelude::*;

mod m20261124_000001_users_and_sessions;

/// All migrations, the oldest first.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m20261124_000001_users_and_sessions::Migration)]
    }
}
