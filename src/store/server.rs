//! Database server: its hosts, and the connection race between them. One of several hosts accepts writes.
//!
//! With several hosts, a connection attempt is a race with a head start ("happy eyeballs", RFC 8305): the host that was
//! reached last is tried first, and each further one a moment later, or at once when the previous one has failed. The
//! first host that accepts writes wins. A lost host therefore costs a moment instead of a timeout.

mod client_key;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::sqlx::mysql::MySqlConnectOptions;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::sqlx::{self, ConnectOptions as _};
use sea_orm::{DbBackend, DbErr, RuntimeErr};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::connection::{Connection, from_sqlx};
use super::database_file::DatabaseFile;
use super::identity::{Identity, identification};
use super::url::UrlError;
use super::{Options, StoreError};
use crate::secret_file::{self, SecretFileError};
use client_key::check_client_key;

/// The head start of a host before the next one is tried as well.
const HEAD_START: Duration = Duration::from_millis(250);

/// Connection options of one host.
#[derive(Clone, Debug)]
pub(super) enum Host {
    Sqlite(SqliteConnectOptions),
    Postgres(PgConnectOptions),
    MySql(MySqlConnectOptions),
}

/// Parser of the hosts of a URL.
pub(super) type ParseHosts = fn(&str) -> Result<Vec<Host>, StoreError>;

/// The database server, which may be a group of servers of which one accepts writes.
pub(super) struct Server {
    backend: DbBackend,
    /// File that the URL was read from. It has another URL after a rotation of the password.
    url_file: Option<PathBuf>,
    /// Whether to accept a URL file and client keys that other users can read.
    allow_readable_secrets: bool,
    /// Whether the last attempt to read the URL file again found that other users can read it.
    is_url_file_refused: AtomicBool,
    parse: ParseHosts,
    hosts: Mutex<Hosts>,
    /// Index of the host that was reached last.
    preferred: AtomicUsize,
    /// Statements that each new connection executes.
    session: Vec<String>,
    /// The file of SQLite, which must not be replaced.
    file: Option<DatabaseFile>,
}

/// The hosts, and their URL.
#[derive(Clone)]
struct Hosts {
    url: SecretString,
    hosts: Arc<[Host]>,
}

impl Server {
    /// Parses the hosts of the URL.
    ///
    /// # Errors
    /// [`StoreError::InvalidUrl`], or [`StoreError::Unsuitable`] for a client key that other users can read.
    pub(super) fn new(
        backend: DbBackend,
        options: &Options,
        parse: ParseHosts,
        session: Vec<String>,
    ) -> Result<Arc<Self>, StoreError> {
        let hosts = Hosts {
            hosts: parse(options.url.expose_secret())?.into(),
            url: options.url.clone(),
        };
        check_client_key(&hosts.url, options.allow_readable_secrets)?;
        Ok(Arc::new(Self {
            backend,
            url_file: options.url_file.clone(),
            allow_readable_secrets: options.allow_readable_secrets,
            is_url_file_refused: AtomicBool::new(false),
            parse,
            hosts: Mutex::new(hosts),
            preferred: AtomicUsize::new(0),
            session,
            file: None,
        }))
    }

    /// Creates the server of one SQLite file. `file`: identity that the file must keep.
    pub(super) fn of_file(options: SqliteConnectOptions, file: Option<DatabaseFile>) -> Arc<Self> {
        let hosts = Hosts {
            url: SecretString::from(String::new()),
            hosts: [Host::Sqlite(options)].into(),
        };
        Arc::new(Self {
            backend: DbBackend::Sqlite,
            url_file: None,
            allow_readable_secrets: false,
            is_url_file_refused: AtomicBool::new(false),
            parse: |_| Err(UrlError::Scheme.into()),
            hosts: Mutex::new(hosts),
            preferred: AtomicUsize::new(0),
            session: Vec::new(),
            file,
        })
    }

    pub(super) fn backend(&self) -> DbBackend {
        self.backend
    }

    /// Name of the system in the semantic conventions of OpenTelemetry. (MariaDB counts as MySQL.)
    pub(super) fn name(&self) -> &'static str {
        match self.backend {
            DbBackend::Postgres => "postgresql",
            DbBackend::MySql => "mysql",
            _ => "sqlite",
        }
    }

    /// Fails if the SQLite file was deleted or replaced. Costs one system call, or nothing for a server.
    pub(super) fn check_file(&self) -> Result<(), DbErr> {
        match &self.file {
            Some(file) => file.check().map_err(|error| DbErr::Conn(from_sqlx(error.into()))),
            None => Ok(()),
        }
    }

    /// Connects to the host that accepts writes. If no connection can be opened, reads the URL file (and with it the
    /// password file of PostgreSQL) again, and tries once more if there is a change.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<(Connection, Identity), DbErr> {
        let hosts = self.hosts();
        let outcome = self.race(&hosts.hosts).await;
        let Err(error) = &outcome else { return outcome };
        // A password file is not compared: it is read again only after a rejected password.
        let may_have_another_password = is_refused_user(error) && self.backend == DbBackend::Postgres;
        match self.read_again(&hosts.url, may_have_another_password).await {
            Some(hosts) => self.race(&hosts).await,
            None => outcome,
        }
    }

    /// Returns the options of the host that was reached last.
    pub(super) fn reached(&self) -> Option<Host> {
        let hosts = self.hosts().hosts;
        hosts.get(self.preferred.load(Ordering::Relaxed)).cloned()
    }

    /// Tries another host first from now on. Returns whether there is one.
    pub(super) fn prefer_another(&self) -> bool {
        let count = self.hosts().hosts.len();
        let next = |preferred: usize| Some((preferred + 1) % count.max(1));
        let _ = self
            .preferred
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        count > 1
    }

    fn hosts(&self) -> Hosts {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the URL file again. `None`: there is no change. A file that cannot be read, or has no URL of this
    /// database, is in the middle of its rotation.
    async fn read_again(self: &Arc<Self>, before: &SecretString, is_forced: bool) -> Option<Arc<[Host]>> {
        if self.backend == DbBackend::Sqlite {
            return None;
        }
        let server = self.clone();
        // Files are read on a thread that may block.
        let read = spawn_blocking(move || {
            let url = match &server.url_file {
                Some(file) => server.read_url(file)?,
                None => server.hosts().url,
            };
            let hosts = (server.parse)(url.expose_secret()).ok()?;
            if let Err(error) = check_client_key(&url, server.allow_readable_secrets) {
                tracing::warn!(%error, "the URL in the file of DATABASE_URL_FILE is not used");
                return None;
            }
            Some(Hosts {
                url,
                hosts: hosts.into(),
            })
        });
        let read = read.await.ok().flatten()?;
        if !is_forced && read.url.expose_secret() == before.expose_secret() {
            return None;
        }
        let hosts = read.hosts.clone();
        *self.hosts.lock().unwrap_or_else(PoisonError::into_inner) = read;
        Some(hosts)
    }

    /// Reads the URL from its file. `None`: the file is in the middle of its rotation, or other users can read it,
    /// which is logged once.
    fn read_url(&self, file: &Path) -> Option<SecretString> {
        let read = secret_file::read_text(file, self.allow_readable_secrets);
        let refusal = match &read {
            Err(error @ SecretFileError::OpenToOthers(_)) => Some(error),
            _ => None,
        };
        let was_refused = self
            .is_url_file_refused
            .swap(refusal.is_some(), Ordering::Relaxed);
        if let Some(error) = refusal
            && !was_refused
        {
            tracing::warn!(%error, "the file of DATABASE_URL_FILE is not read again");
        }
        Some(SecretString::from(read.ok()?.expose_secret().trim_end()))
    }

    /// Races the hosts, as the module comment describes.
    async fn race(self: &Arc<Self>, hosts: &Arc<[Host]>) -> Result<(Connection, Identity), DbErr> {
        if let [host] = hosts.as_ref() {
            return self.open(host).await;
        }
        let first = self.preferred.load(Ordering::Relaxed);
        let mut waiting = (0..hosts.len()).map(|offset| (first + offset) % hosts.len());
        let mut attempts = JoinSet::new();
        let mut failure = no_writable_server();
        let mut next_start = Instant::now();
        let mut is_exhausted = false;
        loop {
            tokio::select! {
                () = sleep_until(next_start), if !is_exhausted => match waiting.next() {
                    Some(index) => {
                        let (server, hosts) = (self.clone(), hosts.clone());
                        attempts.spawn(async move { (index, server.open(&hosts[index]).await) });
                        next_start = Instant::now() + HEAD_START;
                    }
                    None => is_exhausted = true,
                },
                Some(ended) = attempts.join_next() => match ended {
                    Ok((index, Ok(opened))) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        // The other attempts are dropped, and their connections closed.
                        return Ok(opened);
                    }
                    Ok((_, Err(error))) => {
                        failure = error;
                        next_start = Instant::now();
                    }
                    Err(_) => {}
                },
                else => return Err(failure),
            }
        }
    }

    /// Opens one connection. Fails unless it leads to a server that accepts writes.
    async fn open(&self, host: &Host) -> Result<(Connection, Identity), DbErr> {
        let connected = match host {
            Host::Sqlite(options) => options.connect().await.map(Connection::Sqlite),
            Host::Postgres(options) => options.connect().await.map(Connection::Postgres),
            Host::MySql(options) => options.connect().await.map(Connection::MySql),
        };
        let mut connection = connected.map_err(|error| DbErr::Conn(from_sqlx(error)))?;
        if self.backend == DbBackend::Sqlite {
            self.check_file()?;
            return Ok((connection, Identity::of_file()));
        }
        for statement in &self.session {
            connection
                .execute_unprepared(statement)
                .await
                .map_err(while_connecting)?;
        }
        let rows = connection
            .query_unprepared(&identification(self.backend))
            .await
            .map_err(while_connecting)?;
        let identity = Identity::read(&rows, self.backend)?.ok_or_else(no_writable_server)?;
        if let Some(statement) = identity.session {
            connection
                .execute_unprepared(statement)
                .await
                .map_err(while_connecting)?;
        }
        Ok((connection, identity))
    }
}

/// An error before a connection is usable counts as a connection error.
fn while_connecting(error: DbErr) -> DbErr {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause)) => {
            DbErr::Conn(RuntimeErr::SqlxError(cause))
        }
        error => error,
    }
}

/// Returns whether a server has rejected the user or the password.
fn is_refused_user(error: &DbErr) -> bool {
    let DbErr::Conn(RuntimeErr::SqlxError(cause)) = error else {
        return false;
    };
    matches!(cause.as_ref(), sqlx::Error::Database(answer) if answer.code().is_some_and(|code| code.starts_with("28")))
}

fn no_writable_server() -> DbErr {
    let why = "no server that accepts writes can be reached";
    DbErr::Conn(from_sqlx(
        io::Error::new(io::ErrorKind::ReadOnlyFilesystem, why).into(),
    ))
}
