//! A database server of one test, which the test may kill.
//!
//! It keeps what it has committed through `kill -9`; the servers of `scripts/databases.sh` are shared by all tests. It
//! runs as an unprivileged user, on a free port of 127.0.0.1 and in a temporary folder. It is killed when it is
//! dropped, and when the thread that started it ends: the thread of the test, unless a task starts it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, QueryResult, Statement};
use tempfile::TempDir;
use tokio::process::{Child, Command as Starter};
use tokio::time::{Instant, interval};

use super::place::Backend;

/// Time limit of a start, which includes crash recovery.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct DatabaseServer {
    backend: Backend,
    folder: TempDir,
    port: u16,
    /// Arguments beside those that every server of the backend gets.
    settings: Vec<String>,
    process: Option<Child>,
}

impl DatabaseServer {
    /// A new server with an empty database.
    pub(crate) async fn start(backend: Backend, settings: &[String]) -> Self {
        let mut server = Self::prepare(backend, settings).await;
        match backend {
            Backend::Postgres => server.install_postgres().await,
            Backend::MySql => server.install_mariadb().await,
            Backend::Sqlite => panic!("SQLite has no server"),
        }
        server.start_again().await;
        server
    }

    /// A folder and a port for a server that is neither installed nor started.
    pub(crate) async fn prepare(backend: Backend, settings: &[String]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("phone-identity-server-")
            .tempdir()
            .unwrap();
        if is_root() {
            let mut chown = Command::new("chown");
            done(chown.arg("nobody:nogroup").arg(folder.path())).await;
        }
        Self {
            backend,
            folder,
            port: free_port(),
            settings: settings.to_vec(),
            process: None,
        }
    }

    async fn install_postgres(&self) {
        let mut install = unprivileged(&postgres("initdb"), self.folder.path());
        install.args([
            "--pgdata=data",
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
        ]);
        done(install.args(["--locale=C", "--no-sync"])).await;
        // The first matching line decides. Only the administrator needs no password.
        let rules = "local all all trust\n\
                     host all,replication postgres 127.0.0.1/32 trust\n\
                     host all all 127.0.0.1/32 password\n";
        fs::write(self.data().join("pg_hba.conf"), rules).unwrap();
    }

    async fn install_mariadb(&self) {
        let mut install = unprivileged(Path::new("mariadb-install-db"), self.folder.path());
        install.args([
            "--no-defaults",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
        ]);
        done(install.arg(format!("--datadir={}", self.data().display()))).await;
        // Users are the affair of each server: replicas get them in the same way. Names are not resolved, so the
        // address is part of the user.
        let users = "SET sql_log_bin = 0;\n\
                     CREATE USER IF NOT EXISTS tester@'127.0.0.1';\n\
                     GRANT ALL ON *.* TO tester@'127.0.0.1' WITH GRANT OPTION;\n";
        fs::write(self.folder.path().join("users.sql"), users).unwrap();
    }

    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The administrator's URL of a database in which databases can be created.
    pub(crate) fn url(&self) -> String {
        let address = self.address();
        match self.backend {
            Backend::Postgres => format!("postgres://postgres@{address}/postgres?sslmode=disable"),
            _ => format!("mysql://tester@{address}/mysql?ssl-mode=DISABLED"),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// `kill -9` of all its processes.
    pub(crate) async fn kill(&mut self) {
        self.signal("KILL");
        self.process.take().unwrap().wait().await.unwrap();
    }

    /// Stops it in an orderly way, and waits until it has ended.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM");
        self.process.take().unwrap().wait().await.unwrap();
    }

    /// Starts it, and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        self.process = Some(self.spawn());
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            if let Ok(database) = self.connect(Duration::from_secs(1)).await
                && database.execute_unprepared("SELECT 1").await.is_ok()
            {
                return database.close().await.unwrap();
            }
            let has_ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(
                has_ended.is_none() && Instant::now() < deadline,
                "the database does not start: {}",
                self.end_of_log()
            );
        }
    }

    /// Sends a signal to all its processes.
    pub(crate) fn signal(&self, name: &str) {
        let main = self.process.as_ref().unwrap().id().unwrap();
        let children = Command::new("pgrep").args(["-P", &main.to_string()]).output();
        let children = String::from_utf8(children.unwrap().stdout).unwrap();
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).arg(main.to_string());
        // A child may end by itself meanwhile.
        let status = kill.args(children.lines()).stderr(Stdio::null()).status();
        status.unwrap();
    }

    /// Runs statements as the administrator, one after another on one connection, outside of a transaction.
    pub(crate) async fn run(&self, statements: &[&str]) {
        let database = self.connect(PATIENCE).await.unwrap();
        for statement in statements {
            let ran = database.execute_unprepared(statement).await;
            ran.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        database.close().await.unwrap();
    }

    /// Runs a statement as the administrator, and keeps its connection open.
    pub(crate) async fn hold(&self, statement: &str) -> Held {
        let database = self.connect(PATIENCE).await.unwrap();
        database.execute_unprepared(statement).await.unwrap();
        Held(database)
    }

    /// The rows of a query by the administrator.
    pub(crate) async fn rows(&self, query: &str) -> Vec<QueryResult> {
        let database = self.connect(PATIENCE).await.unwrap();
        let statement = Statement::from_string(database.get_database_backend(), query);
        let rows = database.query_all_raw(statement).await;
        let rows = rows.unwrap_or_else(|error| panic!("{query}: {error}"));
        database.close().await.unwrap();
        rows
    }

    /// The text in the first column of the only row.
    pub(crate) async fn text(&self, query: &str) -> String {
        self.rows(query).await[0].try_get_by_index(0).unwrap()
    }

    /// Waits until a query returns a row.
    pub(crate) async fn finds(&self, query: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = interval(Duration::from_millis(10));
        while self.rows(query).await.is_empty() {
            assert!(
                Instant::now() < deadline,
                "no row of {query}: {}",
                self.end_of_log()
            );
            ticks.tick().await;
        }
    }

    async fn connect(&self, patience: Duration) -> Result<DatabaseConnection, sea_orm::DbErr> {
        let mut options = ConnectOptions::new(self.url());
        options.max_connections(1).connect_timeout(patience);
        options.acquire_timeout(patience).sqlx_logging(false);
        Database::connect(options).await
    }

    /// A program of the backend, in the folder of the server and as its user.
    pub(crate) fn program(&self, name: &str) -> Command {
        let path = match self.backend {
            Backend::Postgres => postgres(name),
            _ => PathBuf::from(name),
        };
        unprivileged(&path, self.folder.path())
    }

    pub(crate) fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn spawn(&self) -> Child {
        let folder = self.folder.path();
        let mut command = match self.backend {
            Backend::Postgres => {
                let mut command = unprivileged(&postgres("postgres"), folder);
                command
                    .args(["-D", "data", "-p", &self.port.to_string(), "-k"])
                    .arg(folder);
                command.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=100"]);
                command
            }
            _ => {
                let mut command = unprivileged(&mariadbd(), folder);
                command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
                command.args(["--performance-schema=OFF"]);
                command
                    .arg(format!("--datadir={}", folder.join("data").display()))
                    .arg(format!("--socket={}", folder.join("socket").display()))
                    .arg(format!("--pid-file={}", folder.join("pid").display()))
                    .arg(format!("--init-file={}", folder.join("users.sql").display()))
                    .arg(format!("--port={}", self.port));
                command
            }
        };
        command.args(&self.settings);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Starter::from(command).kill_on_drop(true).spawn().unwrap()
    }
}

/// A connection that holds a lock.
pub(crate) struct Held(DatabaseConnection);

impl Held {
    /// Closes the connection.
    pub(crate) async fn release(self) {
        self.0.close().await.unwrap();
    }
}

impl Drop for DatabaseServer {
    fn drop(&mut self) {
        if self
            .process
            .as_ref()
            .is_some_and(|process| process.id().is_some())
        {
            self.signal("KILL");
        }
    }
}

/// Returns a command in a folder. It runs as the user `nobody` if the tests run as root, since the servers refuse root.
/// It ends with the thread that starts it.
fn unprivileged(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command.current_dir(folder).stdin(Stdio::null());
    // MariaDB removes the temporary tables that it finds at its start, of other servers too.
    command.env("TMPDIR", folder);
    command
}

/// Runs a command, which has to succeed.
pub(crate) async fn done(command: &mut Command) -> Output {
    let command = std::mem::replace(command, Command::new("true"));
    let output = Starter::from(command).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program of the newest PostgreSQL of Debian.
fn postgres(program: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is not installed");
    let newest = versions
        .map(|version| version.unwrap().path())
        .max_by_key(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.parse::<u32>().unwrap_or_default()
        });
    newest.unwrap().join("bin").join(program)
}

fn mariadbd() -> PathBuf {
    [
        "/usr/sbin/mariadbd",
        "/usr/local/sbin/mariadbd",
        "/usr/bin/mariadbd",
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|path| path.exists())
    .expect("MariaDB is not installed")
}

/// A free port outside of the range of outgoing connections: while the server is down, a client could get it.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = u16::try_from(20_000 + getrandom::u64().unwrap() % 12_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
