//! DeleteProfile.

use std::time::Duration;

use phone_identity::proto::v1::{DeleteProfileRequest, ListSessionsRequest};
use tonic::Code;

use crate::support::refusal::{assert_refused, assert_violations};
use crate::support::{OTHER_PASSWORD, PASSWORD, TestServer, credentials, registration, validation};

fn knowing(current_password: &str) -> DeleteProfileRequest {
    DeleteProfileRequest {
        current_password: Some(current_password.to_owned()),
    }
}

#[tokio::test]
async fn nothing_is_left_and_the_number_is_free() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let other = person.sign_in_again(&server).await;
    let stranger = server.person().await;
    let before = server.database.dump().await;
    let (phone_number, hash) = (&person.phone_number, server.database.password_hash(&person).await);
    assert!(before.contains(phone_number) && before.contains(&hash));
    let mut client = server.client().await;
    client
        .delete_profile(person.asks(knowing(PASSWORD)))
        .await
        .unwrap();

    let left = server.database.dump().await;
    let id: String = person.user.user_id.replace('-', "");
    // The change log notifies the other replicas. The audit log keeps the id, which leads to no user, so that it can
    // remove the id from events.
    let mut left = left;
    for column in ["identity_changes.user_id", "audit_erasures.user_id"] {
        left = left.replace(&format!("{column}={id}\n"), "");
    }
    assert!(before.contains(&id) && !left.contains(&id), "{left}");
    assert!(!left.contains(phone_number) && !left.contains(&hash), "{left}");
    assert_eq!(
        (
            server.database.count("users").await,
            server.database.count("sessions").await
        ),
        (1, 1)
    );
    for token in [&person.token, &other.token] {
        let dead = client.validate_session(validation(token)).await;
        assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
    }
    client
        .validate_session(validation(&stranger.token))
        .await
        .unwrap();
    let dead = client.list_sessions(person.asks(ListSessionsRequest {})).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
    let gone = client.authenticate(credentials(phone_number, PASSWORD)).await;
    assert_refused(gone, Code::Unauthenticated, "INVALID_CREDENTIALS");
    let again = client
        .register(registration(phone_number, OTHER_PASSWORD))
        .await
        .unwrap()
        .into_inner();
    assert_ne!(again.user.unwrap().user_id, person.user.user_id);
}

#[tokio::test]
async fn the_user_reauthenticates() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    let wrong = client.delete_profile(person.asks(knowing(OTHER_PASSWORD))).await;
    assert_refused(wrong, Code::PermissionDenied, "CURRENT_PASSWORD_WRONG");
    let empty = client.delete_profile(person.asks(knowing(""))).await;
    assert_violations(empty, &[("current_password", "REQUIRED")]);
    server.clock.advance(Duration::from_secs(301));
    let stale = client
        .delete_profile(person.asks(DeleteProfileRequest::default()))
        .await;
    assert_refused(stale, Code::FailedPrecondition, "REAUTHENTICATION_REQUIRED");
    client
        .delete_profile(person.asks(knowing(PASSWORD)))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_last_active_superuser_stays() {
    let server = TestServer::start().await;
    let superuser = server.superuser().await;
    let mut client = server.client().await;
    let last = client.delete_profile(superuser.asks(knowing(PASSWORD))).await;
    assert_refused(last, Code::FailedPrecondition, "LAST_SUPERUSER");
    let other = server.superuser().await;
    client
        .delete_profile(superuser.asks(knowing(PASSWORD)))
        .await
        .unwrap();
    client.validate_session(validation(&other.token)).await.unwrap();
}
