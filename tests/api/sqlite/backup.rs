//! `backup`: a copy of the file, made while it is used.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::slice;

use phone_identity::proto::v1;
use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement};

use crate::restore::epoch;
use crate::support::binary::ServerProcess;
use crate::support::place::Place;
use crate::support::{PASSWORD, connect, credentials, next_phone_number, registration, validation};

async fn back_up(place: &Place, file: &str) -> Output {
    place.run(&["backup", file], "").await
}

/// The one line that it fails with.
fn failure(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

/// The names of what is in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The numbers of the people in a file, after a check of all that is in it.
async fn people(file: &Path) -> Vec<String> {
    let database = Database::connect(format!("sqlite://{}", file.display()))
        .await
        .unwrap();
    let query = async |sql: &str| {
        let statement = Statement::from_string(DbBackend::Sqlite, sql);
        database.query_all_raw(statement).await.unwrap()
    };
    let checked = query("PRAGMA integrity_check").await;
    assert_eq!(checked[0].try_get_by_index::<String>(0).unwrap(), "ok");
    assert!(query("PRAGMA foreign_key_check").await.is_empty());
    // Everybody registers in one transaction, with a session, and signs out in another, with a line in the log.
    let torn = query(
        "SELECT 1 FROM change_log WHERE last_seq <> (SELECT COUNT(*) FROM identity_changes) \
         OR last_seq + (SELECT COUNT(*) FROM sessions) <> (SELECT COUNT(*) FROM users)",
    );
    assert!(torn.await.is_empty());
    let rows = query("SELECT phone_number FROM users").await;
    let numbers = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    database.close().await.unwrap();
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_writers_is_the_database_at_one_moment() {
    const WRITERS: usize = 4;

    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[]).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (acknowledge, mut acknowledged) = tokio::sync::mpsc::channel(100_000);
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (address, acknowledge, stopped) = (server.address, acknowledge.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut client = connect(address).await;
                while !*stopped.borrow() {
                    let number = next_phone_number();
                    let registered = client.register(registration(&number, PASSWORD)).await.unwrap();
                    acknowledge.send(number).await.unwrap();
                    let revoke = v1::RevokeSessionRequest {
                        session_token: registered.into_inner().session_token,
                    };
                    client.revoke_session(revoke).await.unwrap();
                }
            })
        })
        .collect();
    let mut known = Vec::new();
    let mut sizes = Vec::new();
    for round in 0..5 {
        // Some more.
        for _ in 0..50 {
            known.push(acknowledged.recv().await.unwrap());
        }
        while let Ok(number) = acknowledged.try_recv() {
            known.push(number);
        }
        let file = place.path().join(format!("backup-{round}"));
        let name = file.to_str().unwrap();
        let made = back_up(&place, name).await;
        assert!(made.status.success(), "{made:?}");
        assert_eq!(
            String::from_utf8(made.stdout).unwrap(),
            format!("backup made: {name}\n")
        );
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let people = people(&file).await;
        for number in &known {
            assert!(people.contains(number), "{number} is not in it");
        }
        sizes.push(people.len());
    }
    stop.send(true).unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(sizes.is_sorted_by(|before, after| before < after), "{sizes:?}");
}

/// As README.md says: the process is ended, the file is put into the place of the old one, whose other files are
/// removed.
#[tokio::test]
async fn a_backup_is_a_database_that_gets_an_epoch_of_its_own_every_time() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[]).await;
    let mut client = connect(server.address).await;
    let number = next_phone_number();
    let registered = client.register(registration(&number, PASSWORD)).await.unwrap();
    let token = registered.into_inner().session_token;
    assert!(back_up(&place, "backup.db").await.status.success());
    client
        .register(registration(&next_phone_number(), PASSWORD))
        .await
        .unwrap();
    server.signal("KILL");
    server.ended().await;
    let file = |name: &str| -> PathBuf { place.path().join(name) };
    assert!(file("phone-identity.db-wal").exists());

    let mut epochs = vec![epoch(&place).await];
    for _ in 0..2 {
        fs::remove_file(file("phone-identity.db")).unwrap();
        for rest in ["phone-identity.db-wal", "phone-identity.db-shm"] {
            let _ = fs::remove_file(file(rest));
        }
        fs::copy(file("backup.db"), file("phone-identity.db")).unwrap();
        let server = ServerProcess::start(&place, &[]).await;
        let mut client = connect(server.address).await;
        client.validate_session(validation(&token)).await.unwrap();
        client.authenticate(credentials(&number, PASSWORD)).await.unwrap();
        server.terminate();
        assert_eq!(server.ended().await.0, Some(0));
        assert_eq!(people(&file("backup.db")).await, slice::from_ref(&number));
        epochs.push(epoch(&place).await);
        // And keeps it.
        assert!(place.run(&["migrate"], "").await.status.success());
        assert_eq!(epochs.last(), Some(&epoch(&place).await));
    }
    epochs.sort();
    epochs.dedup();
    assert_eq!(epochs.len(), 3);
    assert!(!epochs.contains(&"0".repeat(32)));
}

#[tokio::test]
async fn what_cannot_be_backed_up_is_one_clear_line_and_leaves_nothing() {
    let place = Place::new().await;
    let missing = failure(&back_up(&place, "backup.db").await, 2);
    assert!(
        missing.starts_with("error: the database of DATABASE_URL cannot be used: "),
        "{missing}"
    );
    assert!(names(place.path()).is_empty());

    assert!(place.run(&["migrate"], "").await.status.success());
    fs::write(place.path().join("taken"), "something else").unwrap();
    let before = names(place.path());
    let taken = failure(&back_up(&place, "taken").await, 1);
    assert_eq!(taken, "error: no backup taken: the file is there already\n");
    assert_eq!(fs::read(place.path().join("taken")).unwrap(), b"something else");
    let nowhere = failure(&back_up(&place, "no/such/folder").await, 1);
    assert!(
        nowhere.starts_with("error: no backup no/such/folder: the file cannot be written: "),
        "{nowhere}"
    );
    for (url, tool) in [
        ("postgres://me:hunter2@127.0.0.1:1/identity", "pg_dump"),
        (
            "mysql://me:hunter2@127.0.0.1:1/identity",
            "mariadb-dump or mysqldump",
        ),
        ("sqlite::memory:", "in memory"),
        ("sqlite://taken", "DATABASE_URL"),
    ] {
        let output = place
            .run(&["backup", "backup.db", "--database-url", url], "")
            .await;
        let line = failure(&output, 2);
        assert!(line.contains(tool) && !line.contains("hunter2"), "{line}");
    }
    assert_eq!(names(place.path()), before);
}

/// A database that is damaged is found out in the middle of the copy.
#[tokio::test]
async fn a_backup_that_fails_half_way_leaves_nothing() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[]).await;
    let mut client = connect(server.address).await;
    for _ in 0..50 {
        let someone = registration(&next_phone_number(), PASSWORD);
        client.register(someone).await.unwrap();
    }
    server.terminate();
    assert_eq!(server.ended().await.0, Some(0));
    let path = place.path().join("phone-identity.db");
    // The last page has people or sessions on it.
    let mut database = fs::OpenOptions::new().write(true).open(&path).unwrap();
    database.seek(SeekFrom::End(-4096)).unwrap();
    database.write_all(&[0xff; 4096]).unwrap();
    drop(database);
    let line = failure(&back_up(&place, "backup.db").await, 1);
    assert!(
        line.starts_with("error: no backup backup.db: the database cannot be copied: "),
        "{line}"
    );
    let left = names(place.path());
    assert!(
        left.iter().all(|name| name.starts_with("phone-identity.db")),
        "{left:?}"
    );
}
