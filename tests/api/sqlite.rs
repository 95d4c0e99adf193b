//! What only SQLite has: a file. These tests are not run on the other databases (see scripts/test.sh).

mod abuse;
mod backup;
mod file;
mod limits;
mod lists;
mod together;

use std::os::unix::fs::PermissionsExt as _;

use crate::process::refusal_to_start_in;
use crate::support::binary::ServerProcess;
use crate::support::place::Place;
use crate::support::{PASSWORD, connect, registration};

#[test]
fn a_database_that_cannot_be_used_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("a_folder")).unwrap();
    std::fs::write(
        folder.path().join("a_text"),
        "this is not a database, and long enough to be looked at".repeat(40),
    )
    .unwrap();
    for url in [
        "sqlite://a_folder",
        "sqlite://missing/folder.db",
        "sqlite://a_text",
        "sqlite://a.db?mode=ro",
    ] {
        let line = refusal_to_start_in(
            folder.path(),
            &["--listen=127.0.0.1:0", "--database-url", url],
            &[],
        );
        assert!(
            line.starts_with("error: the database of DATABASE_URL cannot be used: "),
            "{url}: {line}"
        );
    }
}

#[tokio::test]
async fn the_file_is_nobody_elses_to_read() {
    let place = Place::new().await;
    assert!(place.run(&["migrate"], "").await.status.success());
    // It has hashes and numbers in it.
    let mode = std::fs::metadata(place.path().join("phone-identity.db"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn settings_come_from_the_environment_and_from_dotenv_and_empty_means_unset() {
    let place = Place::new().await;
    let dotenv = "DATABASE_URL=sqlite://from_dotenv.db\nPHONE_IDENTITY_LOG_FORMAT=\nPHONE_IDENTITY_LISTEN=\n";
    std::fs::write(place.path().join(".env"), dotenv).unwrap();
    let server = ServerProcess::start(&place, &["--default-region="]).await;
    connect(server.address)
        .await
        .register(registration("+998901234567", PASSWORD))
        .await
        .unwrap();
    server.terminate();
    assert_eq!(server.ended().await.0, Some(0));
    assert!(place.path().join("from_dotenv.db").exists());
}
