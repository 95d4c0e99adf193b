//! The environment of a test: a folder and a database of its own, on the backend of the whole run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use std::{env, fs, thread};

use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

use super::binary;

/// The databases of the service. `TEST_DATABASE` selects the one of this run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
    MySql,
}

impl Backend {
    pub(crate) fn of_this_run() -> Self {
        match env::var("TEST_DATABASE").as_deref() {
            Err(_) | Ok("" | "sqlite") => Self::Sqlite,
            Ok("postgres") => Self::Postgres,
            Ok("mysql") => Self::MySql,
            Ok(other) => panic!("TEST_DATABASE is sqlite, postgres or mysql, and not {other}"),
        }
    }

    /// The URL of a server on which databases may be created.
    fn server(self) -> Option<String> {
        let name = match self {
            Self::Sqlite => return None,
            Self::Postgres => "TEST_POSTGRES_URL",
            Self::MySql => "TEST_MYSQL_URL",
        };
        Some(
            env::var(name)
                .unwrap_or_else(|_| panic!("{name} is not set; scripts/test.sh starts a server and sets it")),
        )
    }
}

/// A folder and a database. Both are removed when it is dropped, but for a database that existed before.
pub(crate) struct Place {
    folder: TempDir,
    database: Option<OnServer>,
}

/// A database on a server.
struct OnServer {
    server: String,
    name: String,
    /// Whether the database is removed with the place.
    is_own: bool,
}

impl Place {
    pub(crate) async fn new() -> Self {
        match Backend::of_this_run().server() {
            Some(server) => Self::on(server).await,
            None => Self {
                folder: tempfile::tempdir().unwrap(),
                database: None,
            },
        }
    }

    /// A place with a database on this server.
    pub(crate) async fn on(server: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("phone_identity_test_{}", Uuid::new_v4().simple());
        create_database(&server, &name).await;
        Self {
            folder,
            database: Some(OnServer {
                server,
                name,
                is_own: true,
            }),
        }
    }

    /// A place with a database that exists on this server, and stays.
    pub(crate) fn existing(server: String, name: &str) -> Self {
        let name = name.to_owned();
        Self {
            folder: tempfile::tempdir().unwrap(),
            database: Some(OnServer {
                server,
                name,
                is_own: false,
            }),
        }
    }

    /// A folder only: commands get the URL of their database by a flag.
    pub(crate) fn without_database() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            database: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The location of the database. On SQLite, it is the default location.
    pub(crate) fn url(&self) -> String {
        match &self.database {
            None => format!("sqlite://{}", self.path().join("phone-identity.db").display()),
            Some(OnServer { server, name, .. }) => with_database(server, name),
        }
    }

    /// The host and port of the server. `None`: there is none.
    pub(crate) fn server(&self) -> Option<String> {
        let url = self.database.as_ref()?.server.as_str();
        let (scheme, rest) = url.split_once("://").unwrap();
        let host = rest.split(['/', '?']).next().unwrap().rsplit('@').next().unwrap();
        let port = if scheme.starts_with("postgres") {
            5432
        } else {
            3306
        };
        Some(if host.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:{port}")
        })
    }

    /// A connection to the database.
    pub(crate) async fn connect(&self) -> DatabaseConnection {
        Database::connect(self.url()).await.unwrap()
    }

    /// The command on this database, in this folder, with no other settings in the environment.
    pub(crate) fn command(&self) -> Command {
        let mut command = binary::command(self.path());
        command.envs(self.environment());
        command
    }

    /// The environment of the process. SQLite needs none, as for most of its users. `TEST_DATABASE_WAY` is the URL by
    /// which the service, but not the tests, reaches its server.
    pub(crate) fn environment(&self) -> Option<(&'static str, String)> {
        let OnServer { server, name, .. } = self.database.as_ref()?;
        let way = env::var("TEST_DATABASE_WAY").unwrap_or_else(|_| server.clone());
        Some(("DATABASE_URL", with_database(&way, name)))
    }

    /// Runs a command to its end; a server in this process continues.
    pub(crate) async fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command();
        command.args(arguments);
        binary::run(command, input).await
    }
}

impl Drop for Place {
    /// At best: what is left is on a server that is thrown away.
    fn drop(&mut self) {
        let Some(OnServer {
            server,
            name,
            is_own: true,
        }) = self.database.take()
        else {
            return;
        };
        // A separate thread, since an async thread cannot block on async work. Meanwhile the server of the test stops:
        // its statements in the database end, and the rest is not awaited.
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let dropped = async { timeout(Duration::from_secs(1), drop_database(&server, &name)).await };
            let _ = runtime.unwrap().block_on(dropped);
        });
        let _ = dropping.join();
    }
}

/// Writes a file that its owner alone can read, whatever the umask is.
pub(crate) fn write_secret(file: &Path, content: impl AsRef<[u8]>) {
    fs::write(file, "").unwrap();
    set_mode(file, 0o600);
    fs::write(file, content).unwrap();
}

pub(crate) fn set_mode(file: &Path, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

async fn drop_database(server: &str, name: &str) {
    let server = Database::connect(server).await.unwrap();
    if server.get_database_backend() == DbBackend::MySql {
        let sql = format!("SELECT id FROM information_schema.processlist WHERE db = '{name}'");
        let rows = server
            .query_all_raw(Statement::from_string(DbBackend::MySql, sql))
            .await
            .unwrap();
        for row in rows {
            // MariaDB numbers them from below zero, MySQL does not.
            let id: i64 = row
                .try_get("", "id")
                .or_else(|_| row.try_get("", "id").map(u64::cast_signed))
                .unwrap();
            // It may have ended by itself.
            let _ = server.execute_unprepared(&format!("KILL {id}")).await;
        }
        let drop = format!("DROP DATABASE {name}");
        server.execute_unprepared(&drop).await.unwrap();
    } else {
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        server.execute_unprepared(&drop).await.unwrap();
    }
}

async fn create_database(server: &str, name: &str) {
    let server = Database::connect(server).await.unwrap();
    let create = format!("CREATE DATABASE {name}");
    server.execute_unprepared(&create).await.unwrap();
    server.close().await.unwrap();
}

/// The URL of another database on the same server.
fn with_database(server: &str, name: &str) -> String {
    let (server, parameters) = server.split_once('?').unwrap_or((server, ""));
    let (scheme, rest) = server.split_once("://").unwrap();
    let host = rest.split('/').next().unwrap();
    let question_mark = if parameters.is_empty() { "" } else { "?" };
    format!("{scheme}://{host}/{name}{question_mark}{parameters}")
}
