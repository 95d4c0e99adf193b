//! MySQL 8 and MariaDB.

use std::str::FromStr as _;

use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, SqlxMySqlConnector, Statement,
    TransactionTrait as _,
};

use super::error::cannot_connect;
use super::pool::{GivenUp, Pool, soon};
use super::{Options, Store, StoreError, has_only_parameters, migrate_to_date};

/// What may stand in the URL behind the question mark, as sqlx reads it.
const PARAMETERS: [&str; 9] = [
    "socket", "ssl-ca", "ssl-cert", "ssl-key", "ssl-mode", "sslca", "sslcert", "sslkey", "sslmode",
];

/// The name of the lock that migrations hold. Names are the server's and not the database's, and at most 64 characters.
const MIGRATION_LOCK: &str = "CONCAT('phone-identity:', SHA1(DATABASE()))";

/// How many seconds a process waits for another one that migrates.
const MIGRATION_PATIENCE: u32 = 3600;

/// Connects to the server.
pub(super) async fn open(url: &str, options: &Options) -> Result<Store, StoreError> {
    let server = parse_url(url)?;
    let pool = |given_up: &GivenUp| {
        let given_up = given_up.clone();
        MySqlPoolOptions::new()
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, state| Box::pin(GivenUp::before_acquire(connection, state.idle_for)))
            .after_release(move |connection, _| {
                let question = given_up.question();
                Box::pin(soon(async move { connection.execute(question).await.map(drop) }))
            })
    };
    let session = session(options);
    let bounded = |given_up: &GivenUp| {
        let session = session.clone();
        pool(given_up).after_connect(move |connection, _| {
            let session = session.clone();
            Box::pin(async move {
                for statement in session {
                    connection.execute(AssertSqlSafe(statement)).await?;
                }
                Ok(())
            })
        })
    };
    let given_up = GivenUp::default();
    let shared = bounded(&given_up)
        .max_connections(options.connections)
        .connect_with(server.clone())
        .await
        .map_err(cannot_connect)?;
    let shared = SqlxMySqlConnector::from_sqlx_mysql_pool(shared);
    let shared = Pool::new(shared, options.statement_timeout, given_up);
    let given_up = GivenUp::default();
    let tail = bounded(&given_up)
        .max_connections(1)
        .idle_timeout(None)
        .connect_lazy_with(server.clone());
    let tail = SqlxMySqlConnector::from_sqlx_mysql_pool(tail);
    let schema = MySqlPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(options.acquire_timeout)
        .connect_lazy_with(server);
    Ok(Store {
        reader: shared.clone(),
        writer: shared,
        tail: Pool::new(tail, options.statement_timeout, given_up),
        schema: SqlxMySqlConnector::from_sqlx_mysql_pool(schema),
    })
}

/// What every session is told.
fn session(options: &Options) -> [String; 2] {
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
    // For what is no transaction of ours: one statement alone.
    let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned();
    [variables, isolation]
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

fn parse_url(url: &str) -> Result<MySqlConnectOptions, StoreError> {
    if !has_only_parameters(url, &PARAMETERS) {
        return Err(StoreError::InvalidUrl);
    }
    let server = MySqlConnectOptions::from_str(url).map_err(|_| StoreError::InvalidUrl)?;
    if server.get_database().is_none() {
        return Err(StoreError::InvalidUrl);
    }
    Ok(server
        .charset("utf8mb4")
        .timezone(Some("+00:00".to_owned()))
        // The session is told all of its modes.
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .disable_statement_logging())
}
