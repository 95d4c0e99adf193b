//! Attempts that a full hash queue rejects are not counted.

use tokio::task::JoinSet;
use tonic::Code;

use crate::support::refusal::assert_refused;
use crate::support::{PASSWORD, TestServer, credentials, next_phone_number, validation};

/// A call that the full queue rejects computes no hash. It does not count as a guess and causes no long delay.
#[tokio::test]
async fn a_call_that_a_full_queue_rejects_is_no_guess() {
    let server = TestServer::start_with(&["--hash-queue=1", "--throttle-number-attempts=1"]).await;
    let (person, other) = (server.person().await, server.person().await);
    let held = server.hasher.hold();
    let (mut client, request) = (server.client().await, credentials(&other.phone_number, PASSWORD));
    let waiting = tokio::spawn(async move { client.authenticate(request).await });
    server.waiting(1).await;
    let mut client = server.client().await;
    for _ in 0..3 {
        let refused = client
            .authenticate(credentials(&person.phone_number, PASSWORD))
            .await;
        assert_refused(refused, Code::Unavailable, "OVERLOADED");
    }
    assert_eq!(
        server.database.count("attempts").await,
        1,
        "of the one that waits"
    );
    drop(held);
    waiting.await.unwrap().unwrap();
    person.sign_in_again(&server).await;
}

/// All arrive before the queue is full.
#[tokio::test]
async fn attempts_are_refunded_if_the_queue_is_full() {
    let server = TestServer::start_with(&["--hash-queue=1"]).await;
    let (held_hashes, held_writes) = (server.hasher.hold(), server.database.hold_writes().await);
    let mut client = server.client().await;
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        let (mut client, number) = (client.clone(), next_phone_number());
        calls.spawn(async move { client.authenticate(credentials(&number, PASSWORD)).await });
    }
    // On one connection, a response shows that earlier requests have arrived.
    client.validate_session(validation("no token")).await.unwrap_err();
    held_writes.release().await;
    for _ in 0..5 {
        let refused = calls.join_next().await.unwrap().unwrap();
        assert_refused(refused, Code::Unavailable, "OVERLOADED");
    }
    server.waiting(1).await;
    assert_eq!(
        server.database.count("attempts").await,
        1,
        "of the one that waits"
    );
    drop(held_hashes);
    let last = calls.join_next().await.unwrap().unwrap();
    assert_refused(last, Code::Unauthenticated, "INVALID_CREDENTIALS");
}
