//! Where the database is, and how to connect: one host or several, of which one accepts writes.
//!
//! With several hosts, connecting is a race with a head start ("happy eyeballs", RFC 8305): the host that was reached
//! last is tried first, and each further one a moment later, or at once when the one before has failed. The first that
//! accepts writes wins. A host that is gone costs a moment so, and not a timeout.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{env, fs, io};

use sea_orm::sqlx::mysql::MySqlConnectOptions;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::sqlx::{self, ConnectOptions as _};
use sea_orm::{DbBackend, DbErr, RuntimeErr};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::connection::{Connection, from_sqlx};
use super::identity::{Identity, identification};
use super::sqlite::DatabaseFile;
use super::url::UrlError;
use super::{Options, StoreError};
use crate::secret_file::{self, SecretFileError};

/// The head start of a host before the next one is tried as well.
const HEAD_START: Duration = Duration::from_millis(250);

/// How to reach one host.
#[derive(Clone, Debug)]
pub(super) enum Host {
    Sqlite(SqliteConnectOptions),
    Postgres(PgConnectOptions),
    MySql(MySqlConnectOptions),
}

/// How the hosts of a URL are read.
pub(super) type ParseHosts = fn(&str) -> Result<Vec<Host>, StoreError>;

/// The database server, which may be a group of servers of which one accepts writes.
pub(super) struct Server {
    backend: DbBackend,
    /// The file that the URL was read from, which has another one after a rotation of the password.
    url_file: Option<PathBuf>,
    /// Whether the URL file and client keys are accepted that other users can read.
    allow_readable_secrets: bool,
    /// Whether the last attempt to read the URL file again found it open to other users.
    is_url_file_refused: AtomicBool,
    parse: ParseHosts,
    hosts: Mutex<Hosts>,
    /// The index of the host that was reached last.
    preferred: AtomicUsize,
    /// Executed on each new connection.
    session: Vec<String>,
    /// The file of SQLite, which must not be replaced.
    file: Option<DatabaseFile>,
}

/// The hosts, and the URL that they are of.
#[derive(Clone)]
struct Hosts {
    url: SecretString,
    hosts: Arc<[Host]>,
}

impl Server {
    /// The hosts of the URL.
    ///
    /// # Errors
    /// [`StoreError::InvalidUrl`], or [`StoreError::Unsuitable`] for a client key that is open to other users.
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

    /// One SQLite file. `file`: it must stay the same one.
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

    /// The name of the system in the semantic conventions of OpenTelemetry. (MariaDB counts as MySQL.)
    pub(super) fn name(&self) -> &'static str {
        match self.backend {
            DbBackend::Postgres => "postgresql",
            DbBackend::MySql => "mysql",
            _ => "sqlite",
        }
    }

    /// Fails if the SQLite file was deleted or replaced. One system call; nothing for a server.
    pub(super) fn check_file(&self) -> Result<(), DbErr> {
        match &self.file {
            Some(file) => file.check().map_err(|error| DbErr::Conn(from_sqlx(error.into()))),
            None => Ok(()),
        }
    }

    /// Connects to the host that accepts writes. If no connection can be made, reads the URL file (and with it the
    /// password file of PostgreSQL) again, and tries once more if that makes a difference.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<(Connection, Identity), DbErr> {
        let hosts = self.hosts();
        let outcome = self.race(&hosts.hosts).await;
        let Err(error) = &outcome else { return outcome };
        // A password file is not compared: it is read for answers to a password only.
        let may_have_another_password = is_refused_user(error) && self.backend == DbBackend::Postgres;
        match self.read_again(&hosts.url, may_have_another_password).await {
            Some(hosts) => self.race(&hosts).await,
            None => outcome,
        }
    }

    /// The options of the host that was reached last.
    pub(super) fn reached(&self) -> Option<Host> {
        let hosts = self.hosts().hosts;
        hosts.get(self.preferred.load(Ordering::Relaxed)).cloned()
    }

    /// Tries another host first from here on. Returns whether there is one.
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

    /// Reads the URL file again. `None`: there is nothing new. A file that cannot be read, or has no URL of this
    /// database in it, is in the middle of its rotation.
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

    /// The URL in its file. `None`: it is in the middle of its rotation, or open to other users, which is logged once.
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

    /// Tries the hosts as the module says.
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
                        // The others are given up, and their connections closed.
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

    /// Opens one connection, and fails unless it is to a server that accepts writes.
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

/// What fails before a connection is of use fails as connecting does.
fn while_connecting(error: DbErr) -> DbErr {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause)) => {
            DbErr::Conn(RuntimeErr::SqlxError(cause))
        }
        error => error,
    }
}

/// Whether a server has answered that it does not accept the user or the password.
fn is_refused_user(error: &DbErr) -> bool {
    let DbErr::Conn(RuntimeErr::SqlxError(cause)) = error else {
        return false;
    };
    matches!(cause.as_ref(), sqlx::Error::Database(answer) if answer.code().is_some_and(|code| code.starts_with("28")))
}

fn no_writable_server() -> DbErr {
    let why = "no server that accepts writes is reached";
    DbErr::Conn(from_sqlx(
        io::Error::new(io::ErrorKind::ReadOnlyFilesystem, why).into(),
    ))
}

/// Refuses a client key that is open to other users: the file of `sslkey` or `ssl-key`, or for PostgreSQL of the
/// variable `PGSSLKEY`, which sqlx reads with each connection. A file that cannot be read is what the first connection
/// fails with.
fn check_client_key(url: &SecretString, allow_readable: bool) -> Result<(), StoreError> {
    let url = url.expose_secret();
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let by_variable = url
        .starts_with("postgres")
        .then(|| env::var("PGSSLKEY").ok())
        .flatten();
    let by_variable = by_variable.map(|file| ("PGSSLKEY".into(), file.into()));
    for (name, file) in form_urlencoded::parse(query.as_bytes()).chain(by_variable) {
        if !allow_readable
            && matches!(name.as_ref(), "sslkey" | "ssl-key" | "PGSSLKEY")
            && let Ok(metadata) = fs::metadata(file.as_ref())
            && let Err(error) = secret_file::check(&metadata)
        {
            return Err(StoreError::Unsuitable(format!("the file of {name} {error}")));
        }
    }
    Ok(())
}

/// Splits a URL with several hosts (`scheme://user@host1:1,host2:2/database`) into one URL a host, each with everything
/// else.
pub(super) fn each_host(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return vec![url.to_owned()];
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, hosts) = authority
        .rfind('@')
        .map_or(("", authority), |at| authority.split_at(at + 1));
    hosts
        .split(',')
        .map(|host| format!("{scheme}://{user}{host}{path}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_client_key_that_is_open_to_other_users_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("a key");
        fs::write(&key, "").unwrap();
        let key = key.to_str().unwrap().replace(' ', "%20");
        for (mode, url, is_refused) in [
            (
                0o644,
                format!("postgres://h/d?sslmode=require&sslkey={key}#x"),
                true,
            ),
            (0o602, format!("mysql://h/d?ssl-key={key}"), true),
            (0o640, format!("mysql://h/d?ssl-key={key}"), false),
            (0o644, format!("postgres://h/d?sslcert={key}"), false),
            (0o644, format!("postgres://h/d?sslkey={key}.missing"), false),
            (0o644, "postgres://h/d".to_owned(), false),
        ] {
            let file = folder.path().join("a key");
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
            let url = SecretString::from(url);
            let checked = check_client_key(&url, false);
            assert_eq!(checked.is_err(), is_refused, "{mode:o} {checked:?}");
            assert!(check_client_key(&url, true).is_ok());
        }
    }

    #[test]
    fn a_url_of_several_hosts_is_one_url_for_each() {
        for (url, expected) in [
            ("postgres://h/d", vec!["postgres://h/d"]),
            (
                "postgres://u:p%40,q@h1:1,h2,[::1]:3/d?a=b,c",
                vec![
                    "postgres://u:p%40,q@h1:1/d?a=b,c",
                    "postgres://u:p%40,q@h2/d?a=b,c",
                    "postgres://u:p%40,q@[::1]:3/d?a=b,c",
                ],
            ),
            ("mysql://h1,h2", vec!["mysql://h1", "mysql://h2"]),
            ("sqlite:a,b.db", vec!["sqlite:a,b.db"]),
        ] {
            assert_eq!(each_host(url), expected, "{url}");
        }
    }
}
