//! The limit on right passwords, by service and client network.

use std::time::Duration;

use phone_identity::proto::v1;
use tonic::Code;

use super::{from, wait_of};
use crate::support::refusal::assert_refused;
use crate::support::{OTHER_PASSWORD, PASSWORD, TestServer, UNTHROTTLED, credentials, next_phone_number};

const FLAGS: [&str; 4] = [
    "--throttle-success-attempts=5",
    "--throttle-success-recovery=1s",
    UNTHROTTLED[0],
    UNTHROTTLED[1],
];

#[tokio::test]
async fn right_passwords_from_a_network_have_a_limit() {
    let server = TestServer::start_with(&FLAGS).await;
    let person = server.person().await;
    let mut client = server.client().await;
    let mut right = async |address: &str| {
        let request = from(address, &person.phone_number, PASSWORD);
        client.authenticate(request).await
    };
    // One IPv6 address, and the four times as many of its /48.
    for (addresses, expected) in [(1_u32, 5), (40, 20)] {
        let mut succeeded = 0;
        for round in 0..40 {
            let address = format!("2001:db8:{addresses}:{:x}::{round:x}", (round % addresses) << 8);
            succeeded += u32::from(right(&address).await.is_ok());
        }
        assert_eq!(succeeded, expected, "{addresses}");
    }
    for _ in 0..5 {
        right("192.0.2.7").await.unwrap();
    }
    let hashed = server.hasher.completed();
    for _ in 0..3 {
        assert_eq!(wait_of(right("::ffff:192.0.2.7").await), Duration::from_secs(1));
    }
    assert_eq!(
        server.hasher.completed(),
        hashed,
        "was hashed while it was refused"
    );
    assert_eq!(server.database.count("attempts").await, 0);
    // Other networks and calls without an address are not limited.
    right("192.0.2.8").await.unwrap();
    for _ in 0..10 {
        person.sign_in_again(&server).await;
    }
    server.clock.advance(Duration::from_secs(1));
    right("192.0.2.7").await.unwrap();
    wait_of(right("192.0.2.7").await);
}

/// All RPCs by which a right password costs a hash share it, and failures do not count.
#[tokio::test]
async fn every_hash_of_a_right_password_counts_and_failures_do_not() {
    let server = TestServer::start_with(&FLAGS).await;
    let mut client = server.client().await;
    let at = |number: &str| {
        let client = from("192.0.2.7", number, PASSWORD).client;
        v1::RegisterRequest {
            client,
            ..crate::support::registration(number, PASSWORD)
        }
    };
    let numbers = [next_phone_number(), next_phone_number()];
    let mut token = String::new();
    for number in &numbers {
        token = client
            .register(at(number))
            .await
            .unwrap()
            .into_inner()
            .session_token;
    }
    for _ in 0..10 {
        let wrong = client
            .authenticate(from("192.0.2.7", &numbers[0], OTHER_PASSWORD))
            .await;
        assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
    }
    // By the current password: once to show it, and once for the new one.
    let update = v1::UpdateProfileRequest {
        current_password: Some(PASSWORD.to_owned()),
        new_password: Some(OTHER_PASSWORD.to_owned()),
        ..v1::UpdateProfileRequest::default()
    };
    client
        .update_profile(crate::support::with_bearer(&token, update))
        .await
        .unwrap();
    client
        .authenticate(from("192.0.2.7", &numbers[0], PASSWORD))
        .await
        .unwrap();
    wait_of(client.register(at(&next_phone_number())).await);
    wait_of(
        client
            .authenticate(from("192.0.2.7", &numbers[0], PASSWORD))
            .await,
    );
}

/// Neighbours behind the same carrier-grade NAT do not keep a known device out.
#[tokio::test]
async fn a_known_device_signs_in_when_its_network_has_used_up_its_successes() {
    let server = TestServer::start_with(&["--throttle-success-attempts=120"]).await;
    let person = server.person().await;
    let mut client = server.client().await;
    let request = v1::AuthenticateRequest {
        remember_device: true,
        ..from("192.0.2.7", &person.phone_number, PASSWORD)
    };
    let remembered = client.authenticate(request).await.unwrap();
    let device_token = remembered.into_inner().device_token;
    for _ in 1..120 {
        let request = from("192.0.2.7", &person.phone_number, PASSWORD);
        client.authenticate(request).await.unwrap();
    }
    wait_of(
        client
            .authenticate(from("192.0.2.7", &person.phone_number, PASSWORD))
            .await,
    );
    let known = || v1::AuthenticateRequest {
        device_token: device_token.clone(),
        ..from("192.0.2.7", &person.phone_number, PASSWORD)
    };
    // A 60th of the burst, and a 600th of the rate.
    for _ in 0..2 {
        client.authenticate(known()).await.unwrap();
    }
    assert_eq!(
        wait_of(client.authenticate(known()).await),
        Duration::from_mins(1)
    );
}

#[tokio::test]
async fn the_limit_on_successes_can_be_switched_off() {
    let server =
        TestServer::start_with(&["--throttle-success-attempts=0", "--throttle-success-recovery=1h"]).await;
    let person = server.person().await;
    let mut client = server.client().await;
    for _ in 0..20 {
        let request = from("192.0.2.7", &person.phone_number, PASSWORD);
        client.authenticate(request).await.unwrap();
    }
    client
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await
        .unwrap();
}
