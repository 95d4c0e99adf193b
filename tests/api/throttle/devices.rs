//! Known devices: devices with an earlier sign-in of the user.

use std::time::Duration;

use phone_identity::proto::v1;
use tonic::Code;

use super::{fail, from, until_rows, wait_of};
use crate::support::refusal::assert_refused;
use crate::support::{
    Client, OTHER_PASSWORD, PASSWORD, TestServer, credentials, next_phone_number, registration, validation,
};

fn remembering(phone_number: &str) -> v1::AuthenticateRequest {
    v1::AuthenticateRequest {
        remember_device: true,
        ..credentials(phone_number, PASSWORD)
    }
}

fn on(device_token: &str, phone_number: &str, password: &str) -> v1::AuthenticateRequest {
    v1::AuthenticateRequest {
        device_token: device_token.to_owned(),
        ..credentials(phone_number, password)
    }
}

async fn remembered(client: &mut Client, phone_number: &str) -> String {
    let answer = client.authenticate(remembering(phone_number)).await.unwrap();
    answer.into_inner().device_token
}

#[tokio::test]
async fn strangers_do_not_shut_out_a_known_device_which_has_attempts_of_its_own() {
    let server = TestServer::start_with(&[
        "--throttle-number-attempts=3",
        "--throttle-address-attempts=3",
        "--throttle-service-attempts=3",
    ])
    .await;
    let person = server.person().await;
    let mut client = server.client().await;
    let device = remembered(&mut client, &person.phone_number).await;
    assert!(device.starts_with("pdv_") && device.len() == 54, "{device}");
    for _ in 0..3 {
        let wrong = client
            .authenticate(from("192.0.2.7", &person.phone_number, OTHER_PASSWORD))
            .await;
        assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
    }
    // Number, address and service have to wait, and the device does not.
    let request = |password| v1::AuthenticateRequest {
        device_token: device.clone(),
        ..from("192.0.2.7", &person.phone_number, password)
    };
    wait_of(
        client
            .authenticate(from("192.0.2.7", &person.phone_number, PASSWORD))
            .await,
    );
    for _ in 0..5 {
        let signed_in = client.authenticate(request(PASSWORD)).await.unwrap().into_inner();
        assert_eq!(signed_in.device_token, device);
    }
    let hashed = server.hasher.completed();
    for _ in 0..3 {
        let wrong = client.authenticate(request(OTHER_PASSWORD)).await;
        assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
    }
    assert_eq!(
        wait_of(client.authenticate(request(PASSWORD)).await),
        Duration::from_secs(1)
    );
    assert_eq!(server.hasher.completed() - hashed, 3);
}

#[tokio::test]
async fn a_device_token_is_issued_only_on_request_and_is_no_session() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let number = next_phone_number();
    let request = v1::RegisterRequest {
        remember_device: true,
        ..registration(&number, PASSWORD)
    };
    let device = client.register(request).await.unwrap().into_inner().device_token;
    assert!(device.starts_with("pdv_"), "{device}");
    let plain = client.authenticate(credentials(&number, PASSWORD)).await;
    assert_eq!(plain.unwrap().into_inner().device_token, "");
    // A known device gets no other token.
    let request = v1::AuthenticateRequest {
        remember_device: true,
        ..on(&device, &number, PASSWORD)
    };
    let again = client.authenticate(request).await.unwrap().into_inner();
    assert_eq!(again.device_token, device);
    assert_eq!(server.database.count("devices").await, 1);
    let session = client.validate_session(validation(&device)).await;
    assert_refused(session, Code::Unauthenticated, "SESSION_INVALID");
    // Only its hash is stored.
    assert!(!server.database.dump().await.contains(&device[4..]));
}

/// Invalid device tokens are ignored, and no response reveals that they are invalid.
#[tokio::test]
async fn a_device_token_helps_with_the_number_of_its_person_only() {
    let server = TestServer::start_with(&["--throttle-number-attempts=2"]).await;
    let (person, other) = (server.person().await, server.person().await);
    let mut client = server.client().await;
    let device = remembered(&mut client, &other.phone_number).await;
    for (token, number) in [
        (device.as_str(), person.phone_number.as_str()),
        (device.as_str(), "+998712345678"),
        ("no token", "+998712345679"),
        (other.token.as_str(), "+998712345670"),
    ] {
        for _ in 0..2 {
            let wrong = client.authenticate(on(token, number, OTHER_PASSWORD)).await;
            assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
        }
        wait_of(client.authenticate(on(token, number, PASSWORD)).await);
    }
    let answer = client
        .authenticate(on(&device, &other.phone_number, PASSWORD))
        .await;
    assert_eq!(answer.unwrap().into_inner().device_token, device);
}

#[tokio::test]
async fn a_new_password_makes_every_device_unknown() {
    let server = TestServer::start_with(&["--throttle-number-attempts=1"]).await;
    let person = server.person().await;
    let mut client = server.client().await;
    let device = remembered(&mut client, &person.phone_number).await;
    let request = v1::UpdateProfileRequest {
        current_password: Some(PASSWORD.to_owned()),
        new_password: Some(OTHER_PASSWORD.to_owned()),
        ..v1::UpdateProfileRequest::default()
    };
    client.update_profile(person.asks(request)).await.unwrap();
    let answer = client
        .authenticate(on(&device, &person.phone_number, OTHER_PASSWORD))
        .await;
    assert_eq!(answer.unwrap().into_inner().device_token, "");
    let wrong = client
        .authenticate(on(&device, &person.phone_number, PASSWORD))
        .await;
    assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
    wait_of(
        client
            .authenticate(on(&device, &person.phone_number, OTHER_PASSWORD))
            .await,
    );
}

#[tokio::test]
async fn a_device_is_not_known_with_a_new_number_and_gone_with_the_account() {
    let server = TestServer::start_with(&["--throttle-number-attempts=1"]).await;
    let person = server.person().await;
    let mut client = server.client().await;
    let device = remembered(&mut client, &person.phone_number).await;
    let number = next_phone_number();
    let request = v1::UpdateProfileRequest {
        new_phone_number: Some(number.clone()),
        ..v1::UpdateProfileRequest::default()
    };
    client.update_profile(person.asks(request)).await.unwrap();
    let answer = client.authenticate(on(&device, &number, PASSWORD)).await;
    assert_eq!(answer.unwrap().into_inner().device_token, "");
    let device = remembered(&mut client, &number).await;
    fail(&mut client, &number, 1).await;
    client.authenticate(on(&device, &number, PASSWORD)).await.unwrap();
    let request = v1::DeleteProfileRequest {
        current_password: Some(PASSWORD.to_owned()),
    };
    client.delete_profile(person.asks(request)).await.unwrap();
    assert_eq!(server.database.count("devices").await, 0);
    wait_of(client.authenticate(on(&device, &number, PASSWORD)).await);
}

#[tokio::test]
async fn a_device_is_forgotten_when_it_is_not_used() {
    let server = TestServer::start_with(&[
        "--device-lifetime=10d",
        "--max-devices=2",
        "--cleanup-interval=10ms",
    ])
    .await;
    let person = server.person().await;
    let mut client = server.client().await;
    let first = remembered(&mut client, &person.phone_number).await;
    let day = Duration::from_hours(24);
    server.clock.advance(2 * day);
    let second = remembered(&mut client, &person.phone_number).await;
    server.clock.advance(2 * day);
    let is_known = async |client: &mut Client, device: &str| {
        let answer = client
            .authenticate(on(device, &person.phone_number, PASSWORD))
            .await;
        answer.unwrap().into_inner().device_token == device
    };
    assert!(is_known(&mut client, &first).await);
    // The second device was unused for longer, so it is evicted.
    let third = remembered(&mut client, &person.phone_number).await;
    assert!(is_known(&mut client, &first).await);
    assert!(!is_known(&mut client, &second).await);
    assert!(is_known(&mut client, &third).await);
    server.clock.advance(9 * day);
    assert!(is_known(&mut client, &first).await);
    server.clock.advance(2 * day);
    assert!(!is_known(&mut client, &third).await);
    until_rows(&server, "devices", 1).await;
    assert!(is_known(&mut client, &first).await);
    server.clock.advance(10 * day);
    until_rows(&server, "devices", 0).await;
}
