//! Tests of the SQLite file. They do not run on the other databases (see scripts/test.sh).

mod abuse;
mod backup;
mod file;
mod limits;
mod lists;
mod together;

use crate::process::refusal_to_start_in;
use crate::support::binary::ServerProcess;
use crate::support::place::{Place, write_secret};
use crate::support::{PASSWORD, connect, registration};

#[test]
fn a_database_that_cannot_be_used_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("a_folder")).unwrap();
    write_secret(
        &folder.path().join("a_text"),
        "this is not a database, and long enough to be looked at".repeat(40),
    );
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
async fn settings_come_from_the_environment_and_from_dotenv_and_empty_means_unset() {
    let place = Place::new().await;
    let dotenv = "DATABASE_URL=sqlite://from_dotenv.db\nPHONE_IDENTITY_LOG_FORMAT=\nPHONE_IDENTITY_LISTEN=\n";
    write_secret(&place.path().join(".env"), dotenv);
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
