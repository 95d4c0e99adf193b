//! Transactions on SQLite, which are sent in as few pieces as can be. What servers do is tested through the front door.

use secrecy::SecretString;
use tempfile::TempDir;

use super::*;
use crate::store::sqlite::parse_url;

const COUNT: &str = "SELECT COUNT(*) FROM numbers";

/// Three numbers in a table, and one connection.
async fn numbers() -> (Pool, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("numbers.db").display());
    let options = Options {
        url: SecretString::from(url.as_str()),
        connections: 1,
        acquire_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(10),
    };
    let file = Server::Sqlite(parse_url(&url, &options).unwrap());
    let pool = Pool::open(file, 1, &options).await.unwrap();
    let made = "CREATE TABLE numbers (n INTEGER UNIQUE); INSERT INTO numbers VALUES (1), (2), (3)";
    pool.execute_unprepared(made).await.unwrap();
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

/// BEGIN, which goes along with the first statement, tells how many rows the statement before it has changed.
#[tokio::test]
async fn the_first_statement_says_how_many_rows_it_has_changed() {
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
async fn what_is_asked_first_is_answered() {
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

#[tokio::test]
async fn what_comes_with_the_commit_is_done_in_its_order() {
    let (pool, _folder) = numbers().await;
    let tx = pool.begin().await.unwrap();
    tx.at_commit(with_number("UPDATE numbers SET n = ? WHERE n = 1", 10))
        .await;
    tx.at_commit(with_number("INSERT INTO numbers VALUES (?)", 1))
        .await;
    assert_eq!(count(&tx).await, 3);
    tx.commit().await.unwrap();
    assert_eq!(count(&pool).await, 4);
}

#[tokio::test]
async fn what_fails_with_the_commit_keeps_it_from_being_committed() {
    let (pool, _folder) = numbers().await;
    let tx = pool.begin().await.unwrap();
    tx.execute_raw(with_number("DELETE FROM numbers WHERE n = ?", 1))
        .await
        .unwrap();
    tx.at_commit(with_number("INSERT INTO numbers VALUES (?)", 4))
        .await;
    tx.at_commit(with_number("INSERT INTO numbers VALUES (?)", 2))
        .await;
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
