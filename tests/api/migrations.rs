//! The schema goes up, down and up again.

use migration::{Migrator, MigratorTrait as _, SchemaManager};

use crate::support::database::TABLES;
use crate::support::{PASSWORD, TestServer, registration};

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
