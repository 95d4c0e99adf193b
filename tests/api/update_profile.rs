//! UpdateProfile.

use std::sync::Arc;
use std::time::Duration;

use phone_identity::proto::v1::UpdateProfileRequest;
use tokio::sync::Barrier;
use tonic::Code;

use crate::support::refusal::{assert_refused, assert_violations};
use crate::support::{OTHER_PASSWORD, PASSWORD, TestServer, credentials, validation};

fn knowing(current_password: &str) -> UpdateProfileRequest {
    UpdateProfileRequest {
        current_password: Some(current_password.to_owned()),
        ..UpdateProfileRequest::default()
    }
}

#[tokio::test]
async fn a_new_password_ends_the_old_one_and_every_other_session() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let other = person.sign_in_again(&server).await;
    let mut client = server.client().await;
    server.clock.advance(Duration::from_secs(1));
    let request = UpdateProfileRequest {
        new_password: Some(OTHER_PASSWORD.to_owned()),
        ..knowing(PASSWORD)
    };
    let user = client
        .update_profile(person.asks(request))
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    assert_eq!(user.updated_at.unwrap().seconds, 1_767_225_601);
    client.validate_session(validation(&person.token)).await.unwrap();
    let dead = client.validate_session(validation(&other.token)).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
    let old = client
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await;
    assert_refused(old, Code::Unauthenticated, "INVALID_CREDENTIALS");
    client
        .authenticate(credentials(&person.phone_number, OTHER_PASSWORD))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_new_number_takes_the_place_of_the_old_one_and_is_not_verified() {
    let server = TestServer::start().await;
    let person = server.person().await;
    server
        .database
        .execute(
            "UPDATE users SET phone_verified_at = created_at WHERE id = ?",
            &person,
        )
        .await;
    let mut client = server.client().await;
    let same = UpdateProfileRequest {
        new_phone_number: Some(person.phone_number.clone()),
        ..knowing(PASSWORD)
    };
    let user = client
        .update_profile(person.asks(same))
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    assert!(
        user.phone_verified_at.is_some(),
        "the number that one has changes nothing"
    );
    let request = UpdateProfileRequest {
        new_phone_number: Some("71 234 56 78".to_owned()),
        default_region: "UZ".to_owned(),
        ..knowing(PASSWORD)
    };
    let user = client
        .update_profile(person.asks(request))
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    assert_eq!(
        (user.phone_number.as_str(), user.phone_verified_at),
        ("+998712345678", None)
    );
    client.validate_session(validation(&person.token)).await.unwrap();
    client
        .authenticate(credentials("+998712345678", PASSWORD))
        .await
        .unwrap();
    let old = client
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await;
    assert_refused(old, Code::Unauthenticated, "INVALID_CREDENTIALS");
}

#[tokio::test]
async fn the_number_of_another_user_is_rejected_and_nothing_changes() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let stranger = server.person().await;
    let mut client = server.client().await;
    let request = UpdateProfileRequest {
        new_phone_number: Some(stranger.phone_number),
        new_password: Some(OTHER_PASSWORD.to_owned()),
        ..knowing(PASSWORD)
    };
    assert_refused(
        client.update_profile(person.asks(request)).await,
        Code::AlreadyExists,
        "PHONE_NUMBER_TAKEN",
    );
    client
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await
        .unwrap();
}

#[tokio::test]
async fn one_of_64_concurrent_users_gets_a_number() {
    let server = TestServer::start().await;
    let barrier = Arc::new(Barrier::new(64));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (person, mut client, barrier) = (server.person().await, server.client().await, barrier.clone());
        calls.spawn(async move {
            barrier.wait().await;
            let new_phone_number = Some("+998712345678".to_owned());
            let request = UpdateProfileRequest {
                new_phone_number,
                ..knowing(PASSWORD)
            };
            client.update_profile(person.asks(request)).await
        });
    }
    let (succeeded, refused): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((succeeded.len(), refused.len()), (1, 63));
    for outcome in refused {
        assert_refused(outcome, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    }
}

#[tokio::test]
async fn the_locale_is_set_kept_and_taken_away() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    for (locale, expected) in [
        (Some("UZ-cyrl"), Some("uz-Cyrl")),
        (None, Some("uz-Cyrl")),
        (Some("ru"), Some("ru")),
        (Some(""), None),
    ] {
        let request = UpdateProfileRequest {
            locale: locale.map(str::to_owned),
            ..UpdateProfileRequest::default()
        };
        let user = client
            .update_profile(person.asks(request))
            .await
            .unwrap()
            .into_inner()
            .user
            .unwrap();
        assert_eq!(user.locale.as_deref(), expected);
    }
}

#[tokio::test]
async fn the_user_reauthenticates() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    let without = UpdateProfileRequest {
        locale: Some("ru".to_owned()),
        ..UpdateProfileRequest::default()
    };
    let with = |password| UpdateProfileRequest {
        locale: Some("tr".to_owned()),
        ..knowing(password)
    };

    // A wrong password counts even where none was needed.
    let wrong = client.update_profile(person.asks(with(OTHER_PASSWORD))).await;
    assert_refused(wrong, Code::PermissionDenied, "CURRENT_PASSWORD_WRONG");
    server.clock.advance(Duration::from_secs(300));
    client.update_profile(person.asks(without.clone())).await.unwrap();
    server.clock.advance(Duration::from_micros(1));
    let stale = client.update_profile(person.asks(without)).await;
    assert_refused(stale, Code::FailedPrecondition, "REAUTHENTICATION_REQUIRED");
    client.update_profile(person.asks(with(PASSWORD))).await.unwrap();
}

#[tokio::test]
async fn all_violations_come_at_once() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    let request = UpdateProfileRequest {
        current_password: Some(String::new()),
        new_phone_number: Some(String::new()),
        default_region: String::new(),
        // The current number of the user must not be the password, either.
        new_password: Some(person.phone_number.clone()),
        locale: Some("not a locale".to_owned()),
    };
    let violations = [
        ("current_password", "REQUIRED"),
        ("new_phone_number", "REQUIRED"),
        ("new_password", "PASSWORD_CONTAINS_PHONE_NUMBER"),
        ("locale", "LOCALE_INVALID"),
    ];
    assert_violations(client.update_profile(person.asks(request)).await, &violations);
    let request = UpdateProfileRequest {
        new_phone_number: Some("+18002345678".to_owned()),
        ..UpdateProfileRequest::default()
    };
    let violations = [("new_phone_number", "PHONE_NUMBER_LINE_TYPE_NOT_ALLOWED")];
    assert_violations(client.update_profile(person.asks(request)).await, &violations);
}

#[tokio::test]
async fn without_a_bearer_nothing_changes() {
    let server = TestServer::start().await;
    let refused = server.client().await.update_profile(knowing(PASSWORD)).await;
    assert_refused(refused, Code::Unauthenticated, "SESSION_INVALID");
}
