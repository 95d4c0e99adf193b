//! SQLite works in this process, so nothing else ends what it works on.

use std::time::Duration;

use phone_identity::proto::v1;

use crate::lists::{LISTS, slow_down};
use crate::support::TestServer;

/// Its caller goes away at the deadline of the call. The statement has no end, so its connection would never be free
/// again.
#[tokio::test]
async fn a_list_ends_with_its_caller() {
    let server = TestServer::start_with(&["--database-statement-timeout=1h"]).await;
    let superuser = server.superuser().await;
    slow_down(&server).await;
    for _ in 0..LISTS {
        let mut admin = server.admin().await;
        let mut request = superuser.asks(v1::ListAuditEventsRequest::default());
        request.set_timeout(Duration::from_millis(50));
        admin.list_audit_events(request).await.unwrap_err();
    }
    let mut admin = server.admin().await;
    let request = superuser.asks(v1::ListUsersRequest::default());
    assert_eq!(
        admin.list_users(request).await.unwrap().into_inner().users.len(),
        1
    );
}
