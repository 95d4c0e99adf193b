//! The database: entities, and free functions with one query each that work the same on a pool or in a transaction.
//!
//! Policy, time and transactions belong to the services. This module exports nothing of SeaORM except the handles.

pub mod attempts;
pub mod audit;
mod backup;
pub mod challenges;
pub mod changes;
mod connection;
mod database_file;
pub mod devices;
mod entity;
mod error;
pub(crate) mod group_commit;
pub mod heartbeat;
mod identity;
pub mod locks;
mod metrics;
mod mysql;
pub mod outbox;
mod pool;
mod postgres;
mod preflight;
mod server;
pub mod service_keys;
pub mod sessions;
pub mod sms_counters;
mod sqlite;
#[cfg(test)]
pub(crate) mod testing;
mod times;
mod url;
pub mod users;

use std::path::PathBuf;
use std::time::Duration;

use migration::{Migrator, MigratorTrait as _};
use sea_orm::sqlx::mysql::MySqlPoolOptions;
use sea_orm::sqlx::postgres::PgPoolOptions;
use sea_orm::sqlx::sqlite::SqlitePoolOptions;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    EntityTrait, QueryFilter as _, QuerySelect as _, Select, SqlxMySqlConnector, SqlxPostgresConnector,
    SqlxSqliteConnector,
};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use group_commit::GroupCommit;
use server::Host;

pub use backup::{BackupError, backup};
pub use error::StoreError;
pub use identity::Incarnation;
pub use metrics::PoolSnapshot;
pub use pool::{Affected, DeferWrites, Pool, Transaction, Unsynced};
pub use url::UrlError;

/// Location of the database, and its timeouts.
#[derive(Clone, Debug)]
pub struct Options {
    /// `sqlite:`, `postgres:`, `postgresql:`, `mysql:` or `mariadb:`.
    pub url: SecretString,
    /// File that the URL was read from. It is read again when no connection can be opened.
    pub url_file: Option<PathBuf>,
    /// Whether to accept secret files that all users of the machine can read or write: the file of the URL, the client
    /// keys that it names, and the SQLite database.
    pub allow_readable_secrets: bool,
    /// Maximum number of connections. For SQLite, the maximum number of readers, beside the one writer. The change log
    /// has a connection of its own.
    pub connections: u32,
    /// Timeout for a connection, and for the lock of another transaction.
    pub acquire_timeout: Duration,
    /// Time limit of the server for a statement, and for an idle transaction; a little later this process abandons it.
    /// For SQLite, the time limit of a list statement.
    pub statement_timeout: Duration,
    /// Version level of this program: see [`changes::VERSION_LEVEL`].
    pub version_level: i32,
}

/// Handles to the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    reader: Pool,
    /// The same pool as `reader`, except for SQLite.
    writer: Pool,
    /// The change log and the service keys have a connection of their own, so that it is free when they need it.
    tail: Pool,
    /// Lists have connections of their own.
    lists: Pool,
    version_level: i32,
}

/// Maximum number of connections for lists.
const LIST_CONNECTIONS: u32 = 2;

impl Store {
    fn new(reader: Pool, writer: Pool, tail: Pool, lists: Pool, options: &Options) -> Self {
        Self {
            reader,
            writer,
            tail,
            lists,
            version_level: options.version_level,
        }
    }

    /// Version level of this program.
    #[must_use]
    pub fn version_level(&self) -> i32 {
        self.version_level
    }

    /// Groups commits of at most `max` items. Where transactions follow one another, as on SQLite, a commit takes as
    /// long for a group as for one item. On a server each item is committed alone.
    pub(crate) fn group_commit<T, R>(&self, max: usize) -> GroupCommit<T, R> {
        let is_grouping = self.writer.get_database_backend() == DbBackend::Sqlite;
        GroupCommit::new(max, self.acquire_timeout(), is_grouping)
    }

    /// Maximum time to wait for a connection, and for a lock of another transaction.
    fn acquire_timeout(&self) -> Duration {
        self.writer.acquire_timeout()
    }

    /// Opens the database. Creates a missing SQLite file.
    ///
    /// # Errors
    /// [`StoreError::InvalidUrl`], or the database cannot be opened.
    pub async fn open(options: &Options) -> Result<Self, StoreError> {
        let url = options.url.expose_secret();
        let (scheme, _) = url.split_once(':').ok_or(UrlError::Form)?;
        match scheme {
            "sqlite" => sqlite::open(url, options).await,
            "postgres" | "postgresql" => postgres::open(options).await,
            "mysql" | "mariadb" => mysql::open(options).await,
            _ => Err(UrlError::Scheme.into()),
        }
    }

    /// Applies the missing migrations, once per `Store`. Concurrent processes apply them one after another.
    ///
    /// # Errors
    /// [`StoreError::Unsuitable`], without any change. Other errors: the database cannot be written.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        preflight::check(self.writer()).await?;
        let schema = self.schema_connection()?;
        // The check needs no lock and no right to change the schema.
        if !migration::is_up_to_date(&schema).await? {
            match schema.get_database_backend() {
                DbBackend::Postgres => postgres::migrate(&schema).await?,
                DbBackend::MySql => mysql::migrate(&schema).await?,
                _ => sqlite::migrate(&schema).await?,
            }
        }
        schema.close().await?;
        if self.writer.get_database_backend() == DbBackend::Sqlite {
            // A copy that was created by `backup` gets an epoch of its own.
            changes::replace_left_epoch(self.writer()).await?;
        }
        preflight::check_schema(self).await
    }

    /// Opens a connection for migrations, which may take longer than any other statement, to the host that was reached
    /// last.
    fn schema_connection(&self) -> Result<DatabaseConnection, StoreError> {
        let timeout = self.acquire_timeout();
        let host = self.writer.server().reached().ok_or(UrlError::Form)?;
        Ok(match host {
            Host::Sqlite(options) => {
                let pool = SqlitePoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(timeout);
                SqlxSqliteConnector::from_sqlx_sqlite_pool(pool.connect_lazy_with(options))
            }
            Host::Postgres(options) => {
                let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(timeout);
                SqlxPostgresConnector::from_sqlx_postgres_pool(pool.connect_lazy_with(options))
            }
            Host::MySql(options) => {
                let pool = MySqlPoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(timeout);
                SqlxMySqlConnector::from_sqlx_mysql_pool(pool.connect_lazy_with(options))
            }
        })
    }

    /// The pool for single queries that change nothing.
    #[must_use]
    pub fn reader(&self) -> &Pool {
        &self.reader
    }

    /// The pool for single queries that change something.
    #[must_use]
    pub fn writer(&self) -> &Pool {
        &self.writer
    }

    /// For single writes to counters: attempts, messages, and the heartbeat. A power cut may undo the last of them: it
    /// regains an attacker few attempts, and syncing each of them would slow all other writes down.
    #[must_use]
    pub fn counter_writer(&self) -> Unsynced<'_> {
        self.writer.unsynced()
    }

    /// The pool for the periodic readings of the change log and the service keys, and nothing else.
    #[must_use]
    pub fn tail(&self) -> &Pool {
        &self.tail
    }

    /// The pool for pages of lists, and for counts. A filter can skip any number of rows, so these statements have few
    /// connections of their own and a time limit: they never occupy a connection that a session check needs.
    #[must_use]
    pub fn lists(&self) -> &Pool {
        &self.lists
    }

    /// Opens a new connection for [`Self::tail`], to the server to which new connections lead now. Returns whether that
    /// server commits synchronously to a standby.
    ///
    /// # Errors
    /// No connection can be opened. The previous connection stays open.
    pub async fn renew_tail(&self) -> Result<bool, StoreError> {
        Ok(self.tail.renew().await?)
    }

    /// Closes all open connections, since they may lead to another server than new ones.
    pub fn end_generation(&self) {
        for pool in [&self.tail, &self.lists, &self.reader] {
            pool.end_generation();
        }
    }

    /// Closes all open connections, unless that was done since a connection of [`Self::reader`] was opened in this
    /// generation.
    pub fn end_generation_of(&self, generation: u64) {
        if self.reader.generation() == generation {
            self.end_generation();
        }
    }

    /// Tries another host of the URL first from now on, if there is one: this host accepts writes but cannot commit
    /// them.
    pub fn try_another_host(&self) {
        if self.writer.server().prefer_another() {
            self.end_generation();
        }
    }

    /// Whether the database is a server or a group of servers, which may fail over to another server.
    #[must_use]
    pub fn has_server(&self) -> bool {
        self.writer.get_database_backend() != DbBackend::Sqlite
    }

    /// Closes the store to all calls except those of [`Self::tail`], or opens it again. It is closed while the database
    /// requires a newer version of this program.
    pub fn set_closed(&self, is_closed: bool) {
        for pool in [&self.reader, &self.writer, &self.lists] {
            pool.set_closed(is_closed);
        }
    }

    /// Begins a transaction that writes. It is rolled back unless it is committed.
    ///
    /// # Errors
    /// The database cannot be reached, or other transactions write for too long.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(self.writer.begin().await?)
    }

    /// Returns the pools by name with their counters. For servers, one pool serves all reads and writes.
    #[must_use]
    pub fn pools(&self) -> Vec<(&'static str, PoolSnapshot)> {
        let mut pools = Vec::with_capacity(4);
        if self.reader.is(&self.writer) {
            pools.push(("main", self.writer.snapshot()));
        } else {
            pools.push(("reader", self.reader.snapshot()));
            pools.push(("writer", self.writer.snapshot()));
        }
        if !self.tail.is(&self.writer) {
            pools.push(("change_log", self.tail.snapshot()));
        }
        if !self.lists.is(&self.writer) {
            pools.push(("lists", self.lists.snapshot()));
        }
        pools
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.reader.ping().await?)
    }

    /// Waits for the operations under way and closes all connections.
    ///
    /// # Errors
    /// A connection cannot be closed.
    pub async fn close(self) -> Result<(), StoreError> {
        self.tail.close().await?;
        self.lists.close().await?;
        self.reader.close().await?;
        self.writer.close().await?;
        Ok(())
    }
}

/// Returns the row of a unique key, for a query without a LIMIT. SQLite plans a statement anew whenever a LIMIT is
/// bound, which takes longer than its execution.
fn only<T>(rows: Vec<T>) -> Option<T> {
    rows.into_iter().next()
}

/// Removes the rows that a query finds, and returns their number. The ids are selected first: MySQL would lock the rows
/// that a removal skips, and not all databases support a removal with an order and a limit.
async fn delete_found<E: EntityTrait>(
    db: &impl ConnectionTrait,
    found: Select<E>,
    id: E::Column,
) -> Result<u64, StoreError> {
    let ids: Vec<Uuid> = found.select_only().column(id).into_tuple().all(db).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let removed = E::delete_many().filter(id.is_in(ids)).exec(db).await?;
    Ok(removed.rows_affected)
}

/// Applies the missing migrations. Call it under a lock: it checks whether another process has applied them.
async fn migrate_to_date(db: &DatabaseTransaction) -> Result<(), DbErr> {
    if !migration::is_up_to_date(db).await? {
        Migrator::up(db, None).await?;
    }
    Ok(())
}
