//! Online backup of an SQLite database, while other processes read and write it.
//!
//! It uses `VACUUM INTO` and not the backup API of SQLite. `VACUUM INTO` reads in one transaction, so that the copy is
//! the database at one moment, and in WAL mode neither blocks a writer nor waits for one. The API starts again whenever
//! another process has written, or blocks all writers if it copies everything at once. The result of `VACUUM INTO` is
//! also compact, and contains no deleted data.

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

/// Copies the database into a new file. The file appears only when the copy is complete and synced to the disk. Its
/// epoch marks it as a copy (see [`changes::leave_epoch`]).
///
/// # Errors
/// The source is not an SQLite database, the file already exists, or one of them cannot be read or written.
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
    // Closed even if the copy failed: the last process that closes a database removes the files beside it.
    source
        .close()
        .await
        .map_err(|error| BackupError::Copy(error.into()))?;
    let (copy, folder) = copied?;
    keep(copy, file, &folder)
}

/// Creates the copy in the folder of its destination, so that a rename completes it. Only this user can read it, and it
/// is removed when it is dropped.
async fn copy_beside(
    source: &Pool,
    file: &Path,
    options: &Options,
) -> Result<(NamedTempFile, PathBuf), BackupError> {
    // An early check. The final check happens when the file gets its name.
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

/// Opens the database to be copied. Creates no file and does not change the schema.
async fn open_source(url: &str, options: &Options) -> Result<Pool, StoreError> {
    let source = parse_url(url, options)?.create_if_missing(false);
    check_access(&source, options.allow_readable_secrets)?;
    let source = Server::of_file(source, None);
    let source = Pool::open(source, 1, options).await?;
    // Checks that the file is a database of this service.
    if let Err(error) = changes::head(&source).await {
        source.close().await?;
        return Err(error);
    }
    Ok(source)
}

async fn copy_into(source: &Pool, file: &Path, options: &Options) -> Result<(), BackupError> {
    // SQLite accepts only names in UTF-8.
    let name = file.to_str().ok_or(BackupError::Name)?;
    let vacuum = Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO ?", [name.into()]);
    let failed = |error: DbErr| BackupError::Copy(error.into());
    source.execute_raw(vacuum).await.map_err(failed)?;
    // The journal is kept in memory, so that there is never another file beside the copy.
    let copy = SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Memory)
        // The log would warn about slow statements, such as the check of a large copy.
        .disable_statement_logging();
    let copy = Pool::open(Server::of_file(copy, None), 1, options)
        .await
        .map_err(BackupError::Copy)?;
    changes::leave_epoch(&copy).await.map_err(BackupError::Copy)?;
    check(&copy).await?;
    copy.close().await.map_err(failed)
}

/// Checks that the copy can be read, so that damage is not discovered only when the backup is needed.
async fn check(copy: &Pool) -> Result<(), BackupError> {
    let check = Statement::from_string(DbBackend::Sqlite, "PRAGMA integrity_check(1)");
    let row = copy.query_one_raw(check).await;
    let failed = |error: DbErr| BackupError::Copy(error.into());
    let result: Option<String> = row
        .and_then(|row| row.map(|row| row.try_get_by_index(0)).transpose())
        .map_err(failed)?;
    match result.as_deref() {
        Some("ok") => Ok(()),
        result => Err(BackupError::Damaged(result.unwrap_or_default().to_owned())),
    }
}

/// Renames the synced copy to its final name, unless another process has created that file in the meantime.
fn keep(copy: NamedTempFile, file: &Path, folder: &Path) -> Result<(), BackupError> {
    copy.as_file().sync_all().map_err(BackupError::File)?;
    copy.persist_noclobber(file)
        .map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists,
            _ => BackupError::File(error.error),
        })?;
    // The folder is synced to make the name durable.
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(BackupError::File)
}

/// Returns the folder of a file by its absolute path: SQLite would take a name that begins with `file:` for a URI.
fn folder_of(file: &Path) -> io::Result<PathBuf> {
    let file = absolute(file)?;
    file.parent()
        .map(Path::to_owned)
        .ok_or_else(|| io::ErrorKind::IsADirectory.into())
}

/// Reason for which there is no backup.
#[derive(Debug, Error)]
pub enum BackupError {
    /// Another database, which has a backup tool of its own.
    #[error("this is for SQLite; to back up {0}, use {1}")]
    Native(&'static str, &'static str),
    /// The database is in the memory of a process.
    #[error("a database in memory cannot be backed up")]
    InMemory,
    /// The database cannot be opened.
    #[error("the database of DATABASE_URL cannot be used")]
    Source(#[source] StoreError),
    /// The file already exists.
    #[error("the file is there already")]
    Exists,
    /// The name of the folder is not UTF-8.
    #[error("its name is not UTF-8")]
    Name,
    /// The file cannot be written.
    #[error("the file cannot be written")]
    File(#[source] io::Error),
    /// The process was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The database cannot be read, or the copy cannot be written.
    #[error("the database cannot be copied")]
    Copy(#[source] StoreError),
    /// The copy is damaged.
    #[error("the copy is damaged: {0}")]
    Damaged(String),
}
