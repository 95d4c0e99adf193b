//! The database of a test, behind the server's back: to look into it, and to hold it.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, IsolationLevel, QueryResult,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait as _,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::Person;
use super::place::Place;

/// The tables of the service.
pub(crate) const TABLES: [&str; 12] = [
    "users",
    "sessions",
    "locks",
    "identity_changes",
    "change_log",
    "audit_events",
    "audit_erasures",
    "attempts",
    "devices",
    "service_keys",
    "challenges",
    "outbox_messages",
];

/// A connection to the database of a server.
pub(crate) struct TestDatabase {
    connection: DatabaseConnection,
}

impl TestDatabase {
    pub(crate) async fn open(place: &Place) -> Self {
        Self {
            connection: place.connect().await,
        }
    }

    /// Runs a statement with the id of a user as its only value.
    pub(crate) async fn execute(&self, statement: &str, person: &Person) {
        execute(&self.connection, statement, person).await;
    }

    /// Counts the rows of a table.
    pub(crate) async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) AS n FROM {table}");
        let row = self.query(Statement::from_string(self.backend(), sql)).await;
        row.unwrap().try_get("", "n").unwrap()
    }

    /// Counts the sessions of a user, ended or not.
    pub(crate) async fn sessions_of(&self, person: &Person) -> i64 {
        let sql = "SELECT COUNT(*) AS n FROM sessions WHERE user_id = ?";
        let row = self.query(about(self.backend(), sql, person)).await;
        row.unwrap().try_get("", "n").unwrap()
    }

    /// Waits until a query finds a row. Fails after ten seconds. The id of a user is its only value.
    pub(crate) async fn wait_for(&self, query: &str, person: &Person) {
        let period = Duration::from_millis(1);
        self.finds(about(self.backend(), query, person), period).await;
    }

    /// Returns whether a user exists.
    pub(crate) async fn exists(&self, person: &Person) -> bool {
        self.knows("SELECT 1 FROM users WHERE id = ?", person).await
    }

    /// Returns whether a query finds a row. The id of a user is its only value.
    pub(crate) async fn knows(&self, query: &str, person: &Person) -> bool {
        self.query(about(self.backend(), query, person)).await.is_some()
    }

    /// Returns the PHC string of the password of a user.
    pub(crate) async fn password_hash(&self, person: &Person) -> String {
        let sql = "SELECT password_hash FROM users WHERE id = ?";
        let row = self.query(about(self.backend(), sql, person)).await;
        row.unwrap().try_get("", "password_hash").unwrap()
    }

    /// All rows that a query finds.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<QueryResult> {
        let statement = Statement::from_string(self.backend(), sql.to_owned());
        self.connection.query_all_raw(statement).await.unwrap()
    }

    /// Runs a statement with these values, of which each is written `?`.
    pub(crate) async fn execute_with(&self, statement: &str, values: Vec<sea_orm::Value>) {
        let mut sql = String::new();
        for (number, piece) in statement.split('?').enumerate() {
            if number > 0 {
                match self.backend() {
                    DbBackend::Postgres => sql.push_str(&format!("${number}")),
                    _ => sql.push('?'),
                }
            }
            sql.push_str(piece);
        }
        let statement = Statement::from_sql_and_values(self.backend(), sql, values);
        self.connection.execute_raw(statement).await.unwrap();
    }

    /// All that is stored, as text: every column of every row of every table, what is no text in hexadecimal.
    pub(crate) async fn dump(&self) -> String {
        let mut dump = String::new();
        for table in TABLES {
            let statement = Statement::from_string(self.backend(), format!("SELECT * FROM {table}"));
            for row in self.connection.query_all_raw(statement).await.unwrap() {
                for column in row.column_names() {
                    dump.push_str(&format!("{table}.{column}={}\n", text_of(&row, &column)));
                }
            }
        }
        dump
    }

    /// Blocks all other writes until the transaction is committed. Reads continue. A sign-in stops at the reservation
    /// of its attempt, unless the server is [`super::UNTHROTTLED`].
    pub(crate) async fn hold_writes(&self) -> HeldWrites {
        let backend = self.backend();
        let options = TransactionOptions {
            // Locks the gaps between the rows, too, so that no row can be inserted.
            isolation_level: (backend == DbBackend::MySql).then_some(IsolationLevel::RepeatableRead),
            // The transaction is the lock.
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let transaction = self.connection.begin_with_options(options).await.unwrap();
        match backend {
            DbBackend::Postgres => {
                // The strongest lock that allows reads; it blocks SELECT FOR UPDATE, too.
                let lock = format!("LOCK TABLE {} IN EXCLUSIVE MODE", TABLES.join(", "));
                transaction.execute_unprepared(&lock).await.unwrap();
            }
            DbBackend::MySql => {
                for table in TABLES {
                    let lock = format!("SELECT 1 FROM {table} FOR UPDATE");
                    let lock = Statement::from_string(backend, lock);
                    transaction.query_all_raw(lock).await.unwrap();
                }
            }
            _ => {}
        }
        HeldWrites { transaction }
    }

    /// Blocks all others from recording a migration.
    pub(crate) async fn hold_migrations(&self) -> HeldWrites {
        let backend = self.backend();
        let options = TransactionOptions {
            // As above.
            isolation_level: (backend == DbBackend::MySql).then_some(IsolationLevel::RepeatableRead),
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let transaction = self.connection.begin_with_options(options).await.unwrap();
        let lock = match backend {
            DbBackend::Postgres => Some("LOCK TABLE seaql_migrations IN EXCLUSIVE MODE"),
            DbBackend::MySql => Some("SELECT 1 FROM seaql_migrations FOR UPDATE"),
            _ => None,
        };
        if let Some(lock) = lock {
            transaction.execute_unprepared(lock).await.unwrap();
        }
        HeldWrites { transaction }
    }

    /// Begins a transaction, which on PostgreSQL is not the one that looks for deadlocks, and so is never the one that
    /// is ended. On MySQL that is the one that has changed less.
    pub(crate) async fn begin(&self) -> HeldWrites {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let transaction = self.connection.begin_with_options(options).await.unwrap();
        if self.backend() == DbBackend::Postgres {
            transaction
                .execute_unprepared("SET LOCAL deadlock_timeout = '1min'")
                .await
                .unwrap();
        }
        HeldWrites { transaction }
    }

    /// Waits until a transaction waits for a lock of another. SQLite does not show that: there the tests know it by
    /// other means.
    pub(crate) async fn lock_is_awaited(&self) {
        self.so_many_wait(1).await;
    }

    /// The same until it is at least so many at once.
    pub(crate) async fn so_many_wait(&self, number: usize) {
        match self.backend() {
            DbBackend::Postgres => {
                let sql = format!(
                    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
                     HAVING COUNT(*) >= {number}"
                );
                let statement = Statement::from_string(DbBackend::Postgres, sql);
                self.finds(statement, Duration::from_millis(10)).await;
            }
            DbBackend::MySql => {
                let waiting = async { while !self.innodb_shows_waits(number).await {} };
                timeout(Duration::from_secs(20), waiting)
                    .await
                    .expect("no transaction waits");
            }
            _ => {}
        }
    }

    /// InnoDB shows what it knew when it was last asked a tenth of a second after the time before. So all tests ask one
    /// after another, and leave it that time.
    async fn innodb_shows_waits(&self, number: usize) -> bool {
        let sql = format!(
            "SELECT 1 FROM information_schema.innodb_trx JOIN information_schema.processlist \
             ON id = trx_mysql_thread_id WHERE trx_state = 'LOCK WAIT' AND db = DATABASE() \
             HAVING COUNT(*) >= {number}"
        );
        let ask = |sql: &str| Statement::from_string(DbBackend::MySql, sql);
        // The turn belongs to a connection.
        let connection = self.connection.begin().await.unwrap();
        for turn in [
            "SELECT GET_LOCK('phone_identity_tests_innodb_trx', 20)",
            "SELECT SLEEP(0.15)",
        ] {
            connection.query_one_raw(ask(turn)).await.unwrap();
        }
        let found = connection.query_one_raw(ask(&sql)).await.unwrap();
        let done = "SELECT RELEASE_LOCK('phone_identity_tests_innodb_trx')";
        connection.query_one_raw(ask(done)).await.unwrap();
        connection.commit().await.unwrap();
        found.is_some()
    }

    pub(crate) fn backend(&self) -> DbBackend {
        self.connection.get_database_backend()
    }

    async fn finds(&self, statement: Statement, period: Duration) {
        let mut ticks = tokio::time::interval(period);
        let waiting = async {
            while self.query(statement.clone()).await.is_none() {
                ticks.tick().await;
            }
        };
        timeout(Duration::from_secs(10), waiting)
            .await
            .expect("was not found");
    }

    async fn query(&self, statement: Statement) -> Option<QueryResult> {
        self.connection.query_one_raw(statement).await.unwrap()
    }
}

/// A transaction that holds the write lock.
pub(crate) struct HeldWrites {
    transaction: DatabaseTransaction,
}

impl HeldWrites {
    /// Runs a statement with the id of a user as its only value.
    pub(crate) async fn execute(&self, statement: &str, person: &Person) {
        execute(&self.transaction, statement, person).await;
    }

    /// Locks the row of a user, and waits for other locks on it. On SQLite, the transaction has locked the whole
    /// database already.
    pub(crate) async fn lock(&self, person: &Person) {
        let backend = self.transaction.get_database_backend();
        if backend != DbBackend::Sqlite {
            let sql = "SELECT 1 FROM users WHERE id = ? FOR UPDATE";
            let locked = self.transaction.query_one_raw(about(backend, sql, person)).await;
            assert!(locked.unwrap().is_some());
        }
    }

    /// Commits, and lets the others write.
    pub(crate) async fn release(self) {
        self.transaction.commit().await.unwrap();
    }
}

async fn execute(db: &impl ConnectionTrait, statement: &str, person: &Person) {
    let statement = about(db.get_database_backend(), statement, person);
    assert!(
        db.execute_raw(statement).await.unwrap().rows_affected() > 0,
        "nothing changed"
    );
}

/// A statement with the id of a user as its only value, which is written `?`.
fn about(backend: DbBackend, sql: &str, person: &Person) -> Statement {
    let sql = match backend {
        DbBackend::Postgres => sql.replace('?', "$1"),
        _ => sql.to_owned(),
    };
    Statement::from_sql_and_values(backend, sql, [id_of(person).into()])
}

fn text_of(row: &QueryResult, column: &str) -> String {
    if let Ok(text) = row.try_get::<Option<String>>("", column) {
        return text.unwrap_or_default();
    }
    if let Ok(id) = row.try_get::<Uuid>("", column) {
        return id.simple().to_string();
    }
    let bytes: Vec<u8> = row.try_get("", column).unwrap_or_default();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id_of(person: &Person) -> Uuid {
    person.user.user_id.parse().unwrap()
}
