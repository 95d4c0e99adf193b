//! DeactivateProfile.

use std::time::Duration;

use phone_identity::proto::v1::DeactivateProfileRequest;
use tonic::Code;

use crate::support::refusal::{assert_refused, assert_violations};
use crate::support::{OTHER_PASSWORD, PASSWORD, TestServer, registration, validation};

fn knowing(current_password: &str) -> DeactivateProfileRequest {
    DeactivateProfileRequest {
        current_password: Some(current_password.to_owned()),
    }
}

#[tokio::test]
async fn all_sessions_die_and_the_number_stays_taken() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let other = person.sign_in_again(&server).await;
    let mut client = server.client().await;
    client
        .deactivate_profile(person.asks(knowing(PASSWORD)))
        .await
        .unwrap();
    for token in [&person.token, &other.token] {
        let dead = client.validate_session(validation(token)).await;
        assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
    }
    let again = client.deactivate_profile(person.asks(knowing(PASSWORD))).await;
    assert_refused(again, Code::Unauthenticated, "SESSION_INVALID");
    let taken = client
        .register(registration(&person.phone_number, PASSWORD))
        .await;
    assert_refused(taken, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
}

/// A session row that a crash or another version left behind is no way in.
#[tokio::test]
async fn a_bearer_of_a_deactivated_person_is_refused_even_if_its_row_is_there() {
    let server = TestServer::start().await;
    let person = server.person().await;
    server
        .database
        .execute("UPDATE users SET status = 'deactivated' WHERE id = ?", &person)
        .await;
    let mut client = server.client().await;
    let dead = client.validate_session(validation(&person.token)).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
    let dead = client.deactivate_profile(person.asks(knowing(PASSWORD))).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
}

#[tokio::test]
async fn the_user_reauthenticates() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    let wrong = client
        .deactivate_profile(person.asks(knowing(OTHER_PASSWORD)))
        .await;
    assert_refused(wrong, Code::PermissionDenied, "CURRENT_PASSWORD_WRONG");
    let empty = client.deactivate_profile(person.asks(knowing(""))).await;
    assert_violations(empty, &[("current_password", "REQUIRED")]);
    server.clock.advance(Duration::from_secs(301));
    let stale = client
        .deactivate_profile(person.asks(DeactivateProfileRequest::default()))
        .await;
    assert_refused(stale, Code::FailedPrecondition, "REAUTHENTICATION_REQUIRED");
    client.validate_session(validation(&person.token)).await.unwrap();
}

#[tokio::test]
async fn the_last_active_superuser_stays() {
    let server = TestServer::start().await;
    let (first, second) = (server.superuser().await, server.superuser().await);
    let mut client = server.client().await;
    client
        .deactivate_profile(first.asks(knowing(PASSWORD)))
        .await
        .unwrap();
    let last = client.deactivate_profile(second.asks(knowing(PASSWORD))).await;
    assert_refused(last, Code::FailedPrecondition, "LAST_SUPERUSER");
    client.validate_session(validation(&second.token)).await.unwrap();
}
