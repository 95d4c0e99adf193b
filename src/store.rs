//! The database: entities, and free functions that do one query each and work the same on a pool or in a transaction.
//!
//! Policy, time and transactions are the service's; nothing of SeaORM leaves this module but the handles.

pub mod attempts;
pub mod audit;
mod backup;
pub mod challenges;
pub mod changes;
mod connection;
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

/// Where the database is, and its timeouts.
#[derive(Clone, Debug)]
pub struct Options {
    /// `sqlite:`, `postgres:`, `postgresql:`, `mysql:` or `mariadb:`.
    pub url: SecretString,
    /// The file that the URL was read from. It is read again when no connection can be made.
    pub url_file: Option<PathBuf>,
    /// Whether files with secrets are accepted that all users of the machine can read or write: the one of the URL, the
    /// client keys that it names, and the database of SQLite.
    pub allow_readable_secrets: bool,
    /// The most connections; of SQLite, the most that read, beside the one that writes. The tail of the change log has
    /// one of its own.
    pub connections: u32,
    /// How long to wait for a connection, and for what another transaction has locked.
    pub acquire_timeout: Duration,
    /// How long the server may work on a statement, and how long a transaction may stand still; a little later it is
    /// given up here. Of SQLite, how long a statement of a list may take.
    pub statement_timeout: Duration,
    /// The version level of this program: see [`changes::VERSION_LEVEL`].
    pub version_level: i32,
}

/// Handles to the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    reader: Pool,
    /// The same as `reader`, but for SQLite.
    writer: Pool,
    /// The change log and the service keys are read on a connection of their own, which is free when it is needed.
    tail: Pool,
    /// Lists are read on connections of their own.
    lists: Pool,
    version_level: i32,
}

/// Maximum number of connections that read lists.
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

    /// The version level of this program.
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

    /// Opens the database. An SQLite file is made if it is missing.
    ///
    /// # Errors
    /// [`StoreError::InvalidUrl`], or when the database cannot be opened.
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

    /// Brings the schema up to date, once for a `Store`. Processes that do so at once do it one after another.
    ///
    /// # Errors
    /// [`StoreError::Unsuitable`], and then nothing was changed; or when the database cannot be written.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        preflight::check(self.writer()).await?;
        let schema = self.schema_connection()?;
        // Without a lock, and without the right to change the schema.
        if !migration::is_up_to_date(&schema).await? {
            match schema.get_database_backend() {
                DbBackend::Postgres => postgres::migrate(&schema).await?,
                DbBackend::MySql => mysql::migrate(&schema).await?,
                _ => sqlite::migrate(&schema).await?,
            }
        }
        schema.close().await?;
        if self.writer.get_database_backend() == DbBackend::Sqlite {
            // A copy that was made by `backup` gets an epoch of its own.
            changes::replace_left_epoch(self.writer()).await?;
        }
        preflight::check_schema(self).await
    }

    /// A connection for migrations, which may take longer than any other statement, to the host that was reached last.
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

    /// For single queries that change nothing.
    #[must_use]
    pub fn reader(&self) -> &Pool {
        &self.reader
    }

    /// For single queries that change something.
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

    /// For reading the change log and the service keys again and again, and nothing else.
    #[must_use]
    pub fn tail(&self) -> &Pool {
        &self.tail
    }

    /// For pages of lists, and for counts. A filter can pass over any number of rows, so these statements have few
    /// connections of their own and a deadline: they never occupy a connection that a session check waits for.
    #[must_use]
    pub fn lists(&self) -> &Pool {
        &self.lists
    }

    /// Opens a new connection for [`Self::tail`], so that it is to the server to which new connections lead now.
    /// Returns whether that server commits synchronously to a standby.
    ///
    /// # Errors
    /// When no connection can be opened; then that of before stays.
    pub async fn renew_tail(&self) -> Result<bool, StoreError> {
        Ok(self.tail.renew().await?)
    }

    /// Closes all connections that are open now, since they may be to another server than new ones.
    pub fn end_generation(&self) {
        for pool in [&self.tail, &self.lists, &self.reader] {
            pool.end_generation();
        }
    }

    /// The same, unless that has been done since a connection of [`Self::reader`] was opened in this generation.
    pub fn end_generation_of(&self, generation: u64) {
        if self.reader.generation() == generation {
            self.end_generation();
        }
    }

    /// Connects to another host of the URL first, if there is one: this one accepts writes, but cannot commit them.
    pub fn try_another_host(&self) {
        if self.writer.server().prefer_another() {
            self.end_generation();
        }
    }

    /// Whether the database is a server, or a group of servers, of which another one may answer some day.
    #[must_use]
    pub fn has_server(&self) -> bool {
        self.writer.get_database_backend() != DbBackend::Sqlite
    }

    /// Closes the store to all calls but those of [`Self::tail`], or opens it again: the database requires a newer
    /// version of this program.
    pub fn set_closed(&self, is_closed: bool) {
        for pool in [&self.reader, &self.writer, &self.lists] {
            pool.set_closed(is_closed);
        }
    }

    /// Begins a transaction that writes. It is rolled back unless it is committed.
    ///
    /// # Errors
    /// When the database cannot be reached, or others write for too long.
    pub async fn begin(&self) -> Result<Transaction, StoreError> {
        Ok(self.writer.begin().await?)
    }

    /// The pools by their names, and what was counted of each. Servers have one for all that reads and writes.
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
        self.lists.close().await?;
        self.reader.close().await?;
        self.writer.close().await?;
        Ok(())
    }
}

/// The row of a unique key, of a query without a LIMIT: whenever a LIMIT is bound, SQLite plans the statement anew,
/// which takes longer than to run it.
fn only<T>(rows: Vec<T>) -> Option<T> {
    rows.into_iter().next()
}

/// Removes the rows that a query finds, and says how many it were. They are looked for first: MySQL would lock what a
/// removal passes over, and not all databases know a removal with an order and a bound.
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

/// Applies the migrations that are missing. To be called under a lock, so it looks whether somebody else has done it.
async fn migrate_to_date(db: &DatabaseTransaction) -> Result<(), DbErr> {
    if !migration::is_up_to_date(db).await? {
        Migrator::up(db, None).await?;
    }
    Ok(())
}
