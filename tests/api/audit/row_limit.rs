//! The row limit of the audit log.

use std::time::Duration;

use phone_identity::clock::Clock as _;

use crate::support::TestServer;

/// The numbers of the rows that are left, from the oldest on.
async fn left(server: &TestServer) -> Vec<i64> {
    let sql = "SELECT ended_sessions FROM audit_events WHERE ended_sessions IS NOT NULL ORDER BY id";
    let rows = server.database.rows(sql).await;
    rows.iter()
        .map(|row| row.try_get("", "ended_sessions").unwrap())
        .collect()
}

async fn until(server: &TestServer, count: usize) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let waiting = async {
        while left(server).await.len() != count {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("the number of rows does not become that");
}

/// Writes events, a millisecond apart, with these numbers.
async fn write(server: &TestServer, numbers: std::ops::Range<i64>) {
    for number in numbers {
        server.clock.advance(Duration::from_millis(1));
        let now = server.clock.now();
        let id = phone_identity::clock::new_id(now);
        let sql = "INSERT INTO audit_events (id, at, action, outcome, actor, ended_sessions) \
                   VALUES (?, ?, 'sign_in', 'done', 'nobody', ?)";
        server
            .database
            .execute_with(sql, vec![id.into(), now.into(), number.into()])
            .await;
    }
}

/// Of 2,100 rows, 990 of a limit of 1,000 stay. When the limit is exceeded again, the newest rows stay.
#[tokio::test]
async fn the_oldest_events_beyond_the_limit_are_removed() {
    let server = TestServer::start().await;
    write(&server, 0..2100).await;
    let flags = ["--audit-max-rows=1000", "--cleanup-interval=50ms"];
    let server = server.restart_with(&flags).await;
    until(&server, 990).await;
    assert_eq!(left(&server).await, (1110..2100).collect::<Vec<_>>());
    server.clock.advance(Duration::from_secs(60));
    write(&server, 2100..2111).await;
    until(&server, 990).await;
    assert_eq!(left(&server).await, (1121..2111).collect::<Vec<_>>());
}
