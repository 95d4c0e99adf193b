//! SQLite: one file, many readers, one writer.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::str::FromStr as _;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::{
    DatabaseConnection, SqliteTransactionMode, SqlxSqliteConnector, TransactionOptions, TransactionTrait as _,
};

use super::connection::Server;
use super::{Options, Pool, Store, StoreError, migrate_to_date};

/// What a connection keeps of the file in memory, at most: 8 MiB, as SQLite wants it written. By its default of 2 MB the inner pages
/// of the indexes of a million sessions do not fit, and are read again and again. Nothing is mapped: a disk that fails would end
/// the process, and not a statement.
const CACHE_SIZE: &str = "-8192";

/// Opens the file, which is made if it is missing, for the eyes of this user only.
pub(super) async fn open(url: &str, options: &Options) -> Result<Store, StoreError> {
    let file = parse_url(url, options)?;
    // One that is in memory is shared by connections that were opened by the same options.
    let is_in_memory = is_in_memory(url);
    if !is_in_memory {
        make_private_file(&file);
    }
    let schema = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(options.acquire_timeout)
        .connect_lazy_with(file.clone());
    // SQLite has one writer at a time. A pool of one connection lets writers of this process wait in line, where
    // SQLite's own waiting would let them poll and starve each other.
    let writer = Pool::open(Server::Sqlite(file.clone()), 1, options).await?;
    let (reader, tail) = if is_in_memory {
        // What is shared so is locked by tables, and nobody waits for the locks.
        (writer.clone(), writer.clone())
    } else {
        let read_only = Server::Sqlite(file.pragma("query_only", "on"));
        let reader = Pool::open(read_only.clone(), options.connections, options).await?;
        (reader, Pool::new(read_only, 1, options))
    };
    Ok(Store {
        reader,
        writer,
        tail,
        schema: SqlxSqliteConnector::from_sqlx_sqlite_pool(schema),
    })
}

/// Brings the schema up to date, in one transaction that keeps other processes from doing the same.
pub(super) async fn migrate(schema: &DatabaseConnection) -> Result<(), StoreError> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let tx = schema.begin_with_options(options).await?;
    migrate_to_date(&tx).await?;
    Ok(tx.commit().await?)
}

/// What the URL says, with what we promise: an acknowledged write survives a power cut, and no row is an orphan.
pub(super) fn parse_url(url: &str, options: &Options) -> Result<SqliteConnectOptions, StoreError> {
    let file = SqliteConnectOptions::from_str(url).map_err(|_| StoreError::InvalidUrl)?;
    // Without a file, SQLite gives every connection a temporary database of its own.
    if file.get_filename().as_os_str().is_empty() {
        return Err(StoreError::InvalidUrl);
    }
    Ok(file
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("cache_size", CACHE_SIZE)
        .busy_timeout(options.acquire_timeout)
        .disable_statement_logging())
}

/// Makes the file if it is missing, readable by this user only; SQLite gives its other files the same mode. What goes
/// wrong here goes wrong again, and is told, when the database is opened.
fn make_private_file(file: &SqliteConnectOptions) {
    let _ = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file.get_filename());
}

pub(super) fn is_in_memory(url: &str) -> bool {
    url.contains(":memory:") || url.contains("mode=memory")
}
