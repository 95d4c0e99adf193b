//! The database of a test, behind the server's back: to look into it, and to hold it.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait as _, Database, DatabaseConnection, DatabaseTransaction, DbBackend,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait as _,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::Person;

/// A connection to the database of a server.
pub(crate) struct TestDatabase {
    connection: DatabaseConnection,
}

impl TestDatabase {
    pub(crate) async fn open(url: &str) -> Self {
        Self {
            connection: Database::connect(url).await.unwrap(),
        }
    }

    /// Runs a statement with the id of a person as its only value.
    pub(crate) async fn execute(&self, statement: &str, person: &Person) {
        execute(&self.connection, statement, person).await;
    }

    /// Counts the rows of a table.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        let statement =
            Statement::from_string(DbBackend::Sqlite, format!("SELECT COUNT(*) AS n FROM {table}"));
        self.connection
            .query_one_raw(statement)
            .await
            .unwrap()
            .unwrap()
            .try_get("", "n")
            .unwrap()
    }

    /// Waits until a query finds a row, and fails if it does not within ten seconds. The id of a person is its only value.
    pub(crate) async fn wait_for(&self, query: &str, person: &Person) {
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, query, [id_of(person).into()]);
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let waiting = async {
            while self
                .connection
                .query_one_raw(statement.clone())
                .await
                .unwrap()
                .is_none()
            {
                ticks.tick().await;
            }
        };
        timeout(Duration::from_secs(10), waiting)
            .await
            .expect("was not found");
    }

    /// The PHC string of a person's password.
    pub(crate) async fn password_hash(&self, person: &Person) -> String {
        let sql = "SELECT password_hash FROM users WHERE id = ?";
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, [id_of(person).into()]);
        self.connection
            .query_one_raw(statement)
            .await
            .unwrap()
            .unwrap()
            .try_get("", "password_hash")
            .unwrap()
    }

    /// All that is stored, as text: every column of every row of every table.
    pub(crate) async fn dump(&self) -> String {
        let mut dump = String::new();
        for table in ["users", "sessions", "locks", "identity_changes", "change_log"] {
            let sql = format!("SELECT * FROM {table}");
            let rows = self
                .connection
                .query_all_raw(Statement::from_string(DbBackend::Sqlite, sql))
                .await
                .unwrap();
            for row in rows {
                for column in row.column_names() {
                    let text: Option<String> = row.try_get("", &column).unwrap_or_else(|_| {
                        let bytes: Vec<u8> = row.try_get("", &column).unwrap_or_default();
                        Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
                    });
                    dump.push_str(&format!("{table}.{column}={}\n", text.unwrap_or_default()));
                }
            }
        }
        dump
    }

    /// Keeps everybody else from writing, until the transaction is committed. Reading goes on.
    pub(crate) async fn hold_writes(&self) -> HeldWrites {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        HeldWrites {
            transaction: self.connection.begin_with_options(options).await.unwrap(),
        }
    }
}

/// A transaction that holds the write lock.
pub(crate) struct HeldWrites {
    transaction: DatabaseTransaction,
}

impl HeldWrites {
    /// Runs a statement with the id of a person as its only value.
    pub(crate) async fn execute(&self, statement: &str, person: &Person) {
        execute(&self.transaction, statement, person).await;
    }

    /// Commits, and lets the others write.
    pub(crate) async fn release(self) {
        self.transaction.commit().await.unwrap();
    }
}

async fn execute(db: &impl sea_orm::ConnectionTrait, statement: &str, person: &Person) {
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, statement, [id_of(person).into()]);
    assert!(
        db.execute_raw(statement).await.unwrap().rows_affected() > 0,
        "nothing changed"
    );
}

fn id_of(person: &Person) -> Uuid {
    person.user.user_id.parse().unwrap()
}
