//! PostgreSQL.

use std::str::FromStr as _;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, IsolationLevel, SqlxPostgresConnector, TransactionTrait as _,
};

use super::error::cannot_connect;
use super::pool::{GivenUp, Pool, soon};
use super::{Options, Store, StoreError, has_only_parameters, migrate_to_date};

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
    let pool = |given_up: &GivenUp| {
        let given_up = given_up.clone();
        PgPoolOptions::new()
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, state| Box::pin(GivenUp::before_acquire(connection, state.idle_for)))
            .after_release(move |connection, _| {
                let question = given_up.question();
                Box::pin(soon(async move { connection.execute(question).await.map(drop) }))
            })
    };
    // By statements and not as start-up parameters: those are refused by pgbouncer.
    let bounds = format!(
        "SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
         SET idle_in_transaction_session_timeout = {statement}",
        statement = options.statement_timeout.as_millis(),
        lock = options.acquire_timeout.as_millis(),
    );
    let bounded = |given_up: &GivenUp| {
        let bounds = bounds.clone();
        pool(given_up).after_connect(move |connection, _| {
            let bounds = AssertSqlSafe(bounds.clone());
            Box::pin(async move { connection.execute(bounds).await.map(drop) })
        })
    };
    let given_up = GivenUp::default();
    let shared = bounded(&given_up)
        .max_connections(options.connections)
        .connect_with(server.clone())
        .await
        .map_err(cannot_connect)?;
    let shared = SqlxPostgresConnector::from_sqlx_postgres_pool(shared);
    let shared = Pool::new(shared, options.statement_timeout, given_up);
    let given_up = GivenUp::default();
    let tail = bounded(&given_up)
        .max_connections(1)
        .idle_timeout(None)
        .connect_lazy_with(server.clone());
    let tail = SqlxPostgresConnector::from_sqlx_postgres_pool(tail);
    let schema = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(options.acquire_timeout)
        .connect_lazy_with(server);
    Ok(Store {
        reader: shared.clone(),
        writer: shared,
        tail: Pool::new(tail, options.statement_timeout, given_up),
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
