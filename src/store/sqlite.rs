//! SQLite: one file, many readers, one writer.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{DatabaseConnection, SqliteTransactionMode, TransactionOptions, TransactionTrait as _};

use super::server::Server;
use super::url::{self, UrlError};
use super::{LIST_CONNECTIONS, Options, Pool, Store, StoreError, migrate_to_date};
use crate::secret_file;

/// What a connection keeps of the file in memory, at most: 8 MiB, as SQLite wants it written. By its default of 2 MB
/// the inner pages of the indexes of a million sessions do not fit, and are read again and again. Nothing is mapped: a
/// disk that fails would end the process, and not a statement.
const CACHE_SIZE: &str = "-8192";

/// The parameters of a URL that sqlx knows.
const PARAMETERS: [&str; 4] = ["cache", "immutable", "mode", "vfs"];

/// The file of the database, by its device and inode. A file that is deleted or replaced under the service would go on
/// to accept writes that are lost.
#[derive(Clone, Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DatabaseFile {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Fails if another file, or none, has its name. One system call, of a local file.
    pub(super) fn check(&self) -> io::Result<()> {
        let is_same =
            fs::metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == (self.device, self.inode));
        if is_same {
            return Ok(());
        }
        let why = format!("the file {} was deleted or replaced", self.path.display());
        Err(io::Error::new(io::ErrorKind::NotFound, why))
    }
}

/// Opens the file, which is created if it is missing, readable by this user only.
pub(super) async fn open(url: &str, options: &Options) -> Result<Store, StoreError> {
    let file = parse_url(url, options)?;
    // A database in memory is shared by connections that were opened by the same options.
    if is_in_memory(url) {
        let writer = Pool::open(Server::of_file(file, None), 1, options).await?;
        // Its locks are those of tables, and there is no waiting for them.
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
    // If there is no file, opening it fails, and says why.
    let opened = DatabaseFile::of(file.get_filename()).ok();
    // SQLite would create it through a dangling link, readable by all; and one that is gone later again, empty.
    let file = file.create_if_missing(false);
    let server = |file| Server::of_file(file, opened.clone());
    // SQLite has one writer at a time. In a pool of one connection the writers of this process queue, where SQLite's
    // own waiting would let them poll and starve each other.
    let writer = Pool::open(server(file.clone()), 1, options).await?;
    let read_only = server(file.pragma("query_only", "on"));
    let reader = Pool::open(read_only.clone(), options.connections, options).await?;
    let tail = reader.sibling(1, options, None);
    let lists = reader.sibling(LIST_CONNECTIONS, options, Some(options.statement_timeout));
    Ok(Store::new(reader, writer, tail, lists, options))
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
    url::check_names(url, &PARAMETERS)?;
    let file = SqliteConnectOptions::from_str(url)
        .map_err(|_| url::rejected_part(url, |url| SqliteConnectOptions::from_str(url).is_ok()))?;
    // Without a file, SQLite gives every connection a temporary database of its own.
    if file.get_filename().as_os_str().is_empty() {
        return Err(UrlError::Missing("file").into());
    }
    // SQLite would read such a name as a URI, with parameters of its own, and the checks of the file would look at
    // another one.
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

/// Makes the file if it is missing, readable by this user only; SQLite gives its other files the same mode. What goes
/// wrong here goes wrong again, and is told, when the database is opened.
fn make_private_file(file: &SqliteConnectOptions) {
    let _ = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file.get_filename());
}

/// Suffixes of the files that SQLite has beside a database, and creates with its mode.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Refuses a database that is a link to nothing, and one that other users can read or write. It has password hashes and
/// phone numbers in it, and so have the files beside it, which may be left of a database that had another mode. A file
/// that is not there, or is no file, is what opening it fails with.
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
