//! A database server that can be killed: of its own, and with settings that keep what was committed. (The servers of
//! `scripts/databases.sh` are shared by tests, and told to be fast and not safe.)
//!
//! It runs as an unprivileged user, on a free port of this machine and in a temporary folder. It is killed when it is
//! dropped, and when the thread that started it ends: that is the one of the test, as long as it is not started in a task.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sea_orm::{ConnectOptions, ConnectionTrait as _, Database};
use tempfile::TempDir;
use tokio::process::{Child, Command as Starter};
use tokio::time::{Instant, interval};

use crate::place::Backend;
use crate::random::Random;

/// How long it may take to start, and that is to recover, too.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct DatabaseServer {
    backend: Backend,
    folder: TempDir,
    port: u16,
    process: Child,
}

impl DatabaseServer {
    pub(crate) async fn start(backend: Backend, random: &mut Random) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("phone-identity-killed-")
            .tempdir()
            .unwrap();
        if is_root() {
            done(Command::new("chown").arg("nobody:nogroup").arg(folder.path())).await;
        }
        match backend {
            Backend::Postgres => {
                let mut install = unprivileged(&postgres("initdb"), folder.path());
                install.args([
                    "--pgdata=data",
                    "--username=postgres",
                    "--auth=trust",
                    "--encoding=UTF8",
                ]);
                done(install.args(["--locale=C", "--no-sync"])).await;
            }
            Backend::MySql => {
                let mut install = unprivileged(Path::new("mariadb-install-db"), folder.path());
                install.args([
                    "--no-defaults",
                    "--skip-test-db",
                    "--auth-root-authentication-method=normal",
                ]);
                done(install.arg(format!("--datadir={}", folder.path().join("data").display()))).await;
                // Names are not looked up, so nobody comes from localhost.
                let user =
                    "CREATE OR REPLACE USER tester@'127.0.0.1';\nGRANT ALL ON *.* TO tester@'127.0.0.1';\n";
                fs::write(folder.path().join("users.sql"), user).unwrap();
            }
            Backend::Sqlite => panic!("SQLite has no server"),
        }
        let port = free_port(random);
        let process = serve(backend, folder.path(), port);
        let mut server = Self {
            backend,
            folder,
            port,
            process,
        };
        server.answers().await;
        server
    }

    /// The URL of a database on it in which databases can be made.
    pub(crate) fn url(&self) -> String {
        let address = format!("127.0.0.1:{}", self.port);
        match self.backend {
            Backend::Postgres => format!("postgres://postgres@{address}/postgres?sslmode=disable"),
            _ => format!("mysql://tester@{address}/mysql?ssl-mode=DISABLED"),
        }
    }

    /// `kill -9` of all its processes.
    pub(crate) async fn kill(&mut self) {
        self.signal("KILL");
        self.process.wait().await.unwrap();
    }

    /// Starts it again, and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        self.process = serve(self.backend, self.folder.path(), self.port);
        self.answers().await;
    }

    /// Sends a signal to all its processes.
    pub(crate) fn signal(&self, name: &str) {
        let main = self.process.id().unwrap();
        let children = Command::new("pgrep").args(["-P", &main.to_string()]).output();
        let children = String::from_utf8(children.unwrap().stdout).unwrap();
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).arg(main.to_string());
        // One of them may have ended by itself meanwhile.
        let status = kill.args(children.lines()).stderr(Stdio::null()).status();
        status.unwrap();
    }

    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    async fn answers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = interval(Duration::from_millis(20));
        let mut options = ConnectOptions::new(self.url());
        options.max_connections(1).connect_timeout(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            if let Ok(database) = Database::connect(options.clone()).await
                && database.execute_unprepared("SELECT 1").await.is_ok()
            {
                return database.close().await.unwrap();
            }
            let has_ended = self.process.try_wait().unwrap();
            assert!(
                has_ended.is_none() && Instant::now() < deadline,
                "the database does not start: {}",
                self.end_of_log()
            );
        }
    }
}

impl Drop for DatabaseServer {
    fn drop(&mut self) {
        if self.process.id().is_some() {
            self.signal("KILL");
        }
    }
}

fn serve(backend: Backend, folder: &Path, port: u16) -> Child {
    let mut command = match backend {
        Backend::Postgres => {
            let mut command = unprivileged(&postgres("postgres"), folder);
            command
                .args(["-D", "data", "-p", &port.to_string(), "-k"])
                .arg(folder);
            command.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=100"]);
            command
        }
        _ => {
            let mut command = unprivileged(&mariadbd(), folder);
            command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
            command.args([
                "--skip-log-bin",
                "--innodb-flush-log-at-trx-commit=1",
                "--performance-schema=OFF",
            ]);
            command
                .arg(format!("--datadir={}", folder.join("data").display()))
                .arg(format!("--socket={}", folder.join("socket").display()))
                .arg(format!("--pid-file={}", folder.join("pid").display()))
                .arg(format!("--init-file={}", folder.join("users.sql").display()))
                .arg(format!("--port={port}"));
            command
        }
    };
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log);
    Starter::from(command).kill_on_drop(true).spawn().unwrap()
}

/// A command in this folder, as nobody if we are root, for whom the servers do not run. It dies when we do.
fn unprivileged(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command.current_dir(folder).stdin(Stdio::null());
    command
}

async fn done(command: &mut Command) {
    let output = Starter::from(std::mem::replace(command, Command::new("true")))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
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

/// A port that nobody listens on now. Not one of those that the system gives to connections: while the server is away,
/// one of its callers might get it.
fn free_port(random: &mut Random) -> u16 {
    loop {
        let port = u16::try_from(20_000 + random.below(12_000)).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
