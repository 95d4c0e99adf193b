//! Lists have connections and a deadline of their own: slow ones do not stop session checks.

use std::time::Duration;

use phone_identity::proto::v1;
use sea_orm::DbBackend;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{Person, TestServer};

/// More than all connections of the server.
pub(crate) const LISTS: usize = 12;

/// The statement timeout of [`FLAGS`], in seconds.
const STATEMENT_TIMEOUT: f64 = 3.0;

const FLAGS: [&str; 2] = [
    "--database-statement-timeout=3s",
    // Shorter: a check that waits for the connection of a list fails.
    "--database-acquire-timeout=1s",
];

/// Makes the audit log a view in which each row takes half a minute, or, on SQLite, has no end.
pub(crate) async fn slow_down(server: &TestServer) {
    let view = match server.database.backend() {
        DbBackend::Postgres => {
            "CREATE VIEW audit_events AS SELECT real_audit_events.* FROM real_audit_events, \
             LATERAL (SELECT pg_sleep(30) OFFSET 0) AS slow"
        }
        DbBackend::MySql => "CREATE VIEW audit_events AS SELECT * FROM real_audit_events WHERE SLEEP(30) = 0",
        _ => {
            "CREATE VIEW audit_events AS SELECT real_audit_events.* FROM real_audit_events, \
             (WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) \
             SELECT n FROM numbers WHERE n < 0)"
        }
    };
    for statement in ["ALTER TABLE audit_events RENAME TO real_audit_events", view] {
        server.database.execute_with(statement, Vec::new()).await;
    }
}

#[tokio::test]
async fn slow_lists_end_at_their_deadline_and_do_not_stop_session_checks() {
    let server = TestServer::start_with(&FLAGS).await;
    let superuser = server.superuser().await;
    let user = server.person().await;
    slow_down(&server).await;
    let mut lists = JoinSet::new();
    let begun = tokio::time::Instant::now();
    for _ in 0..LISTS {
        let mut admin = server.admin().await;
        let request = superuser.asks(v1::ListAuditEventsRequest::default());
        lists.spawn(async move { admin.list_audit_events(request).await });
    }
    let mut checks = 0;
    while !lists.is_empty() {
        check_strongly(&server, &user).await;
        checks += 1;
        // Lists that could not begin fail first, and those that were interrupted last.
        while let Some(list) = lists.try_join_next() {
            let status = list.unwrap().unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(checks > 1, "{checks} checks");
    // Each connection is occupied once: no list begins after the acquire timeout of 1 s.
    let took = begun.elapsed().as_secs_f64();
    assert!(took < STATEMENT_TIMEOUT + 2.0, "{took} s");
    // The connections are of use afterwards.
    let mut admin = server.admin().await;
    let request = superuser.asks(v1::ListUsersRequest::default());
    assert_eq!(
        admin.list_users(request).await.unwrap().into_inner().users.len(),
        2
    );
}

async fn check_strongly(server: &TestServer, user: &Person) {
    let request = v1::ValidateSessionRequest {
        session_token: user.token.clone(),
        consistency: v1::Consistency::Strong.into(),
    };
    let response = server.client().await.validate_session(request).await.unwrap();
    assert_eq!(response.into_inner().user.unwrap().user_id, user.user.user_id);
}
