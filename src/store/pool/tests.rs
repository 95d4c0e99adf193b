//! Tests of transactions on SQLite, which are sent in as few parts as possible. The tests of the API cover servers.

use sea_orm::ConnectionTrait;
use secrecy::SecretString;
use tempfile::TempDir;

use super::*;
use crate::store::changes::VERSION_LEVEL;
use crate::store::sqlite::parse_url;

const COUNT: &str = "SELECT COUNT(*) FROM numbers";

/// Opens one connection to the database in a folder.
async fn open(folder: &TempDir) -> Pool {
    let url = format!("sqlite://{}", folder.path().join("numbers.db").display());
    let options = Options {
        url: SecretString::from(url.as_str()),
        url_file: None,
        allow_readable_secrets: false,
        version_level: VERSION_LEVEL,
        connections: 1,
        acquire_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(10),
    };
    let file = Server::of_file(parse_url(&url, &options).unwrap(), None);
    Pool::open(file, 1, &options).await.unwrap()
}

/// Creates a table with three numbers, and one connection.
async fn numbers() -> (Pool, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let pool = open(&folder).await;
    let create = "CREATE TABLE numbers (n INTEGER UNIQUE); INSERT INTO numbers VALUES (1), (2), (3)";
    pool.execute_unprepared(create).await.unwrap();
    (pool, folder)
}

fn with_number(sql: &str, number: i64) -> Statement {
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, [number.into()])
}

async fn count(db: &impl ConnectionTrait) -> i64 {
    let row = db
        .query_one_raw(Statement::from_string(DbBackend::Sqlite, COUNT))
        .await;
    row.unwrap().unwrap().try_get_by_index(0).unwrap()
}

/// BEGIN, which is sent with the first statement, reports the number of rows that the statement before it has changed.
#[tokio::test]
async fn the_first_statement_returns_its_number_of_rows() {
    let (pool, _folder) = numbers().await;
    for (number, expected) in [(1, 1), (1, 0), (2, 1)] {
        let tx = pool.begin().await.unwrap();
        let delete = with_number("DELETE FROM numbers WHERE n = ?", number);
        assert_eq!(tx.execute_raw(delete).await.unwrap().rows_affected(), expected);
        tx.commit().await.unwrap();
    }
    assert_eq!(count(&pool).await, 1);
}

#[tokio::test]
async fn the_first_query_of_a_transaction_returns_its_rows() {
    let (pool, _folder) = numbers().await;
    let tx = pool.begin().await.unwrap();
    assert_eq!(count(&tx).await, 3);
    let rows = tx
        .query_all_raw(with_number("SELECT n FROM numbers WHERE n > ?", 1))
        .await;
    assert_eq!(rows.unwrap().len(), 2);
    drop(tx);
    let tx = pool.begin().await.unwrap();
    let rows = tx
        .query_all_raw(with_number("SELECT n FROM numbers WHERE n > ?", 1))
        .await;
    assert_eq!(rows.unwrap().len(), 2);
}

/// Defers statements, and returns their row counts, which are not known yet.
async fn deferred(tx: &Transaction, statements: &[(&str, i64)]) -> Vec<Affected> {
    let mut affected = Vec::new();
    for (sql, number) in statements {
        affected.push(tx.execute_deferred(with_number(sql, *number)).await.unwrap());
    }
    assert!(affected.iter().all(|one| one.rows().is_none()));
    affected
}

#[tokio::test]
async fn deferred_statements_are_executed_in_their_order() {
    let (pool, _folder) = numbers().await;
    let tx = pool.begin().await.unwrap();
    tx.execute_deferred(with_number("UPDATE numbers SET n = ? WHERE n = 1", 10))
        .await
        .unwrap();
    tx.execute_deferred(with_number("INSERT INTO numbers VALUES (?)", 1))
        .await
        .unwrap();
    assert_eq!(count(&tx).await, 4, "the next statement is executed after them");
    tx.commit().await.unwrap();
    assert_eq!(count(&pool).await, 4);
}

#[tokio::test]
async fn a_statement_after_deferred_ones_sets_their_row_counts() {
    let (pool, _folder) = numbers().await;
    for is_begun_before in [true, false] {
        let tx = pool.begin().await.unwrap();
        if is_begun_before {
            assert_eq!(count(&tx).await, 3);
        }
        let affected = deferred(
            &tx,
            &[
                ("UPDATE numbers SET n = n + ?", 10),
                ("DELETE FROM numbers WHERE n = ?", 1),
            ],
        )
        .await;
        let delete = with_number("DELETE FROM numbers WHERE n > ?", 11);
        assert_eq!(tx.execute_raw(delete).await.unwrap().rows_affected(), 2);
        let rows: Vec<_> = affected.iter().map(Affected::rows).collect();
        assert_eq!(rows, [Some(3), Some(0)]);
        // Dropped, it rolls all of them back.
        drop(tx);
        assert_eq!(count(&pool).await, 3);
    }
}

#[tokio::test]
async fn a_failed_deferred_statement_fails_the_next_one() {
    let (pool, _folder) = numbers().await;
    let tx = pool.begin().await.unwrap();
    tx.execute_deferred(with_number("INSERT INTO numbers VALUES (?)", 1))
        .await
        .unwrap();
    let next = with_number("UPDATE numbers SET n = n + ?", 10);
    assert!(tx.execute_raw(next).await.is_err(), "the number is there already");
    assert!(tx.commit().await.is_err(), "a write is missing");
    assert_eq!(count(&pool).await, 3);
}

#[tokio::test]
async fn statements_ahead_of_deferred_ones_do_not_execute_them() {
    let (pool, _folder) = numbers().await;
    let tx = pool.begin().await.unwrap();
    let insert = with_number("INSERT INTO numbers VALUES (?)", 4);
    let affected = tx.execute_deferred(insert).await.unwrap();
    let deferred = tx.take_deferred().await;
    assert_eq!(count(&tx).await, 3);
    tx.defer_again(deferred).await;
    assert_eq!(affected.rows(), None);
    tx.commit().await.unwrap();
    assert_eq!(affected.rows(), Some(1));
    assert_eq!(count(&pool).await, 4);
}

/// The response may have a count for BEGIN, too.
#[tokio::test]
async fn a_commit_sets_the_row_counts_of_deferred_statements() {
    let (pool, _folder) = numbers().await;
    for is_begun_before in [true, false] {
        let tx = pool.begin().await.unwrap();
        if is_begun_before {
            assert_eq!(count(&tx).await, 3);
        }
        let affected = deferred(
            &tx,
            &[
                ("UPDATE numbers SET n = n + ?", 10),
                ("DELETE FROM numbers WHERE n = ?", 1),
                ("UPDATE numbers SET n = n - ?", 10),
                ("UPDATE numbers SET n = n WHERE n > ?", 1),
            ],
        )
        .await;
        tx.commit().await.unwrap();
        let rows: Vec<_> = affected.iter().map(Affected::rows).collect();
        assert_eq!(rows, [Some(3), Some(0), Some(3), Some(2)]);
    }
}

/// Reads the setting directly, since a lease would change it. 2: a commit is on the disk when it is answered. 1: it may
/// not be.
async fn synchronous(pool: &Pool) -> i64 {
    let mut lease = pool.lease().await.unwrap();
    let pragma = Statement::from_string(DbBackend::Sqlite, "PRAGMA synchronous");
    let row = lease
        .run("OTHER", async |pooled| pooled.connection.query_one(pragma).await)
        .await;
    row.unwrap().unwrap().try_get_by_index(0).unwrap()
}

#[tokio::test]
async fn only_statements_of_the_unsynced_pool_are_unsynced() {
    let (pool, _folder) = numbers().await;
    let negate = with_number("UPDATE numbers SET n = -n WHERE n > ?", -10);
    for _ in 0..3 {
        assert_eq!(synchronous(&pool).await, 2);
        for _ in 0..2 {
            let changed = pool.unsynced().execute_raw(negate.clone()).await.unwrap();
            assert_eq!(changed.rows_affected(), 3);
            assert_eq!(synchronous(&pool).await, 1);
        }
        // The next operation is synced again: a statement, a transaction, and a transaction that only commits.
        pool.execute_raw(negate.clone()).await.unwrap();
        assert_eq!(synchronous(&pool).await, 2);
        pool.unsynced().execute_raw(negate.clone()).await.unwrap();
        let tx = pool.begin().await.unwrap();
        tx.execute_raw(negate.clone()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(synchronous(&pool).await, 2);
        pool.unsynced().execute_raw(negate.clone()).await.unwrap();
        let tx = pool.begin().await.unwrap();
        tx.execute_deferred(negate.clone()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(synchronous(&pool).await, 2);
    }
}

#[tokio::test]
async fn a_cancelled_unsynced_statement_leaves_a_synced_connection() {
    let (pool, folder) = numbers().await;
    let negate = with_number("UPDATE numbers SET n = -n WHERE n > ?", -10);
    // No other connection can write in the meantime.
    let other = open(&folder).await.begin().await.unwrap();
    other.execute_raw(negate.clone()).await.unwrap();
    let unsynced = pool.unsynced();
    tokio::select! {
        biased;
        done = unsynced.execute_raw(negate.clone()) => panic!("was done at once: {done:?}"),
        () = async {} => {}
    }
    drop(other);
    pool.execute_raw(negate).await.unwrap();
    assert_eq!(synchronous(&pool).await, 2);
}

#[tokio::test]
async fn a_statement_that_fails_with_the_commit_prevents_it() {
    let (pool, _folder) = numbers().await;
    let tx = pool.begin().await.unwrap();
    tx.execute_raw(with_number("DELETE FROM numbers WHERE n = ?", 1))
        .await
        .unwrap();
    tx.execute_deferred(with_number("INSERT INTO numbers VALUES (?)", 4))
        .await
        .unwrap();
    tx.execute_deferred(with_number("INSERT INTO numbers VALUES (?)", 2))
        .await
        .unwrap();
    assert!(matches!(tx.commit().await, Err(StoreError::Fault(_))));
    assert_eq!(count(&pool).await, 3);
}

#[tokio::test]
async fn a_transaction_that_does_nothing_or_is_dropped_changes_nothing() {
    let (pool, _folder) = numbers().await;
    pool.begin().await.unwrap().commit().await.unwrap();
    drop(pool.begin().await.unwrap());
    let tx = pool.begin().await.unwrap();
    tx.execute_raw(with_number("DELETE FROM numbers WHERE n = ?", 1))
        .await
        .unwrap();
    drop(tx);
    assert_eq!(count(&pool).await, 3);
}
