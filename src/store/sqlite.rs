//! Backend: SQLite, one file with many readers and one writer.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{DatabaseConnection, SqliteTransactionMode, TransactionOptions, TransactionTrait as _};

use super::database_file::DatabaseFile;
use super::server::Server;
use super::url::{self, UrlError};
use super::{LIST_CONNECTIONS, Options, Pool, Store, StoreError, migrate_to_date};
use crate::secret_file;

/// Maximum memory of a connection for pages of the file: 8 MiB, in the notation of SQLite. With its default of 2 MB,
/// the inner pages of the indexes of a million sessions do not fit and are read repeatedly. The file is not
/// memory-mapped: a disk failure would end the process instead of a statement.
const CACHE_SIZE: &str = "-8192";

/// Parameters of a URL that sqlx knows.
const PARAMETERS: [&str; 4] = ["cache", "immutable", "mode", "vfs"];

/// Opens the file. Creates a missing file, which only this user can read.
pub(super) async fn open(url: &str, options: &Options) -> Result<Store, StoreError> {
    let file = parse_url(url, options)?;
    // Connections with the same options share a database in memory.
    if is_in_memory(url) {
        let writer = Pool::open(Server::of_file(file, None), 1, options).await?;
        // Its locks are those of tables, and do not wait.
        return Ok(Store::new(
            writer.clone(),
            writer.clone(),
            writer.clone(),
            writer,
            options,
        ));
    }
    make_private_file(&file);
    check_access(&file, options.allow_readable_secrets)?;
    // Without a file, the opening below fails and returns the reason.
    let opened = DatabaseFile::of(file.get_filename()).ok();
    // SQLite would create the file through a dangling link, readable by all, and would recreate a file that is deleted
    // later, empty.
    let file = file.create_if_missing(false);
    let server = |file| Server::of_file(file, opened.clone());
    // SQLite has one writer at a time. In a pool of one connection, the writers of this process queue; with SQLite's
    // own waiting, they would poll and starve each other.
    let writer = Pool::open(server(file.clone()), 1, options).await?;
    let read_only = server(file.pragma("query_only", "on"));
    let reader = Pool::open(read_only.clone(), options.connections, options).await?;
    let tail = reader.sibling(1, options, None);
    let lists = reader.sibling(LIST_CONNECTIONS, options, Some(options.statement_timeout));
    Ok(Store::new(reader, writer, tail, lists, options))
}

/// Applies the missing migrations, in one transaction that keeps other processes from doing the same.
pub(super) async fn migrate(schema: &DatabaseConnection) -> Result<(), StoreError> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let tx = schema.begin_with_options(options).await?;
    migrate_to_date(&tx).await?;
    Ok(tx.commit().await?)
}

/// Parses the URL, and adds what the service promises: an acknowledged write survives a power cut, and no row is an
/// orphan.
pub(super) fn parse_url(url: &str, options: &Options) -> Result<SqliteConnectOptions, StoreError> {
    url::check_names(url, &PARAMETERS)?;
    let file = SqliteConnectOptions::from_str(url)
        .map_err(|_| url::rejected_part(url, |url| SqliteConnectOptions::from_str(url).is_ok()))?;
    // Without a file, SQLite gives every connection a temporary database of its own.
    if file.get_filename().as_os_str().is_empty() {
        return Err(UrlError::Missing("file").into());
    }
    // SQLite would read such a name as a URI, with parameters of its own, and the checks of the file would check
    // another file.
    if file
        .get_filename()
        .as_os_str()
        .as_encoded_bytes()
        .starts_with(b"file:")
    {
        return Err(UrlError::FileUri.into());
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

/// Creates a missing file, which only this user can read; SQLite creates its other files with the same mode. An error
/// here occurs again, and is reported, when the database is opened.
fn make_private_file(file: &SqliteConnectOptions) {
    let _ = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file.get_filename());
}

/// Suffixes of the files that SQLite creates beside a database, with its mode.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Rejects a database that is a dangling link, or that other users can read or write. It contains password hashes and
/// phone numbers, and so do the files beside it, which may be left from a database with another mode. For a missing
/// file, or a name that is not a file, the opening fails.
///
/// # Errors
/// [`StoreError::Unsuitable`].
pub(super) fn check_access(file: &SqliteConnectOptions, allow_readable: bool) -> Result<(), StoreError> {
    let path = file.get_filename();
    let unsuitable = |path: &Path, why: &dyn std::fmt::Display| {
        Err(StoreError::Unsuitable(format!(
            "the file {} {why}",
            path.display()
        )))
    };
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let Ok(whole) = fs::canonicalize(path) else {
        return match is_link(path) {
            true => unsuitable(path, &"is a symbolic link that leads to no file"),
            false => Ok(()),
        };
    };
    let beside = BESIDE.map(|suffix| {
        let mut name = OsString::from(&whole);
        name.push(suffix);
        PathBuf::from(name)
    });
    for path in &beside {
        if is_link(path) {
            return unsuitable(path, &"is a symbolic link");
        }
    }
    for path in [&whole].into_iter().chain(&beside) {
        if !allow_readable
            && let Ok(metadata) = fs::metadata(path)
            && metadata.is_file()
            && let Err(error) = secret_file::check(&metadata)
        {
            return unsuitable(path, &error);
        }
    }
    Ok(())
}

pub(super) fn is_in_memory(url: &str) -> bool {
    url.contains(":memory:") || url.contains("mode=memory")
}
