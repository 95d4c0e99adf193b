//! ListSessions.

use std::time::Duration;

use phone_identity::proto::v1::{ListSessionsRequest, RevokeSessionRequest};
use tonic::Code;

use crate::support::TestServer;
use crate::support::refusal::assert_refused;

#[tokio::test]
async fn the_live_sessions_of_the_bearer_come_newest_first() {
    let server = TestServer::start_with(&["--session-idle-lifetime=1h"]).await;
    let ended = server.person().await;
    server.clock.advance(Duration::from_secs(30 * 60));
    let first = ended.sign_in_again(&server).await;
    server.clock.advance(Duration::from_secs(31 * 60));
    let second = ended.sign_in_again(&server).await;
    server.person().await;
    let mut client = server.client().await;
    let listed = client
        .list_sessions(first.asks(ListSessionsRequest {}))
        .await
        .unwrap()
        .into_inner();
    let ids: Vec<_> = listed
        .sessions
        .iter()
        .map(|session| session.session_id.as_str())
        .collect();
    assert_eq!(
        ids,
        [
            second.session.session_id.as_str(),
            first.session.session_id.as_str()
        ]
    );
    assert_eq!(listed.current_session_id, first.session.session_id);
    assert!(
        listed
            .sessions
            .iter()
            .all(|session| session.user_id == ended.user.user_id)
    );
}

#[tokio::test]
async fn an_ended_session_lists_nothing() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    client
        .revoke_session(RevokeSessionRequest {
            session_token: person.token.clone(),
        })
        .await
        .unwrap();
    let refused = client.list_sessions(person.asks(ListSessionsRequest {})).await;
    assert_refused(refused, Code::Unauthenticated, "SESSION_INVALID");
}
