//! Rate limits of RPCs other than Authenticate: those that take the current password, and those that reveal whether a
//! number is taken.

use std::time::Duration;

use phone_identity::proto::v1;
use tonic::Code;

use super::{fail, from, wait_of};
use crate::support::refusal::assert_refused;
use crate::support::{OTHER_PASSWORD, PASSWORD, TestServer, next_phone_number, registration};

#[tokio::test]
async fn every_rpc_with_the_current_password_counts_for_the_user() {
    let server = TestServer::start_with(&["--throttle-number-attempts=3"]).await;
    let (person, other) = (server.person().await, server.person().await);
    let mut client = server.client().await;
    // Attempts of strangers on the number do not count for a user with a session.
    fail(&mut client, &person.phone_number, 3).await;
    let current_password = || Some(OTHER_PASSWORD.to_owned());
    let update = |current_password| v1::UpdateProfileRequest {
        current_password,
        locale: Some("uz".to_owned()),
        ..v1::UpdateProfileRequest::default()
    };
    let right = client
        .update_profile(person.asks(update(Some(PASSWORD.to_owned()))))
        .await;
    right.unwrap();
    let hashed = server.hasher.completed();
    let wrong = "CURRENT_PASSWORD_WRONG";
    let updated = client
        .update_profile(person.asks(update(current_password())))
        .await;
    assert_refused(updated, Code::PermissionDenied, wrong);
    let request = v1::DeactivateProfileRequest {
        current_password: current_password(),
    };
    let deactivated = client.deactivate_profile(person.asks(request)).await;
    assert_refused(deactivated, Code::PermissionDenied, wrong);
    let request = v1::DeleteProfileRequest {
        current_password: current_password(),
    };
    let deleted = client.delete_profile(person.asks(request)).await;
    assert_refused(deleted, Code::PermissionDenied, wrong);

    let second = Duration::from_secs(1);
    let right = Some(PASSWORD.to_owned());
    let updated = client.update_profile(person.asks(update(right.clone()))).await;
    assert_eq!(wait_of(updated), second);
    let request = v1::DeactivateProfileRequest {
        current_password: right.clone(),
    };
    assert_eq!(
        wait_of(client.deactivate_profile(person.asks(request)).await),
        second
    );
    let request = v1::DeleteProfileRequest {
        current_password: right.clone(),
    };
    assert_eq!(wait_of(client.delete_profile(person.asks(request)).await), second);
    assert_eq!(server.hasher.completed() - hashed, 3);
    // Calls without a password are not delayed, and other users are not, either.
    client.update_profile(person.asks(update(None))).await.unwrap();
    client
        .update_profile(other.asks(update(right.clone())))
        .await
        .unwrap();
    server.clock.advance(second);
    client.update_profile(person.asks(update(right))).await.unwrap();
}

/// The response reveals whether a number is taken, so the call counts.
#[tokio::test]
async fn probing_for_taken_numbers_is_counted() {
    let server = TestServer::start_with(&[
        "--throttle-number-attempts=3",
        "--throttle-phone-claim-attempts=3",
        "--throttle-address-attempts=4",
    ])
    .await;
    let (person, superuser) = (server.person().await, server.superuser().await);
    let mut taken = Vec::new();
    for _ in 0..5 {
        taken.push(server.person().await.phone_number);
    }
    let mut client = server.client().await;
    // By the number, where nothing else is known.
    for _ in 0..3 {
        let refused = client.register(registration(&taken[0], PASSWORD)).await;
        assert_refused(refused, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    }
    let hashed = server.hasher.completed();
    wait_of(client.register(registration(&taken[0], PASSWORD)).await);
    assert_eq!(server.hasher.completed(), hashed);
    // The address counts. A successful registration is not delayed.
    let at = |number: &str| {
        let client = from("192.0.2.7", number, PASSWORD).client;
        v1::RegisterRequest {
            client,
            ..registration(number, PASSWORD)
        }
    };
    for _ in 0..10 {
        client.register(at(&next_phone_number())).await.unwrap();
    }
    for number in &taken[1..] {
        let refused = client.register(at(number)).await;
        assert_refused(refused, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    }
    wait_of(client.register(at(&next_phone_number())).await);
    // Calls of the user count, for all numbers.
    let change = |number: &str| v1::UpdateProfileRequest {
        new_phone_number: Some(number.to_owned()),
        ..v1::UpdateProfileRequest::default()
    };
    for _ in 0..6 {
        client
            .update_profile(person.asks(change(&next_phone_number())))
            .await
            .unwrap();
    }
    for number in &taken[1..4] {
        let refused = client.update_profile(person.asks(change(number))).await;
        assert_refused(refused, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    }
    wait_of(
        client
            .update_profile(person.asks(change(&next_phone_number())))
            .await,
    );
    let create = |number: &str| v1::CreateSuperuserRequest {
        phone_number: number.to_owned(),
        password: PASSWORD.to_owned(),
        ..v1::CreateSuperuserRequest::default()
    };
    for _ in 0..6 {
        client
            .create_superuser(superuser.asks(create(&next_phone_number())))
            .await
            .unwrap();
    }
    for number in &taken[1..4] {
        let refused = client.create_superuser(superuser.asks(create(number))).await;
        assert_refused(refused, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    }
    wait_of(
        client
            .create_superuser(superuser.asks(create(&next_phone_number())))
            .await,
    );
}
