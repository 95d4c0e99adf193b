//! A copy of an SQLite database, made while others read and write it.
//!
//! `VACUUM INTO` and not the backup API of SQLite: it reads in one transaction, so that what it writes is the database
//! at one moment, and in WAL mode neither waits for a writer nor is waited for. The API begins anew whenever another
//! process has written, or holds up everybody if it is told to take all at once. What `VACUUM INTO` writes is compact,
//! too, and nothing of what was deleted is left in it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf, absolute};

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement};
use secrecy::ExposeSecret as _;
use tempfile::{Builder, NamedTempFile};
use thiserror::Error;

use super::server::Server;
use super::sqlite::{check_access, is_in_memory, parse_url};
use super::url::UrlError;
use super::{Options, Pool, StoreError, changes};

/// Copies the database into a new file, which is there when it is whole and safe on disk, and not before. It gets an
/// epoch that says that it is a copy (see [`changes::leave_epoch`]).
///
/// # Errors
/// When this is no SQLite database, the file is there already, or one of them cannot be read or written.
pub async fn backup(options: &Options, file: &Path) -> Result<(), BackupError> {
    let url = options.url.expose_secret();
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => return Err(BackupError::Native("PostgreSQL", "pg_dump")),
        Some("mysql" | "mariadb") => return Err(BackupError::Native("MySQL", "mariadb-dump or mysqldump")),
        Some("sqlite") if is_in_memory(url) => return Err(BackupError::InMemory),
        Some("sqlite") => {}
        _ => return Err(BackupError::Source(UrlError::Scheme.into())),
    }
    let source = open_source(url, options).await.map_err(BackupError::Source)?;
    let copied = copy_beside(&source, file, options).await;
    // Also when there is no copy: the last one who closes a database removes what SQLite has beside it.
    source
        .close()
        .await
        .map_err(|error| BackupError::Copy(error.into()))?;
    let (copy, folder) = copied?;
    keep(copy, file, &folder)
}

/// Makes the copy beside where it is going to be, so that it only has to be renamed; for the eyes of this user; and
/// removed when it is dropped.
async fn copy_beside(
    source: &Pool,
    file: &Path,
    options: &Options,
) -> Result<(NamedTempFile, PathBuf), BackupError> {
    // Asked before the work; whether it is so in the end is decided when the file gets its name.
    if file.symlink_metadata().is_ok() {
        return Err(BackupError::Exists);
    }
    let folder = folder_of(file).map_err(BackupError::File)?;
    let copy = Builder::new()
        .prefix(".phone-identity-backup-")
        .tempfile_in(&folder)
        .map_err(BackupError::File)?;
    copy_into(source, copy.path(), options).await?;
    Ok((copy, folder))
}

/// Opens the database to be copied, and makes none. Its schema stays as it is.
async fn open_source(url: &str, options: &Options) -> Result<Pool, StoreError> {
    let source = parse_url(url, options)?.create_if_missing(false);
    check_access(&source, options.allow_readable_secrets)?;
    let source = Server::of_file(source, None);
    let source = Pool::open(source, 1, options).await?;
    // Whether it is a database, and one of ours.
    if let Err(error) = changes::head(&source).await {
        source.close().await?;
        return Err(error);
    }
    Ok(source)
}

async fn copy_into(source: &Pool, file: &Path, options: &Options) -> Result<(), BackupError> {
    // SQLite takes names in UTF-8.
    let name = file.to_str().ok_or(BackupError::Name)?;
    let vacuum = Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO ?", [name.into()]);
    let failed = |error: DbErr| BackupError::Copy(error.into());
    source.execute_raw(vacuum).await.map_err(failed)?;
    // In memory, so that there is never another file beside it.
    let copy = SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Memory)
        // It would tell of statements that take long, as the check of a large copy does.
        .disable_statement_logging();
    let copy = Pool::open(Server::of_file(copy, None), 1, options)
        .await
        .map_err(BackupError::Copy)?;
    changes::leave_epoch(&copy).await.map_err(BackupError::Copy)?;
    check(&copy).await?;
    copy.close().await.map_err(failed)
}

/// Whether what was written can be read: nobody wants to know that first when it is needed.
async fn check(copy: &Pool) -> Result<(), BackupError> {
    let check = Statement::from_string(DbBackend::Sqlite, "PRAGMA integrity_check(1)");
    let row = copy.query_one_raw(check).await;
    let failed = |error: DbErr| BackupError::Copy(error.into());
    let said: Option<String> = row
        .and_then(|row| row.map(|row| row.try_get_by_index(0)).transpose())
        .map_err(failed)?;
    match said.as_deref() {
        Some("ok") => Ok(()),
        said => Err(BackupError::Damaged(said.unwrap_or_default().to_owned())),
    }
}

/// Gives the copy its name, which nobody else may have taken meanwhile, once all of it is safe on disk.
fn keep(copy: NamedTempFile, file: &Path, folder: &Path) -> Result<(), BackupError> {
    copy.as_file().sync_all().map_err(BackupError::File)?;
    copy.persist_noclobber(file)
        .map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists,
            _ => BackupError::File(error.error),
        })?;
    // The name, too.
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(BackupError::File)
}

/// The folder of a file, by its whole name: one that begins with `file:` would be a URI to SQLite.
fn folder_of(file: &Path) -> io::Result<PathBuf> {
    let file = absolute(file)?;
    file.parent()
        .map(Path::to_owned)
        .ok_or_else(|| io::ErrorKind::IsADirectory.into())
}

/// Why there is no backup.
#[derive(Debug, Error)]
pub enum BackupError {
    /// Another database, which has its own tool.
    #[error("this is for SQLite; to back up {0}, use {1}")]
    Native(&'static str, &'static str),
    /// The database is in the memory of a process.
    #[error("a database in memory cannot be backed up")]
    InMemory,
    /// The database cannot be opened.
    #[error("the database of DATABASE_URL cannot be used")]
    Source(#[source] StoreError),
    /// There is a file of this name.
    #[error("the file is there already")]
    Exists,
    /// The name of the folder is not UTF-8.
    #[error("its name is not UTF-8")]
    Name,
    /// The file cannot be written.
    #[error("the file cannot be written")]
    File(#[source] io::Error),
    /// The process was told to end.
    #[error("interrupted")]
    Interrupted,
    /// The database cannot be read, or the copy not be written.
    #[error("the database cannot be copied")]
    Copy(#[source] StoreError),
    /// The copy is not whole.
    #[error("the copy is damaged: {0}")]
    Damaged(String),
}
