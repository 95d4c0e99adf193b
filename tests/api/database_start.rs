//! Checks of the database at startup, before any change, and the wait for its server.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::Duration;

use sea_orm::{ConnectionTrait as _, DatabaseConnection, Statement};
use tokio::time::{Instant, sleep, timeout};

use crate::support::binary::ServerProcess;
use crate::support::database_server::DatabaseServer;
use crate::support::place::{Backend, Place, write_secret};
use crate::support::{PASSWORD, connect, next_phone_number, registration};

/// Runs `serve`, which must end with exit code 2. Returns its single line of output.
fn refusal(place: &Place, url: &str) -> String {
    let mut command = place.command();
    command
        .env("DATABASE_URL", url)
        .args(["serve", "--listen=127.0.0.1:0", "--database-start-timeout=0s"]);
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{said}");
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with('{')).collect();
    let [line] = lines.as_slice() else {
        panic!("not one line: {said}")
    };
    (*line).to_owned()
}

async fn tables(database: &DatabaseConnection) -> Vec<String> {
    let sql = match Backend::of_this_run() {
        Backend::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name",
        Backend::Postgres => {
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
        }
        Backend::MySql => {
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY 1"
        }
    };
    let statement = Statement::from_string(database.get_database_backend(), sql);
    let rows = database.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

#[tokio::test]
async fn the_database_of_another_program_is_refused_and_left_as_it_is() {
    for foreign in [
        &["CREATE TABLE users (id INTEGER PRIMARY KEY, name VARCHAR(64))"][..],
        &[
            "CREATE TABLE sessions (id INTEGER PRIMARY KEY)",
            "CREATE TABLE seaql_migrations (version VARCHAR(255) PRIMARY KEY, applied_at BIGINT NOT NULL)",
            "INSERT INTO seaql_migrations VALUES ('m20990101_000001_of_another_program', 0)",
        ],
    ] {
        let place = Place::new().await;
        if Backend::of_this_run() == Backend::Sqlite {
            write_secret(&place.path().join("phone-identity.db"), "");
        }
        let database = place.connect().await;
        for statement in foreign {
            database.execute_unprepared(statement).await.unwrap();
        }
        let before = tables(&database).await;
        let line = refusal(&place, &place.url());
        assert!(line.contains("of another program"), "{line}");
        assert_eq!(tables(&database).await, before);
        let columns = "SELECT * FROM users WHERE id IS NULL AND name IS NULL";
        if before.contains(&"users".to_owned()) {
            database.execute_unprepared(columns).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_database_that_a_newer_version_protects_is_refused() {
    let place = Place::new().await;
    assert!(place.run(&["migrate"], "").await.status.success());
    let database = place.connect().await;
    database
        .execute_unprepared("UPDATE change_log SET version_floor = 1000")
        .await
        .unwrap();
    let line = refusal(&place, &place.url());
    assert!(line.contains("it requires version level 1000"), "{line}");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_refused() {
    if Backend::of_this_run() != Backend::Sqlite {
        eprintln!("NOT RUN: about SQLite's file");
        return;
    }
    let place = Place::new().await;
    assert!(place.run(&["migrate"], "").await.status.success());
    let file = place.path().join("phone-identity.db");
    let line = refusal(&place, &format!("sqlite://{}?mode=ro", file.display()));
    assert!(line.contains("cannot be written"), "{line}");

    // As another user: root may write any file.
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT RUN: without root there is no other user");
        return;
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).unwrap();
    let chown = std::process::Command::new("chown")
        .args(["-R", "nobody"])
        .arg(place.path())
        .status();
    assert!(chown.unwrap().success());
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid", "nobody", "--clear-groups"])
        .arg(place.command().get_program())
        .args(["serve", "--listen=127.0.0.1:0"])
        .current_dir(place.path())
        .env_clear();
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("readonly"), "{said}");
}

#[tokio::test]
async fn an_encoding_that_lacks_characters_is_refused() {
    if Backend::of_this_run() != Backend::Postgres {
        eprintln!("NOT RUN: about encodings of PostgreSQL");
        return;
    }
    let place = Place::new().await;
    let name = format!("latin1_{}", uuid::Uuid::new_v4().simple());
    let create = format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    place.connect().await.execute_unprepared(&create).await.unwrap();
    let (server, rest) = place
        .url()
        .rsplit_once('/')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let parameters = rest
        .split_once('?')
        .map(|(_, parameters)| parameters.to_owned())
        .unwrap();
    let line = refusal(&place, &format!("{server}/{name}?{parameters}"));
    assert!(line.contains("its encoding is LATIN1"), "{line}");
    let drop = format!("DROP DATABASE {name} WITH (FORCE)");
    place.connect().await.execute_unprepared(&drop).await.unwrap();
}

#[tokio::test]
async fn an_engine_and_a_collation_that_are_not_ours_are_refused() {
    if Backend::of_this_run() != Backend::MySql {
        eprintln!("NOT RUN: about engines of MariaDB");
        return;
    }
    for change in [
        "ALTER TABLE heartbeat ENGINE = MyISAM",
        "ALTER TABLE devices CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
    ] {
        let place = Place::new().await;
        assert!(place.run(&["migrate"], "").await.status.success());
        place.connect().await.execute_unprepared(change).await.unwrap();
        let line = refusal(&place, &place.url());
        assert!(line.contains("and not InnoDB and utf8mb4_bin"), "{line}");
    }
}

#[tokio::test]
async fn a_binlog_of_statements_is_refused() {
    if Backend::of_this_run() != Backend::MySql {
        eprintln!("NOT RUN: about the binlog of MariaDB");
        return;
    }
    let settings = ["--log-bin=binlog", "--binlog-format=STATEMENT", "--server-id=1"].map(str::to_owned);
    let server = DatabaseServer::start(Backend::MySql, &settings).await;
    let place = Place::on(server.url()).await;
    let line = refusal(&place, &place.url());
    assert!(line.contains("its binlog_format is STATEMENT"), "{line}");
    drop(place);
}

/// Containers start in any order.
#[tokio::test]
async fn the_start_waits_for_a_server_that_starts_later() {
    let backend = Backend::of_this_run();
    if backend == Backend::Sqlite {
        eprintln!("NOT RUN: SQLite has no server");
        return;
    }
    let mut server = DatabaseServer::start(backend, &[]).await;
    let place = Place::on(server.url()).await;
    server.kill().await;
    let starting = ServerProcess::start(&place, &["--database-acquire-timeout=2s"]);
    let returning = async {
        // Long enough for it to have tried in vain.
        sleep(Duration::from_millis(600)).await;
        server.start_again().await;
    };
    let (service, ()) = tokio::join!(starting, returning);
    service.has_logged("waiting for the database", 1).await;
    let mut client = connect(service.address).await;
    let user = registration(&next_phone_number(), PASSWORD);
    client.register(user).await.unwrap();
}

#[tokio::test]
async fn a_start_that_waits_ends_when_it_is_told_to() {
    let backend = Backend::of_this_run();
    if backend == Backend::Sqlite {
        eprintln!("NOT RUN: SQLite has no server");
        return;
    }
    let place = Place::without_database();
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = match backend {
        Backend::Postgres => format!("postgres://me@{address}/identity"),
        _ => format!("mysql://me@{address}/identity"),
    };
    let mut child = tokio::process::Command::from(place.command())
        .args(["serve", "--listen=127.0.0.1:0", "--database-start-timeout=1m"])
        .env("DATABASE_URL", url)
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stderr.take().unwrap()));
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("waiting for the database") {
            break;
        }
    }
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    let told = Instant::now();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = timeout(Duration::from_secs(10), child.wait())
        .await
        .expect("does not end")
        .unwrap();
    assert_eq!(status.code(), Some(0), "after {:?}", told.elapsed());
}
