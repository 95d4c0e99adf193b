//! Preflight checks: properties of the database that the service relies on. A failed check stops the start, instead of
//! a failed call later.

use std::collections::HashMap;

use migration::{MIGRATIONS_TABLE, Migrator, MigratorTrait as _, TABLES};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement};

use super::{Pool, Store, StoreError, changes, heartbeat};

/// Checks the server and the existing tables, before anything is changed.
///
/// # Errors
/// [`StoreError::Unsuitable`], with the reason.
pub(super) async fn check(db: &Pool) -> Result<(), StoreError> {
    check_owner(db).await?;
    match db.get_database_backend() {
        DbBackend::Postgres => check_postgres(db).await,
        DbBackend::MySql => check_mysql(db).await,
        _ => Ok(()),
    }
}

/// Checks that the database accepts writes, after its schema was brought up to date, and that this version may serve on
/// it.
///
/// # Errors
/// [`StoreError::Unsuitable`], with the reason.
pub(super) async fn check_schema(store: &Store) -> Result<(), StoreError> {
    // SQLite opens a file that it cannot write, and a database user may lack rights. A server may be about to start.
    match heartbeat::beat(store.writer()).await {
        Err(StoreError::Unavailable(error)) if !store.has_server() => {
            return unsuitable(format!("it cannot be written: {error}"));
        }
        Err(StoreError::Fault(error)) => return unsuitable(format!("it cannot be written: {error}")),
        beat => beat?,
    }
    let required = changes::head(store.reader()).await?.version_floor;
    let level = store.version_level();
    if required > level {
        return unsuitable(format!(
            "it requires version level {required}, and this program has {level}: a newer version with features \
             that this version does not support has used the database"
        ));
    }
    Ok(())
}

fn unsuitable(why: impl Into<String>) -> Result<(), StoreError> {
    Err(StoreError::Unsuitable(why.into()))
}

async fn check_postgres(db: &Pool) -> Result<(), StoreError> {
    let settings =
        "SELECT current_setting('server_encoding'), current_setting('default_transaction_isolation')";
    let Some(row) = db.query_one_raw(statement(db, settings)).await? else {
        return Ok(());
    };
    let (encoding, isolation): (String, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    if encoding != "UTF8" {
        return unsuitable(format!("its encoding is {encoding}, and not UTF8"));
    }
    check_isolation(&isolation)
}

async fn check_mysql(db: &Pool) -> Result<(), StoreError> {
    let variables = "SHOW SESSION VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', 'tx_isolation', \
                     'transaction_isolation', 'innodb_read_only', 'wsrep_dirty_reads')";
    let rows = db.query_all_raw(statement(db, variables)).await?;
    let mut values = HashMap::new();
    for row in rows {
        let (name, value): (String, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        values.insert(name.to_ascii_lowercase(), value);
    }
    let is = |name: &str, expected: &str| values.get(name).is_some_and(|value| value == expected);
    if is("log_bin", "ON") && is("binlog_format", "STATEMENT") {
        return unsuitable(
            "its binlog_format is STATEMENT, with which it refuses writes at READ COMMITTED: use ROW",
        );
    }
    if is("innodb_read_only", "ON") {
        return unsuitable("its InnoDB is read-only");
    }
    if is("wsrep_dirty_reads", "ON") {
        return unsuitable("its wsrep_dirty_reads is on, so that a node that left the cluster answers");
    }
    if let Some(isolation) = values
        .get("transaction_isolation")
        .or_else(|| values.get("tx_isolation"))
    {
        check_isolation(&isolation.replace('-', " ").to_ascii_lowercase())?;
    }
    let tables = format!(
        "SELECT TABLE_NAME, ENGINE, TABLE_COLLATION FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ({})",
        names(TABLES)
    );
    for row in db.query_all_raw(statement(db, &tables)).await? {
        let (table, engine, collation): (String, Option<String>, Option<String>) = (
            row.try_get_by_index(0)?,
            row.try_get_by_index(1)?,
            row.try_get_by_index(2)?,
        );
        let (engine, collation) = (engine.unwrap_or_default(), collation.unwrap_or_default());
        if engine != "InnoDB" || collation != "utf8mb4_bin" {
            return unsuitable(format!(
                "its table {table} has engine {engine} and collation {collation}, and not InnoDB and utf8mb4_bin"
            ));
        }
    }
    Ok(())
}

/// A proxy that assigns a connection per transaction may return one without the settings of the session.
fn check_isolation(isolation: &str) -> Result<(), StoreError> {
    if isolation == "read committed" {
        Ok(())
    } else {
        unsuitable(format!(
            "its sessions are {isolation} although they were set to READ COMMITTED: is there a proxy that pools \
             transactions, and not sessions?"
        ))
    }
}

/// Rejects the database of another program that has tables of the same names: a migration would alter them.
async fn check_owner(db: &Pool) -> Result<(), StoreError> {
    let names = names(TABLES.into_iter().chain([MIGRATIONS_TABLE]));
    let present = match db.get_database_backend() {
        DbBackend::Postgres => format!(
            "SELECT table_name::text FROM information_schema.tables \
             WHERE table_schema = current_schema() AND table_name IN ({names})"
        ),
        DbBackend::MySql => format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ({names})"
        ),
        _ => format!("SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ({names})"),
    };
    let rows = db.query_all_raw(statement(db, &present)).await?;
    let present: Vec<String> = rows
        .iter()
        .map(|row| row.try_get_by_index(0))
        .collect::<Result<_, DbErr>>()?;
    let Some(table) = present.iter().find(|table| *table != MIGRATIONS_TABLE) else {
        return Ok(());
    };
    let is_ours = if present.iter().any(|table| table == MIGRATIONS_TABLE) {
        let sql = format!("SELECT version FROM {MIGRATIONS_TABLE}");
        let rows = db.query_all_raw(statement(db, &sql)).await?;
        let applied: Vec<String> = rows
            .iter()
            .map(|row| row.try_get_by_index(0))
            .collect::<Result<_, DbErr>>()?;
        // On MySQL, a migration that was killed leaves its tables before it is recorded.
        applied.is_empty()
            || Migrator::migrations()
                .iter()
                .any(|known| applied.iter().any(|name| name == known.name()))
    } else {
        false
    };
    if is_ours {
        return Ok(());
    }
    unsuitable(format!(
        "it has a table {table} of another program: use a database or a schema of its own"
    ))
}

fn statement(db: &Pool, sql: &str) -> Statement {
    Statement::from_string(db.get_database_backend(), sql)
}

/// Formats names as a list of SQL strings.
fn names(tables: impl IntoIterator<Item = &'static str>) -> String {
    tables
        .into_iter()
        .map(|name| format!("'{name}'"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::testing;

    /// The session requests READ COMMITTED. A proxy that resets sessions leaves the default of the server or the role.
    #[test]
    fn no_other_isolation_level_is_accepted() {
        assert!(check_isolation("read committed").is_ok());
        for other in ["read uncommitted", "repeatable read", "serializable", ""] {
            let refused = check_isolation(other).unwrap_err();
            assert!(matches!(refused, StoreError::Unsuitable(_)), "{other}: {refused}");
        }
    }

    #[tokio::test]
    async fn the_checked_tables_are_those_of_the_schema() {
        let folder = tempfile::tempdir().unwrap();
        let store = testing::in_folder(folder.path()).await;
        let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        let rows = store
            .reader()
            .query_all_raw(statement(store.reader(), sql))
            .await
            .unwrap();
        let tables: BTreeSet<String> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        let known = TABLES
            .iter()
            .chain([&MIGRATIONS_TABLE])
            .map(|name| (*name).to_owned());
        assert_eq!(known.collect::<BTreeSet<_>>(), tables);
    }
}
