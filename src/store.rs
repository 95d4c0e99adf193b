//! The database: entities, and free functions that do one query each and work the same on a pool or in a transaction.
//!
//! Policy, time and transactions are the service's; nothing of SeaORM leaves this module but the handles.

mod entity;
mod error;
pub mod locks;
pub mod sessions;
pub mod users;

use std::time::Duration;

use migration::{Migrator, MigratorTrait as _};
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, SqliteTransactionMode, TransactionOptions,
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
}

impl Store {
    /// Opens the database; an SQLite file is made if it is missing. `connections` is the most that read at a time.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub async fn open(url: &SecretString, connections: u32) -> Result<Self, StoreError> {
        let writer = Database::connect(sqlite_options(url, 1, false)).await?;
        // Every connection to `sqlite::memory:` has a database of its own, so there can be only one.
        let reader = if is_in_memory(url) {
            writer.clone()
        } else {
            Database::connect(sqlite_options(url, connections, true)).await?
        };
        Ok(Self { reader, writer })
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
        self.reader.close().await?;
        Ok(self.writer.close().await?)
    }
}

fn sqlite_options(url: &SecretString, connections: u32, read_only: bool) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.expose_secret());
    options
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        // There is no network between us and a file.
        .test_before_acquire(false)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(move |sqlite| {
            let sqlite = sqlite
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                // An acknowledged write survives a power cut.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(BUSY_TIMEOUT);
            if read_only {
                sqlite.pragma("query_only", "on")
            } else {
                sqlite
            }
        });
    if is_in_memory(url) {
        options
            .idle_timeout(None::<Duration>)
            .max_lifetime(None::<Duration>);
    }
    options
}

fn is_in_memory(url: &SecretString) -> bool {
    let url = url.expose_secret();
    url.contains(":memory:") || url.contains("mode=memory")
}
