//! PostgreSQL.

use std::str::FromStr as _;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, IsolationLevel, SqlxPostgresConnector, TransactionTrait as _,
};

use super::connection::Server;
use super::{Options, Pool, Store, StoreError, has_only_parameters, migrate_to_date};

/// What may stand in the URL behind the question mark, as sqlx reads it.
const PARAMETERS: [&str; 16] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

/// The number of the advisory lock that migrations hold: the beginning of the SHA-256 of `phone-identity`.
const MIGRATION_LOCK: i64 = 0x4de4_3500_a5af_5462;

/// Connects to the server.
pub(super) async fn open(url: &str, options: &Options) -> Result<Store, StoreError> {
    let server = parse_url(url)?;
    // By statements and not as start-up parameters: those are refused by pgbouncer. No warnings: a connection whose caller went
    // away in the middle of a statement is rolled back, whether or not there is a transaction, and each time there is none,
    // the log of this program would have a line about it.
    let session = format!(
        "SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
         SET idle_in_transaction_session_timeout = {statement}; SET client_min_messages = error",
        statement = options.statement_timeout.as_millis(),
        lock = options.acquire_timeout.as_millis(),
    );
    let schema = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(options.acquire_timeout)
        .connect_lazy_with(server.clone());
    let server = Server::Postgres(server, vec![session]);
    let shared = Pool::open(server.clone(), options.connections, options).await?;
    Ok(Store {
        reader: shared.clone(),
        writer: shared,
        tail: Pool::new(server, 1, options),
        schema: SqlxPostgresConnector::from_sqlx_postgres_pool(schema),
    })
}

/// Brings the schema up to date, in one transaction under a lock that lets processes do so one after another.
pub(super) async fn migrate(schema: &DatabaseConnection) -> Result<(), StoreError> {
    // Each statement has to see what the one before us in the line has done.
    let tx = schema
        .begin_with_config(Some(IsolationLevel::ReadCommitted), None)
        .await?;
    tx.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        .await?;
    migrate_to_date(&tx).await?;
    Ok(tx.commit().await?)
}

fn parse_url(url: &str) -> Result<PgConnectOptions, StoreError> {
    if !has_only_parameters(url, &PARAMETERS) {
        return Err(StoreError::InvalidUrl);
    }
    let server = PgConnectOptions::from_str(url).map_err(|_| StoreError::InvalidUrl)?;
    let server = if server.get_application_name().is_none() {
        server.application_name("phone-identity")
    } else {
        server
    };
    Ok(server
        // We have no floats, and pgbouncer refuses this parameter.
        .extra_float_digits(None)
        .disable_statement_logging())
}
