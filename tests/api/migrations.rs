//! The schema goes up, down and up again.

use migration::{Migrator, MigratorTrait as _};
use sea_orm::{ConnectionTrait as _, Database};

use crate::support::database::TestDatabase;
use crate::support::{TestServer, registration};

#[tokio::test]
async fn migrations_go_up_down_and_up_with_rows_in_the_tables() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let url = server.database_url();
    let database = Database::connect(&url).await.unwrap();
    Migrator::down(&database, None).await.unwrap();
    let tables = TestDatabase::open(&url)
        .await
        .count("sqlite_master WHERE name IN ('users', 'sessions', 'locks', 'identity_changes', 'change_log')")
        .await;
    assert_eq!(tables, 0);
    Migrator::up(&database, None).await.unwrap();
    assert!(
        Migrator::get_pending_migrations(&database)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(server.database.count("users").await, 0);
    let again = registration(&person.phone_number, crate::support::PASSWORD);
    server.client().await.register(again).await.unwrap();
    database
        .execute_unprepared("PRAGMA integrity_check")
        .await
        .unwrap();
}
