//! Ten thousand guesses from a thousand addresses.

use std::time::Duration;

use phone_identity::proto::v1;
use tokio::task::JoinSet;
use tonic::Code;

use super::from;
use crate::support::{Client, OTHER_PASSWORD, PASSWORD, TestServer, credentials};

const GUESSES: u64 = 10_000;
const ADDRESSES: u64 = 1_000;
const AT_ONCE: u64 = 50;

/// By the defaults, ten guesses are free. The next ones follow after one second, two, four, ... Every hundred guesses
/// take a second, a hundred seconds in total: enough for 1 + 2 + 4 + 8 + 16 + 32 = 63 seconds of delays, and not for 64
/// more.
const BUDGET: u64 = 10 + 6;

async fn guess(mut client: Client, address: String, phone_number: String) -> Code {
    let request = from(&address, &phone_number, OTHER_PASSWORD);
    client.authenticate(request).await.unwrap_err().code()
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_stay_within_the_budget_and_the_owner_gets_in() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let request = v1::AuthenticateRequest {
        remember_device: true,
        ..credentials(&person.phone_number, PASSWORD)
    };
    let mut owner = server.client().await;
    let device_token = owner
        .authenticate(request)
        .await
        .unwrap()
        .into_inner()
        .device_token;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(server.client().await);
    }
    let before = server.hasher.completed();
    let (mut guessed, mut refused, mut by_owner) = (0, 0, 0);
    for round in 0..GUESSES / AT_ONCE {
        let mut calls = JoinSet::new();
        for number in round * AT_ONCE..(round + 1) * AT_ONCE {
            let client = clients[usize::try_from(number % 8).unwrap()].clone();
            let address = number * 7 % ADDRESSES;
            let address = format!("10.0.{}.{}", address / 250, address % 250);
            calls.spawn(guess(client, address, person.phone_number.clone()));
        }
        if round % 20 == 10 {
            let request = v1::AuthenticateRequest {
                device_token: device_token.clone(),
                ..from("10.0.0.1", &person.phone_number, PASSWORD)
            };
            owner.authenticate(request).await.unwrap();
            by_owner += 1;
        }
        for code in calls.join_all().await {
            match code {
                Code::Unauthenticated => guessed += 1,
                Code::ResourceExhausted => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        if round % 2 == 1 {
            server.clock.advance(Duration::from_secs(1));
        }
    }
    assert_eq!((guessed, refused), (BUDGET, GUESSES - BUDGET));
    assert_eq!(server.hasher.completed() - before, BUDGET + by_owner);
    assert_eq!(by_owner, 10);
}
