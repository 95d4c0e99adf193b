//! Versions that follow one another: databases of earlier ones, and a newer one beside this one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use migration::{Migrator, MigratorTrait as _};
use phone_identity::proto::v1;
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, TransactionTrait as _};
use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::metrics::until_readyz_is;
use crate::revocation::until_invalid;
use crate::support::binary::ServerProcess;
use crate::support::native;
use crate::support::place::{Backend, Place};
use crate::support::refusal::assert_refused;
use crate::support::{
    PASSWORD, Person, TestServer, connect, credentials, registration, validation, with_bearer,
};

/// Databases that earlier versions have left, as `scripts/schema-fixture.sh` made them.
fn fixtures() -> Vec<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let folders = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    folders
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("schema-"))
        .collect()
}

fn file_name() -> &'static str {
    match Backend::of_this_run() {
        Backend::Sqlite => "sqlite",
        Backend::Postgres => "postgres",
        Backend::MySql => "mysql",
    }
}

fn tokens(field: &str) -> impl Iterator<Item = &str> {
    field.split(',').filter(|token| *token != "-")
}

#[tokio::test]
async fn a_database_of_an_earlier_version_opens_with_nothing_lost() {
    let fixtures = fixtures();
    assert!(!fixtures.is_empty());
    for folder in fixtures {
        let place = Place::new().await;
        native::load(&place, &folder.join(file_name()).with_extension("sql")).await;
        // The clock is before all stored times, so that nothing has ended.
        let server = TestServer::start_in(place, &[], None).await;
        let mut client = server.client().await;
        let people = fs::read_to_string(folder.join(file_name()).with_extension("tsv")).unwrap();
        let mut users = BTreeMap::new();
        for person in people.lines() {
            let [number, password, expected, good, bad] = person.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{person}")
            };
            for token in tokens(good) {
                let valid = client.validate_session(validation(token)).await;
                let valid = valid
                    .unwrap_or_else(|status| panic!("{person}: {status}"))
                    .into_inner();
                let user = valid.user.unwrap();
                assert_eq!(user.phone_number, number);
                assert_eq!(
                    valid.session.unwrap().auth_methods,
                    [i32::from(v1::AuthMethod::Password)]
                );
                users.insert(number, user);
            }
            for token in tokens(bad) {
                let dead = client.validate_session(validation(token)).await;
                assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
            }
            let signed_in = client.authenticate(credentials(number, password)).await;
            match expected {
                "active" | "superuser" => {
                    let user = signed_in.unwrap_or_else(|status| panic!("{person}: {status}"));
                    let user = user.into_inner().user.unwrap();
                    assert_eq!(user.is_superuser, expected == "superuser");
                    assert_eq!(user.user_id, users[number].user_id);
                }
                "deactivated" => {
                    assert_refused(signed_in, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
                    let again = v1::AuthenticateRequest {
                        reactivate: true,
                        ..credentials(number, password)
                    };
                    client.authenticate(again).await.unwrap();
                }
                _ => assert_refused(signed_in, Code::Unauthenticated, "INVALID_CREDENTIALS"),
            }
        }
        // Data of one version only.
        assert_eq!(users["+16502530000"].locale.as_deref(), Some("uz-Latn-UZ"));
        let (staff, without) = (&users["+998901000006"], &users["+998901000001"]);
        assert!(staff.is_staff && !staff.has_password && staff.phone_verified_at.is_some());
        assert!(!without.is_staff && without.has_password && without.phone_verified_at.is_none());
        let first = people.lines().next().unwrap().split('\t').nth(3).unwrap();
        let first = first.split(',').next().unwrap();
        let listed = client
            .list_sessions(with_bearer(first, v1::ListSessionsRequest {}))
            .await;
        let sessions = listed.unwrap().into_inner().sessions;
        assert_eq!(sessions.len(), 3);
        let device = |session: &v1::Session| session.client.clone().unwrap_or_default();
        assert!(sessions.iter().map(device).any(|device| {
            device.ip_address == "2001:db8::7" && device.user_agent == "Example/1.0 (телефон; O‘zbekiston 📱)"
        }));
        // Later writes continue from there.
        let log = server.database.count("identity_changes").await;
        let revoke = v1::RevokeSessionRequest {
            session_token: first.to_owned(),
        };
        client.revoke_session(revoke).await.unwrap();
        assert_eq!(server.database.count("identity_changes").await, log + 1);
        client
            .register(registration("+998901000009", PASSWORD))
            .await
            .unwrap();
        assert!(place_is_migrated(&server.place.connect().await).await);
    }
}

async fn place_is_migrated(database: &DatabaseConnection) -> bool {
    Migrator::get_pending_migrations(database)
        .await
        .unwrap()
        .is_empty()
}

/// Additions of a newer version to the schema while this one runs (see CONTRIBUTING.md).
async fn expand(database: &DatabaseConnection) {
    let text = if database.get_database_backend() == DbBackend::MySql {
        "VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    } else {
        "VARCHAR(64)"
    };
    for statement in [
        format!("ALTER TABLE users ADD COLUMN nickname {text}"),
        "ALTER TABLE users ADD COLUMN failures INTEGER NOT NULL DEFAULT 0".to_owned(),
        format!("ALTER TABLE sessions ADD COLUMN device {text}"),
        format!("ALTER TABLE identity_changes ADD COLUMN reason {text}"),
        "CREATE TABLE codes (id INTEGER NOT NULL PRIMARY KEY, user_id INTEGER)".to_owned(),
        "CREATE INDEX idx_users_nickname ON users (nickname)".to_owned(),
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29991231_000001_newer', 1)".to_owned(),
    ] {
        database.execute_unprepared(&statement).await.unwrap();
    }
}

/// Values of a newer version that this one does not know.
async fn write_as_a_newer_version(server: &TestServer, person: &Person) {
    server
        .database
        .execute(
            "UPDATE sessions SET auth_methods = 'password,passkey' WHERE user_id = ?",
            person,
        )
        .await;
}

/// A rolling upgrade: the new version has migrated. This version continues, restarts, and serves calls.
#[tokio::test]
async fn a_newer_version_beside_this_one_disturbs_nothing() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    client.validate_session(validation(&person.token)).await.unwrap();

    expand(&server.place.connect().await).await;
    write_as_a_newer_version(&server, &person).await;

    // The one that runs, and then one that starts.
    let mut server = server;
    for _ in 0..2 {
        let mut client = server.client().await;
        let valid = client.validate_session(v1::ValidateSessionRequest {
            consistency: v1::Consistency::Strong.into(),
            ..validation(&person.token)
        });
        let session = valid.await.unwrap().into_inner().session.unwrap();
        assert_eq!(session.auth_methods, [i32::from(v1::AuthMethod::Password)]);
        let other = server.person().await;
        let again = person.sign_in_again(&server).await;
        let change = v1::UpdateProfileRequest {
            locale: Some("uz".to_owned()),
            ..v1::UpdateProfileRequest::default()
        };
        client.update_profile(again.asks(change)).await.unwrap();
        let revoke = v1::RevokeSessionRequest {
            session_token: again.token,
        };
        client.revoke_session(revoke).await.unwrap();
        let delete = v1::DeleteProfileRequest {
            current_password: Some(PASSWORD.to_owned()),
        };
        client.delete_profile(other.asks(delete)).await.unwrap();
        server = server.restart_with(&[]).await;
    }
    let migrated = server.place.run(&["migrate"], "").await;
    assert!(migrated.status.success(), "{migrated:?}");
}

/// An entry of a kind that this version does not know counts for the user that it names, or for all users.
#[tokio::test]
async fn a_change_that_this_version_has_no_name_for_is_heeded() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &["--staleness-bound=1h"]).await;
    let database = place.connect().await;
    let mut client = connect(server.address).await;
    for user in ["(SELECT id FROM users)", "NULL"] {
        let number = "+998901234567";
        let registered = client.register(registration(number, PASSWORD)).await.unwrap();
        let token = registered.into_inner().session_token;
        client.validate_session(validation(&token)).await.unwrap();
        let newer = database.begin().await.unwrap();
        for statement in [
            "UPDATE change_log SET last_seq = last_seq + 1".to_owned(),
            format!(
                "INSERT INTO identity_changes (seq, kind, user_id, at) \
                 SELECT last_seq, 'user_merged', {user}, '2026-11-24 12:00:00' FROM change_log"
            ),
            "DELETE FROM users".to_owned(),
        ] {
            let statement = match Backend::of_this_run() {
                Backend::Sqlite => statement.replace("12:00:00", "12:00:00+00:00"),
                Backend::Postgres => statement
                    .replace("'2026-11-24 12:00:00'", "TIMESTAMPTZ '2026-11-24 12:00:00Z'")
                    .replace("NULL", "CAST(NULL AS UUID)"),
                Backend::MySql => statement,
            };
            newer.execute_unprepared(&statement).await.unwrap();
        }
        newer.commit().await.unwrap();
        until_invalid(&mut client, &token).await;
    }
}

/// An applied migration that is neither known nor newer is from another program.
#[tokio::test]
async fn a_schema_of_something_else_is_refused() {
    let place = Place::new().await;
    assert!(place.run(&["migrate"], "").await.status.success());
    place
        .connect()
        .await
        .execute_unprepared(
            "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m20220101_000001_cakes', 1)",
        )
        .await
        .unwrap();
    let refused = place.run(&["migrate"], "").await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(stderr.contains("m20220101_000001_cakes"), "{stderr}");
}

/// The program `examples/next_version.rs`, which is built along with the tests.
fn next_version() -> PathBuf {
    let this = Path::new(env!("CARGO_BIN_EXE_phone-identity"));
    this.parent().unwrap().join("examples/next_version")
}

/// Two builds on one database: this version, and the next one, which begins to use a feature that this version would
/// undo. From then on, this version rejects all calls, logs the reason, and does not start. The next one continues.
#[tokio::test]
async fn a_version_below_the_floor_answers_nothing_and_does_not_start() {
    let place = Place::new().await;
    let this = ServerProcess::start(&place, &["--metrics-listen=127.0.0.1:0"]).await;
    let mut client = connect(this.address).await;
    let user = "+998901000001";
    let registered = client.register(registration(user, PASSWORD)).await.unwrap();
    let token = registered.into_inner().session_token;
    let next = ServerProcess::start_program(&next_version(), &place, &["--listen=127.0.0.1:0"]).await;
    let mut newer = connect(next.address).await;
    for _ in 0..2 {
        client.validate_session(validation(&token)).await.unwrap();
        newer.validate_session(validation(&token)).await.unwrap();
    }

    let mut raise = Command::new(next_version());
    raise.arg("raise-version-floor").env("DATABASE_URL", place.url());
    assert!(raise.status().unwrap().success());
    let raised = Instant::now();
    // Also a check that could be answered from memory.
    let unavailable = async { while client.validate_session(validation(&token)).await.is_ok() {} };
    timeout(Duration::from_secs(10), unavailable)
        .await
        .expect("goes on");
    // The staleness bound, and as much for a machine that does other things, too.
    assert!(
        raised.elapsed() < Duration::from_secs(2),
        "{:?}",
        raised.elapsed()
    );
    let checked = client.validate_session(validation(&token)).await;
    assert_refused(checked, Code::Unavailable, "DATABASE_UNAVAILABLE");
    let signed_in = client.authenticate(credentials(user, PASSWORD)).await;
    assert_refused(signed_in, Code::Unavailable, "DATABASE_UNAVAILABLE");
    until_readyz_is(this.metrics.unwrap(), 503).await;
    this.has_logged("the database requires version level", 1).await;

    newer.validate_session(validation(&token)).await.unwrap();
    newer.authenticate(credentials(user, PASSWORD)).await.unwrap();
    let started = place.run(&["serve", "--listen=127.0.0.1:0"], "").await;
    let said = String::from_utf8(started.stderr).unwrap();
    assert_eq!(started.status.code(), Some(2), "{said}");
    assert!(said.contains("it requires version level"), "{said}");
}
