//! ValidateSession, and the lifetimes of sessions.

use std::time::Duration;

use phone_identity::proto::v1;
use tonic::Code;

use crate::support::refusal::{assert_refused, assert_violations};
use crate::support::{TestServer, validation};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn every_consistency_returns_the_user_of_the_session() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    for consistency in [
        v1::Consistency::Unspecified,
        v1::Consistency::MinimizeLatency,
        v1::Consistency::Strong,
    ] {
        let request = v1::ValidateSessionRequest {
            session_token: person.token.clone(),
            consistency: consistency.into(),
        };
        let valid = client.validate_session(request).await.unwrap().into_inner();
        assert_eq!(valid.user.unwrap().phone_number, person.phone_number);
        assert_eq!(valid.session.unwrap(), person.session);
    }
    let unknown = v1::ValidateSessionRequest {
        session_token: person.token.clone(),
        consistency: 99,
    };
    assert_violations(
        client.validate_session(unknown).await,
        &[("consistency", "ENUM_VALUE_UNKNOWN")],
    );
}

#[tokio::test]
async fn a_bad_token_is_a_status() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let stranger = TestServer::start().await.person().await;
    let mut client = server.client().await;
    let token = &person.token;
    let mut checksum = token.clone();
    let last = if checksum.pop() == Some('0') { '1' } else { '0' };
    checksum.push(last);
    for bad in [
        "",
        &token[..53],
        &token[4..],
        &checksum,
        &stranger.token,
        &"x".repeat(10 * 1024),
        &format!(" {token}"),
    ] {
        assert_refused(
            client.validate_session(validation(bad)).await,
            Code::Unauthenticated,
            "SESSION_INVALID",
        );
    }
    client.validate_session(validation(token)).await.unwrap();
}

#[tokio::test]
async fn a_session_that_is_not_used_ends_after_its_idle_lifetime() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    server.clock.advance(14 * DAY);
    let ended = client.validate_session(validation(&person.token)).await;
    assert_refused(ended, Code::Unauthenticated, "SESSION_EXPIRED");
    let as_bearer = client
        .list_sessions(person.asks(v1::ListSessionsRequest {}))
        .await;
    assert_refused(as_bearer, Code::Unauthenticated, "SESSION_EXPIRED");
}

#[tokio::test]
async fn a_session_that_is_used_ends_after_its_absolute_lifetime() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    for days in [10, 20, 29] {
        server.clock.advance(if days == 29 { 9 * DAY } else { 10 * DAY });
        let valid = client
            .validate_session(validation(&person.token))
            .await
            .unwrap()
            .into_inner();
        let session = valid.session.unwrap();
        let seconds = |days: i64| 1_767_225_600 + days * 86_400;
        assert_eq!(session.last_seen_at.unwrap().seconds, seconds(days));
        assert_eq!(
            session.idle_expires_at.unwrap().seconds,
            seconds((days + 14).min(30))
        );
    }
    server.clock.advance(DAY);
    let ended = client.validate_session(validation(&person.token)).await;
    assert_refused(ended, Code::Unauthenticated, "SESSION_EXPIRED");
}

#[tokio::test]
async fn the_last_moment_is_valid_and_the_next_is_not() {
    let server = TestServer::start_with(&["--session-lifetime=10s", "--session-idle-lifetime=1h"]).await;
    let person = server.person().await;
    let mut client = server.client().await;
    server.clock.advance(Duration::from_micros(9_999_999));
    client.validate_session(validation(&person.token)).await.unwrap();
    server.clock.advance(Duration::from_micros(1));
    let ended = client.validate_session(validation(&person.token)).await;
    assert_refused(ended, Code::Unauthenticated, "SESSION_EXPIRED");
}

#[tokio::test]
async fn last_seen_is_written_once_a_minute() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    server.clock.advance(Duration::from_secs(59));
    for (advance, seen) in [(0, 0), (1, 60), (59, 60), (1, 120)] {
        server.clock.advance(Duration::from_secs(advance));
        let valid = client
            .validate_session(validation(&person.token))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            valid.session.unwrap().last_seen_at.unwrap().seconds,
            1_767_225_600 + seen
        );
    }
}
