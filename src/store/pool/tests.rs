//! Transactions on SQLite, which are sent in as few pieces as can be. What servers do is tested through the front door.

use sea_orm::ConnectionTrait;
use secrecy::SecretString;
use tempfile::TempDir;

use super::*;
use crate::store::changes::VERSION_LEVEL;
use crate::store::sqlite::parse_url;

const COUNT: &str = "SELECT COUNT(*) FROM numbers";

/// One connection to the database in a folder.
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

/// Three numbers in a table, and one connection.
async fn numbers() -> (Pool, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let pool = open(&folder).await;
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
        let mut affected = Vec::new();
        for (sql, number) in [
            ("UPDATE numbers SET n = n + ?", 10),
            ("DELETE FROM numbers WHERE n = ?", 1),
        ] {
            affected.push(tx.execute_deferred(with_number(sql, number)).await.unwrap());
        }
        assert!(affected.iter().all(|one| one.rows().is_none()));
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
    drop(tx);
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

/// BEGIN may go along, too, and tells how many rows the statement before it has changed.
#[tokio::test]
async fn what_comes_with_the_commit_says_how_many_rows_it_has_changed() {
    let (pool, _folder) = numbers().await;
    for is_begun_before in [true, false] {
        let tx = pool.begin().await.unwrap();
        if is_begun_before {
            assert_eq!(count(&tx).await, 3);
        }
        let mut affected = Vec::new();
        for (sql, number) in [
            ("UPDATE numbers SET n = n + ?", 10),
            ("DELETE FROM numbers WHERE n = ?", 1),
            ("UPDATE numbers SET n = n - ?", 10),
            ("UPDATE numbers SET n = n WHERE n > ?", 1),
        ] {
            affected.push(tx.execute_deferred(with_number(sql, number)).await.unwrap());
        }
        assert!(affected.iter().all(|one| one.rows().is_none()));
        tx.commit().await.unwrap();
        let rows: Vec<_> = affected.iter().map(Affected::rows).collect();
        assert_eq!(rows, [Some(3), Some(0), Some(3), Some(2)]);
    }
}

/// How the connection stands, which asking by a lease would change. 2: a commit is on the disk when it is answered. 1:
/// it need not be.
async fn synchronous(pool: &Pool) -> i64 {
    let mut lease = pool.lease().await.unwrap();
    let asked = Statement::from_string(DbBackend::Sqlite, "PRAGMA synchronous");
    let row = lease
        .run("OTHER", async |pooled| pooled.connection.query_one(asked).await)
        .await;
    row.unwrap().unwrap().try_get_by_index(0).unwrap()
}

#[tokio::test]
async fn only_what_need_not_be_synced_is_not() {
    let (pool, _folder) = numbers().await;
    let negate = with_number("UPDATE numbers SET n = -n WHERE n > ?", -10);
    for _ in 0..3 {
        assert_eq!(synchronous(&pool).await, 2);
        for _ in 0..2 {
            let changed = pool.unsynced().execute_raw(negate.clone()).await.unwrap();
            assert_eq!(changed.rows_affected(), 3);
            assert_eq!(synchronous(&pool).await, 1);
        }
        // Whatever comes next is synced again: a statement, a transaction, and one that only commits.
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
async fn who_goes_away_from_what_need_not_be_synced_leaves_the_connection_to_be_synced() {
    let (pool, folder) = numbers().await;
    let negate = with_number("UPDATE numbers SET n = -n WHERE n > ?", -10);
    // Nobody else can write meanwhile.
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
async fn what_fails_with_the_commit_keeps_it_from_being_committed() {
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
