//! RevokeSessions.

use phone_identity::proto::v1::RevokeSessionsRequest;
use tonic::Code;
use uuid::Uuid;

use crate::support::refusal::{assert_refused, assert_violations, refusal};
use crate::support::{Person, TestServer, validation};

fn these(people: &[&Person]) -> RevokeSessionsRequest {
    let session_ids = people
        .iter()
        .map(|person| person.session.session_id.clone())
        .collect();
    RevokeSessionsRequest {
        session_ids,
        all_others: false,
    }
}

#[tokio::test]
async fn the_named_ones_end_and_another_persons_do_not() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let phone = person.sign_in_again(&server).await;
    let tablet = person.sign_in_again(&server).await;
    let stranger = server.person().await;
    let mut client = server.client().await;
    let request = these(&[&phone, &phone, &stranger]);
    let revoked = client
        .revoke_sessions(person.asks(request.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(revoked.revoked_count, 1);
    let dead = client.validate_session(validation(&phone.token)).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
    for alive in [&person, &tablet, &stranger] {
        client.validate_session(validation(&alive.token)).await.unwrap();
    }
    let again = client
        .revoke_sessions(person.asks(request))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again.revoked_count, 0);
    let own = client
        .revoke_sessions(person.asks(these(&[&person])))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(own.revoked_count, 1);
    let dead = client.validate_session(validation(&person.token)).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
}

#[tokio::test]
async fn all_others_leaves_the_one_of_the_call() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let stranger = server.person().await;
    for _ in 0..3 {
        person.sign_in_again(&server).await;
    }
    let mut client = server.client().await;
    let request = RevokeSessionsRequest {
        all_others: true,
        ..RevokeSessionsRequest::default()
    };
    let revoked = client
        .revoke_sessions(person.asks(request))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(revoked.revoked_count, 3);
    client.validate_session(validation(&person.token)).await.unwrap();
    client
        .validate_session(validation(&stranger.token))
        .await
        .unwrap();
    assert_eq!(server.database.count("sessions").await, 2);
}

/// A status travels in headers, and Python's client takes 8 KiB of them.
#[tokio::test]
async fn a_hundred_bad_ids_make_a_status_that_every_client_takes() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let urn = format!("urn:uuid:{}", person.session.session_id);
    let request = RevokeSessionsRequest {
        session_ids: vec![urn; 100],
        all_others: false,
    };
    let status = server
        .client()
        .await
        .revoke_sessions(person.asks(request))
        .await
        .unwrap_err();
    let violations = refusal(&status).violations;
    assert_eq!(violations.len(), 10);
    assert!(
        violations
            .iter()
            .all(|(_, reason)| reason == "SESSION_ID_INVALID"),
        "{violations:?}"
    );
    assert!(status.message().ends_with("; and 6 more"), "{}", status.message());
    // Details are sent in base64, and with them the message.
    assert!(status.details().len() * 4 / 3 + status.message().len() < 7 * 1024);
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    let empty = RevokeSessionsRequest::default();
    assert_violations(
        client.revoke_sessions(person.asks(empty)).await,
        &[("session_ids", "REQUIRED")],
    );
    let both = RevokeSessionsRequest {
        all_others: true,
        ..these(&[&person])
    };
    assert_violations(
        client.revoke_sessions(person.asks(both)).await,
        &[("all_others", "MUTUALLY_EXCLUSIVE")],
    );
    let ids = |number| (0..number).map(|_| Uuid::new_v4().to_string()).collect();
    let many = RevokeSessionsRequest {
        session_ids: ids(101),
        all_others: false,
    };
    assert_violations(
        client.revoke_sessions(person.asks(many)).await,
        &[("session_ids", "TOO_MANY_ITEMS")],
    );
    let hundred = RevokeSessionsRequest {
        session_ids: ids(100),
        all_others: false,
    };
    let revoked = client
        .revoke_sessions(person.asks(hundred))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(revoked.revoked_count, 0);
    let no_ids = vec![String::new(), person.session.session_id.clone(), "x".to_owned()];
    let no_ids = RevokeSessionsRequest {
        session_ids: no_ids,
        all_others: false,
    };
    let violations = [
        ("session_ids[0]", "SESSION_ID_INVALID"),
        ("session_ids[2]", "SESSION_ID_INVALID"),
    ];
    assert_violations(client.revoke_sessions(person.asks(no_ids)).await, &violations);
    client.validate_session(validation(&person.token)).await.unwrap();
}
