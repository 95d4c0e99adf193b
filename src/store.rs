//! The database: entities, and free functions that do one query each and work the same on a pool or in a transaction.
//!
//! Policy, time and transactions are the service's; nothing of SeaORM leaves this module but the handles.

pub mod changes;
mod entity;
mod error;
pub mod locks;
pub mod sessions;
pub mod users;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use migration::{Migrator, MigratorTrait as _};
use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::{
    DatabaseConnection, DbErr, RuntimeErr, SqliteTransactionMode, SqlxSqliteConnector, TransactionOptions,
    TransactionTrait as _,
};
use secrecy::{ExposeSecret as _, SecretString};

pub use error::StoreError;
pub use sea_orm::DatabaseTransaction as Transaction;

/// How long a query waits for a connection, and SQLite for the write lock of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Handles to the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    reader: DatabaseConnection,
    /// SQLite has one writer at a time. A pool of one connection lets writers of this process wait in line, where
    /// SQLite's own waiting would let them poll and starve each other.
    writer: DatabaseConnection,
    /// The change log is read on a connection of its own, which is free when it is needed.
    tail: DatabaseConnection,
}

impl Store {
    /// Opens the database; an SQLite file is made if it is missing, for the eyes of this user only. `connections` is the
    /// most that read at a time.
    ///
    /// # Errors
    /// [`StoreError::InvalidUrl`], or when the database cannot be opened.
    pub async fn open(url: &SecretString, connections: u32) -> Result<Self, StoreError> {
        let options = parse_url(url)?;
        // Every connection to `sqlite::memory:` has a database of its own, so there can be only one.
        if is_in_memory(url) {
            let only = connect(options, 1).await?;
            return Ok(Self {
                reader: only.clone(),
                writer: only.clone(),
                tail: only,
            });
        }
        make_private_file(&options);
        let writer = connect(options.clone(), 1).await?;
        let read_only = options.pragma("query_only", "on");
        let reader = connect(read_only.clone(), connections).await?;
        let tail = connect(read_only, 1).await?;
        Ok(Self { reader, writer, tail })
    }

    /// Brings the schema up to date, in one transaction that keeps other processes from doing the same.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        Migrator::up(&tx, None).await?;
        tx.commit().await?;
        Ok(())
    }

    /// For single queries that change nothing.
    #[must_use]
    pub fn reader(&self) -> &DatabaseConnection {
        &self.reader
    }

    /// For single queries that change something.
    #[must_use]
    pub fn writer(&self) -> &DatabaseConnection {
        &self.writer
    }

    /// For reading the change log, and nothing else.
    #[must_use]
    pub fn tail(&self) -> &DatabaseConnection {
        &self.tail
    }

    /// Begins a transaction that writes. It is rolled back unless it is committed.
    ///
    /// # Errors
    /// When the database cannot be reached, or others write for too long.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        let options = TransactionOptions {
            // A transaction that reads first and writes later would fail if another wrote between.
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        Ok(self.writer.begin_with_options(options).await?)
    }

    /// Asks whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.reader.ping().await?)
    }

    /// Waits for what is under way and closes all connections.
    ///
    /// # Errors
    /// When a connection cannot be closed.
    pub async fn close(self) -> Result<(), StoreError> {
        self.tail.close().await?;
        self.reader.close().await?;
        Ok(self.writer.close().await?)
    }
}

/// Opens a pool of at most so many connections.
async fn connect(options: SqliteConnectOptions, connections: u32) -> Result<DatabaseConnection, StoreError> {
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        // There is no network between us and a file.
        .test_before_acquire(false)
        // A database in memory lives as long as its connection.
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await
        .map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error))))?;
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

/// What the URL says, with what we promise: an acknowledged write survives a power cut, and no row is an orphan.
fn parse_url(url: &SecretString) -> Result<SqliteConnectOptions, StoreError> {
    let url = url.expose_secret();
    let options = SqliteConnectOptions::from_str(url).map_err(|_| StoreError::InvalidUrl)?;
    // Without a file, SQLite gives every connection a temporary database of its own.
    if !url.starts_with("sqlite:") || options.get_filename().as_os_str().is_empty() {
        return Err(StoreError::InvalidUrl);
    }
    Ok(options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging())
}

/// Makes the file if it is missing, readable by this user only; SQLite gives its other files the same mode. What goes
/// wrong here goes wrong again, and is told, when the database is opened.
fn make_private_file(options: &SqliteConnectOptions) {
    let _ = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(options.get_filename());
}

fn is_in_memory(url: &SecretString) -> bool {
    let url = url.expose_secret();
    url.contains(":memory:") || url.contains("mode=memory")
}
