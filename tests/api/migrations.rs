//! The schema: up, down and up again, by several at once, and after a kill.

use migration::{Migrator, MigratorTrait as _, SchemaManager};

use sea_orm::ConnectionTrait as _;

use crate::support::binary::ServerProcess;
use crate::support::database::{TABLES, TestDatabase};
use crate::support::place::{Backend, Place};
use crate::support::{PASSWORD, TestServer, connect, registration, validation};

#[tokio::test]
async fn migrations_go_up_down_and_up_with_rows_in_the_tables() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let database = server.place.connect().await;
    let schema = SchemaManager::new(&database);
    Migrator::down(&database, None).await.unwrap();
    for table in TABLES {
        assert!(!schema.has_table(table).await.unwrap(), "{table}");
    }
    Migrator::up(&database, None).await.unwrap();
    assert!(
        Migrator::get_pending_migrations(&database)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(server.database.count("users").await, 0);
    let again = registration(&person.phone_number, PASSWORD);
    server.client().await.register(again).await.unwrap();
}

#[tokio::test]
async fn processes_that_start_at_once_on_an_empty_database_migrate_it_once() {
    let place = Place::new().await;
    let start = || ServerProcess::start(&place, &[]);
    let servers: [ServerProcess; 4] = tokio::join!(start(), start(), start(), start()).into();
    for (server, number) in servers.iter().zip(1_u32..) {
        let mut client = connect(server.address).await;
        let someone = registration(&format!("+99890123456{number}"), PASSWORD);
        client.register(someone).await.unwrap();
    }
    let database = TestDatabase::open(&place).await;
    let count = async |table| database.count(table).await;
    let applied = i64::try_from(Migrator::migrations().len()).unwrap();
    assert_eq!(count("seaql_migrations").await, applied);
    assert_eq!((count("locks").await, count("change_log").await), (1, 1));
    assert_eq!(count("users").await, 4);
    // The logs name the process that migrated and the ones that found it done.
    for server in servers {
        server.terminate();
        let (code, log) = server.ended().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("\"ERROR\"") && !log.contains("\"WARN\""), "{log}");
    }
}

/// A real kill: the migration has made its first tables, and waits to note that it has done so.
#[tokio::test]
async fn a_start_that_is_killed_while_it_migrates_is_made_good_by_the_next_one() {
    let place = Place::new().await;
    assert!(place.run(&["migrate"], "").await.status.success());
    let database = place.connect().await;
    Migrator::down(&database, None).await.unwrap();
    let behind = TestDatabase::open(&place).await;
    let held = behind.hold_migrations().await;
    let mut migration = place.command().arg("migrate").spawn().unwrap();
    TestDatabase::open(&place).await.lock_is_awaited().await;
    migration.kill().unwrap();
    assert!(!migration.wait().unwrap().success());
    held.release().await;
    let has_users = SchemaManager::new(&database).has_table("users").await.unwrap();
    // Schema changes are transactional, except on MySQL.
    assert_eq!(has_users, Backend::of_this_run() == Backend::MySql);

    let server = ServerProcess::start(&place, &[]).await;
    let mut client = connect(server.address).await;
    client
        .register(registration("+998901234567", PASSWORD))
        .await
        .unwrap();
    let schema = SchemaManager::new(&database);
    for table in TABLES {
        assert!(schema.has_table(table).await.unwrap(), "{table}");
    }
    assert!(
        schema
            .has_index("sessions", "idx_sessions_user_id_created_at")
            .await
            .unwrap()
    );
    assert_eq!(TestDatabase::open(&place).await.count("locks").await, 1);
}

/// MySQL commits what changes the schema at once, so a migration that is killed stays half done, and is not noted as
/// done.
#[tokio::test]
async fn the_next_start_finishes_a_killed_migration() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[]).await;
    let mut client = connect(server.address).await;
    let registered = client
        .register(registration("+998901234567", PASSWORD))
        .await
        .unwrap();
    let token = registered.into_inner().session_token;
    server.terminate();
    assert_eq!(server.ended().await.0, Some(0));

    let database = place.connect().await;
    let before = TestDatabase::open(&place).await.dump().await;
    // Killed before the note, and after the first, and between two tables.
    for (kept, dropped) in [
        (0, vec![]),
        (1, vec![]),
        (0, vec!["locks"]),
        (1, vec!["identity_changes", "change_log"]),
    ] {
        for migration in &Migrator::migrations()[kept..] {
            let forget = format!(
                "DELETE FROM seaql_migrations WHERE version = '{}'",
                migration.name()
            );
            database.execute_unprepared(&forget).await.unwrap();
        }
        for table in &dropped {
            database
                .execute_unprepared(&format!("DROP TABLE {table}"))
                .await
                .unwrap();
        }
        let output = place.run(&["migrate"], "").await;
        assert!(output.status.success(), "{kept} {dropped:?}: {output:?}");
        let after = TestDatabase::open(&place).await.dump().await;
        if !dropped.contains(&"change_log") {
            assert_eq!(after, before, "{kept} {dropped:?}");
        }
    }
    let server = ServerProcess::start(&place, &[]).await;
    let mut client = connect(server.address).await;
    client.validate_session(validation(&token)).await.unwrap();
}

/// As during a rolling upgrade: the newer version has migrated, and the older one has to be started again.
#[tokio::test]
async fn an_older_version_starts_on_a_schema_of_a_newer_one() {
    let place = Place::new().await;
    assert!(place.run(&["migrate"], "").await.status.success());
    let database = place.connect().await;
    let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29991231_000001_newer', 0)";
    database.execute_unprepared(newer).await.unwrap();
    let server = ServerProcess::start(&place, &[]).await;
    let mut client = connect(server.address).await;
    client
        .register(registration("+998901234567", PASSWORD))
        .await
        .unwrap();
}
