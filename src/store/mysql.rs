//! MySQL 8 and MariaDB.

use std::str::FromStr as _;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::mysql::MySqlConnectOptions;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement, TransactionTrait as _};

use super::server::{Host, Server, each_host};
use super::url::{self, UrlError};
use super::{LIST_CONNECTIONS, Options, Pool, Store, StoreError, migrate_to_date};

/// What may stand in the URL behind the question mark, as sqlx reads it.
const PARAMETERS: [&str; 9] = [
    "socket", "ssl-ca", "ssl-cert", "ssl-key", "ssl-mode", "sslca", "sslcert", "sslkey", "sslmode",
];

/// The name of the lock that migrations hold. Names are the server's and not the database's, and at most 64 characters.
const MIGRATION_LOCK: &str = "CONCAT('phone-identity:', SHA1(DATABASE()))";

/// How many seconds a process waits for another one that migrates.
const MIGRATION_PATIENCE: u32 = 3600;

/// Connects to the server that accepts writes.
pub(super) async fn open(options: &Options) -> Result<Store, StoreError> {
    let server = Server::new(DbBackend::MySql, options, parse_hosts, session(options))?;
    let shared = Pool::open(server, options.connections, options).await?;
    let tail = shared.sibling(1, options, None);
    let lists = shared.sibling(LIST_CONNECTIONS, options, None);
    Ok(Store::new(shared.clone(), shared, tail, lists, options))
}

/// What is executed on each new connection.
fn session(options: &Options) -> Vec<String> {
    // In whole seconds, and at least one.
    let lock = options.acquire_timeout.as_secs_f64().ceil().max(1.0);
    let statement = options.statement_timeout;
    // MariaDB reads the comment that begins with `M!`, and MySQL the other one. What MySQL bounds is reading only.
    let variables = format!(
        "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,\
         NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout = {lock} \
         /*!80000 , max_execution_time = {milliseconds} */ \
         /*M! , max_statement_time = {seconds}, idle_transaction_timeout = {whole_seconds} */",
        milliseconds = statement.as_millis(),
        seconds = statement.as_secs_f64(),
        whole_seconds = statement.as_secs_f64().ceil().max(1.0),
    );
    let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned();
    vec![variables, isolation]
}

/// Brings the schema up to date, under a lock that lets processes do so one after another. What changes the schema
/// commits at once here; so every step of a migration can be done twice, and the next start finishes what a killed one
/// began.
pub(super) async fn migrate(schema: &DatabaseConnection) -> Result<(), StoreError> {
    // A transaction only to stay on one connection, whose lock it is.
    let connection = schema.begin().await?;
    if !get_lock(&connection).await? {
        let error = DbErr::Custom("another process has migrated the database for an hour".to_owned());
        return Err(StoreError::Unavailable(error));
    }
    let outcome = migrate_to_date(&connection).await;
    // If that fails the connection is gone, and the lock with it.
    let _ = connection
        .execute_unprepared(&format!("DO RELEASE_LOCK({MIGRATION_LOCK})"))
        .await;
    outcome?;
    Ok(connection.commit().await?)
}

async fn get_lock(connection: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let sql = format!("SELECT GET_LOCK({MIGRATION_LOCK}, {MIGRATION_PATIENCE}) AS locked");
    let row = connection
        .query_one_raw(Statement::from_string(DbBackend::MySql, sql))
        .await?;
    let locked: Option<i64> = row.map(|row| row.try_get("", "locked")).transpose()?.flatten();
    Ok(locked == Some(1))
}

/// Reads a URL with one host or several.
fn parse_hosts(url: &str) -> Result<Vec<Host>, StoreError> {
    url::check_names(url, &PARAMETERS)?;
    each_host(url).iter().map(|url| parse_host(url)).collect()
}

fn parse_host(url: &str) -> Result<Host, StoreError> {
    let server = MySqlConnectOptions::from_str(url)
        .map_err(|_| url::rejected_part(url, |url| MySqlConnectOptions::from_str(url).is_ok()))?;
    if server.get_database().is_none() {
        return Err(UrlError::Missing("database").into());
    }
    let server = server
        .charset("utf8mb4")
        .timezone(Some("+00:00".to_owned()))
        // All modes of the session are set by `session`.
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .disable_statement_logging();
    Ok(Host::MySql(server))
}
