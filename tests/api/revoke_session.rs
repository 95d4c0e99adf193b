//! RevokeSession.

use phone_identity::proto::v1::RevokeSessionRequest;
use tonic::Code;

use crate::support::refusal::assert_refused;
use crate::support::{TestServer, validation};

fn revocation(token: &str) -> RevokeSessionRequest {
    RevokeSessionRequest {
        session_token: token.to_owned(),
    }
}

#[tokio::test]
async fn a_revoked_session_is_dead_at_once_and_the_others_live() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let other = person.sign_in_again(&server).await;
    let mut client = server.client().await;
    client.revoke_session(revocation(&person.token)).await.unwrap();
    let dead = client.validate_session(validation(&person.token)).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
    client.validate_session(validation(&other.token)).await.unwrap();
}

#[tokio::test]
async fn unknown_expired_and_revoked_are_ok_too() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let stranger = TestServer::start().await.person().await;
    let mut client = server.client().await;
    client.revoke_session(revocation(&stranger.token)).await.unwrap();
    server
        .clock
        .advance(std::time::Duration::from_secs(31 * 24 * 3600));
    for _ in 0..2 {
        client.revoke_session(revocation(&person.token)).await.unwrap();
    }
    assert_eq!(server.database.count("sessions").await, 0);
}

#[tokio::test]
async fn a_malformed_token_is_refused_since_its_session_may_be_alive() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    for bad in ["", &person.token[..50], "hello", &"x".repeat(10 * 1024)] {
        assert_refused(
            client.revoke_session(revocation(bad)).await,
            Code::Unauthenticated,
            "SESSION_INVALID",
        );
    }
    client.validate_session(validation(&person.token)).await.unwrap();
}
