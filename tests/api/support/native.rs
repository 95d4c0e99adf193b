//! The databases' own tools, as an operator uses them: to dump, to restore and to load.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sea_orm::ConnectionTrait as _;

use super::place::{Backend, Place, write_secret};

/// Writes a backup of the database into a new file.
pub(crate) async fn back_up(place: &Place) -> PathBuf {
    let file = place.path().join("backup");
    match Backend::of_this_run() {
        Backend::Sqlite => {
            let made = place.run(&["backup", file.to_str().unwrap()], "").await;
            assert!(made.status.success(), "{made:?}");
        }
        Backend::Postgres => run(postgres("pg_dump", place)
            .args(["--format=custom", "--file"])
            .arg(&file)),
        Backend::MySql => run(dumper(place)
            .args(["--single-transaction", "--hex-blob", &Login::of(place).database])
            .stdout(File::create(&file).unwrap())),
    }
    file
}

/// Replaces all data of the database by a backup, while clients stay connected.
pub(crate) fn restore(place: &Place, backup: &Path) {
    match Backend::of_this_run() {
        // Does the same as the command `.restore` of the sqlite3 shell.
        Backend::Sqlite => run(Command::new("python3")
            .args([
                "-c",
                "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))",
            ])
            .arg(backup)
            .arg(place.path().join("phone-identity.db"))),
        Backend::Postgres => run(postgres("pg_restore", place)
            .args([
                "--clean",
                "--if-exists",
                "--single-transaction",
                "--dbname",
                &Login::of(place).database,
            ])
            .arg(backup)),
        Backend::MySql => load_into_mysql(place, backup),
    }
}

/// Runs a file of SQL in an empty database.
pub(crate) async fn load(place: &Place, sql: &Path) {
    match Backend::of_this_run() {
        Backend::Sqlite => {
            write_secret(&place.path().join("phone-identity.db"), "");
            let sql = fs::read_to_string(sql).unwrap();
            let database = place.connect().await;
            database.execute_unprepared(&sql).await.unwrap();
            database.close().await.unwrap();
        }
        Backend::Postgres => run(postgres("psql", place)
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file"])
            .arg(sql)
            .stdout(Stdio::null())),
        Backend::MySql => load_into_mysql(place, sql),
    }
}

fn load_into_mysql(place: &Place, sql: &Path) {
    let client = if exists("mariadb") { "mariadb" } else { "mysql" };
    run(mysql(client, place)
        .arg(&Login::of(place).database)
        .stdin(File::open(sql).unwrap()));
}

/// The address of a database, and the credentials for it.
struct Login {
    user: String,
    password: String,
    host: String,
    port: String,
    database: String,
}

impl Login {
    fn of(place: &Place) -> Self {
        let (url, server) = (place.url(), place.server().unwrap());
        let (_, rest) = url.split_once("://").unwrap();
        let (login, rest) = rest.split_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let database = rest.split(['/', '?']).nth(1).unwrap();
        let (host, port) = server.rsplit_once(':').unwrap();
        let [user, password, host, port, database] =
            [user, password, host, port, database].map(str::to_owned);
        Self {
            user,
            password,
            host,
            port,
            database,
        }
    }
}

fn postgres(tool: &str, place: &Place) -> Command {
    let login = Login::of(place);
    let mut command = Command::new(tool);
    command
        .env("PGHOST", login.host)
        .env("PGPORT", login.port)
        .env("PGUSER", login.user)
        .env("PGPASSWORD", login.password)
        .env("PGDATABASE", login.database);
    command
}

fn mysql(tool: &str, place: &Place) -> Command {
    let login = Login::of(place);
    let mut command = Command::new(tool);
    command
        .arg("--no-defaults")
        .arg(format!("--host={}", login.host))
        .arg(format!("--port={}", login.port))
        .arg(format!("--user={}", login.user))
        .env("MYSQL_PWD", login.password);
    command
}

/// The dump program of MariaDB, or else that of MySQL, which requests statistics that MariaDB lacks.
fn dumper(place: &Place) -> Command {
    if exists("mariadb-dump") {
        return mysql("mariadb-dump", place);
    }
    let mut command = mysql("mysqldump", place);
    command.args(["--column-statistics=0", "--no-tablespaces"]);
    command
}

fn exists(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok()
}

fn run(command: &mut Command) {
    let output = command
        .stderr(Stdio::piped())
        .spawn()
        .and_then(Child::wait_with_output);
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}
