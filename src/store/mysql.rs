//! Backend: MySQL 8 and MariaDB.

use std::str::FromStr as _;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::mysql::MySqlConnectOptions;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement, TransactionTrait as _};

use super::server::{Host, Server};
use super::url::{self, UrlError};
use super::{LIST_CONNECTIONS, Options, Pool, Store, StoreError, migrate_to_date};

/// Parameters that the URL may have, as sqlx reads them.
const PARAMETERS: [&str; 9] = [
    "socket", "ssl-ca", "ssl-cert", "ssl-key", "ssl-mode", "sslca", "sslcert", "sslkey", "sslmode",
];

/// Name of the lock that migrations hold. Such names are global to the server, not the database, and have at most 64
/// characters.
const MIGRATION_LOCK: &str = "CONCAT('phone-identity:', SHA1(DATABASE()))";

/// Timeout in seconds for another process that migrates.
const MIGRATION_LOCK_TIMEOUT: u32 = 3600;

/// Connects to the server that accepts writes.
pub(super) async fn open(options: &Options) -> Result<Store, StoreError> {
    let server = Server::new(DbBackend::MySql, options, parse_hosts, session(options))?;
    let shared = Pool::open(server, options.connections, options).await?;
    let tail = shared.sibling(1, options, None);
    let lists = shared.sibling(LIST_CONNECTIONS, options, None);
    Ok(Store::new(shared.clone(), shared, tail, lists, options))
}

/// Statements that each new connection executes.
fn session(options: &Options) -> Vec<String> {
    // In whole seconds, at least one.
    let lock = options.acquire_timeout.as_secs_f64().ceil().max(1.0);
    let statement = options.statement_timeout;
    // MariaDB reads the comment that begins with `M!`, and MySQL the other one. MySQL limits only reads.
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

/// Applies the missing migrations, under a lock that serialises the processes. A change of the schema commits at once
/// here. Every step of a migration is therefore repeatable, and the next start completes a migration that was killed.
pub(super) async fn migrate(schema: &DatabaseConnection) -> Result<(), StoreError> {
    // The transaction keeps all statements on one connection, which owns the lock.
    let connection = schema.begin().await?;
    if !get_lock(&connection).await? {
        let error = DbErr::Custom("another process has held the migration lock for an hour".to_owned());
        return Err(StoreError::Unavailable(error));
    }
    let outcome = migrate_to_date(&connection).await;
    // If this fails, the connection is lost and the lock is released with it.
    let _ = connection
        .execute_unprepared(&format!("DO RELEASE_LOCK({MIGRATION_LOCK})"))
        .await;
    outcome?;
    Ok(connection.commit().await?)
}

async fn get_lock(connection: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let sql = format!("SELECT GET_LOCK({MIGRATION_LOCK}, {MIGRATION_LOCK_TIMEOUT}) AS locked");
    let row = connection
        .query_one_raw(Statement::from_string(DbBackend::MySql, sql))
        .await?;
    let locked: Option<i64> = row.map(|row| row.try_get("", "locked")).transpose()?.flatten();
    Ok(locked == Some(1))
}

/// Parses a URL with one or several hosts.
fn parse_hosts(url: &str) -> Result<Vec<Host>, StoreError> {
    url::check_names(url, &PARAMETERS)?;
    url::each_host(url).iter().map(|url| parse_host(url)).collect()
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
        // `session` sets all modes of the session.
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .disable_statement_logging();
    Ok(Host::MySql(server))
}
