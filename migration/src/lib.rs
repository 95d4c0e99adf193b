//! Schema migrations of phone-identity. A migration defines its table and column names itself and imports no entities,
//! so that a change of an entity never changes an old migration.
//!
//! Every step is idempotent: MySQL commits each schema change immediately, so the next start repeats a migration that
//! was killed.

use sea_orm_migration::prelude::*;
pub use sea_orm_migration::prelude::{MigratorTrait, SchemaManager};
use sea_orm_migration::sea_orm::{
    ConnectionTrait, DbBackend, EntityTrait as _, FromQueryResult as _, Iterable as _,
};
use sea_orm_migration::{IntoSchemaManagerConnection, seaql_migrations};

mod m20261124_000001_users_and_sessions;
mod m20261124_000002_change_log;
mod m20261124_000004_audit_log;
mod m20261124_000005_administration;
mod m20261124_000006_attempts_and_devices;
mod m20261126_000007_service_keys;
mod m20261126_000008_codes;
mod m20261126_000009_sms_counters;
mod m20261127_000010_sources_of_codes;
mod m20261127_000011_fewer_columns_of_codes;
mod m20261130_000012_history;
mod m20261130_000013_fair_outbox;
mod m20261130_000014_known_askers;
mod m20261130_000015_versions_of_challenges;

/// The table of applied migrations.
pub const MIGRATIONS_TABLE: &str = "seaql_migrations";

/// All other tables of the current schema.
pub const TABLES: [&str; 14] = [
    "users",
    "sessions",
    "locks",
    "identity_changes",
    "change_log",
    "heartbeat",
    "audit_events",
    "audit_erasures",
    "attempts",
    "devices",
    "service_keys",
    "challenges",
    "outbox_messages",
    "sms_counters",
];

/// All migrations, the oldest first.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261124_000001_users_and_sessions::Migration),
            Box::new(m20261124_000002_change_log::Migration),
            Box::new(m20261124_000004_audit_log::Migration),
            Box::new(m20261124_000005_administration::Migration),
            Box::new(m20261124_000006_attempts_and_devices::Migration),
            Box::new(m20261126_000007_service_keys::Migration),
            Box::new(m20261126_000008_codes::Migration),
            Box::new(m20261126_000009_sms_counters::Migration),
            Box::new(m20261127_000010_sources_of_codes::Migration),
            Box::new(m20261127_000011_fewer_columns_of_codes::Migration),
            Box::new(m20261130_000012_history::Migration),
            Box::new(m20261130_000013_fair_outbox::Migration),
            Box::new(m20261130_000014_known_askers::Migration),
            Box::new(m20261130_000015_versions_of_challenges::Migration),
        ]
    }

    /// The applied migrations, without those that are newer than the last migration of this version. SeaORM refuses to
    /// start on unknown migrations, but in a rolling upgrade an old process may have to start on a database that a new
    /// process has migrated. A migration that is unknown and not newer is from another source, and is refused.
    async fn get_migration_models<C>(db: &C) -> Result<Vec<seaql_migrations::Model>, DbErr>
    where
        C: ConnectionTrait,
    {
        Self::install(db).await?;
        let newest = Self::migrations()
            .last()
            .map(|migration| migration.name().to_owned());
        let query = Query::select()
            .from(Self::migration_table_name())
            .columns(seaql_migrations::Column::iter())
            .order_by(seaql_migrations::Column::Version, Order::Asc)
            .to_owned();
        let applied = db.query_all(&query).await?;
        let applied = applied
            .iter()
            .map(|row| seaql_migrations::Model::from_query_result(row, ""));
        applied
            .filter(|row| {
                row.as_ref()
                    .map_or(true, |row| Some(&row.version) <= newest.as_ref())
            })
            .collect()
    }
}

/// Whether all migrations are applied, and none from another source. Migrations of a newer version are accepted: while
/// this version runs, they only add what this version does not use.
///
/// # Errors
/// When the database cannot be read.
pub async fn is_up_to_date<'c>(db: impl IntoSchemaManagerConnection<'c>) -> Result<bool, DbErr> {
    let schema = SchemaManager::new(db);
    if !schema.has_table(MIGRATIONS_TABLE).await? {
        return Ok(false);
    }
    let applied: Vec<String> = seaql_migrations::Entity::find()
        .all(schema.get_connection())
        .await?
        .into_iter()
        .map(|row| row.version)
        .collect();
    let migrations = Migrator::migrations();
    let known: Vec<&str> = migrations.iter().map(|migration| migration.name()).collect();
    let newest = known.last().copied().unwrap_or_default();
    Ok(known
        .iter()
        .all(|name| applied.iter().any(|version| version == name))
        && applied
            .iter()
            .all(|version| known.contains(&version.as_str()) || version.as_str() > newest))
}

/// Creates a table if it does not exist.
fn table(manager: &SchemaManager, name: impl IntoTableRef) -> TableCreateStatement {
    let mut table = Table::create();
    table.table(name).if_not_exists();
    if manager.get_database_backend() == DbBackend::MySql {
        // Text is compared by its bytes, as in the other databases, without folding of case or accents.
        table
            .engine("InnoDB")
            .character_set("utf8mb4")
            .collate("utf8mb4_bin");
    }
    table
}

/// A column of times in UTC, in microseconds.
fn timestamp(manager: &SchemaManager, name: DynIden) -> ColumnDef {
    let mut column = ColumnDef::new(name);
    match manager.get_database_backend() {
        // TIMESTAMP ends in 2038, and both types store whole seconds by default.
        DbBackend::MySql => column.custom("datetime(6)"),
        _ => column.timestamp_with_time_zone(),
    };
    column
}
