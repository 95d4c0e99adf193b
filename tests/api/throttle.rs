//! Throttling: the counters of attempts, the delays, and that no guess is free.

mod abandoned;
mod attack;
mod creations;
mod devices;
mod networks;
mod other_rpcs;
mod queue;
mod successes;

use std::time::Duration;

use phone_identity::proto::v1;
use tokio::task::JoinSet;
use tonic::{Code, Response, Status};

use crate::support::binary::ServerProcess;
use crate::support::place::Place;
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{
    Client, OTHER_PASSWORD, PASSWORD, TestServer, connect, credentials, eventually, next_phone_number,
    registration,
};

const UNKNOWN: &str = "+998712345678";

/// A sign-in from an address.
pub(crate) fn from(address: &str, phone_number: &str, password: &str) -> v1::AuthenticateRequest {
    v1::AuthenticateRequest {
        client: Some(v1::ClientInfo {
            ip_address: address.to_owned(),
            ..v1::ClientInfo::default()
        }),
        ..credentials(phone_number, password)
    }
}

/// Checks that a call was refused since there were too many attempts, and gives the time after which to try again.
pub(crate) fn wait_of<T: std::fmt::Debug>(outcome: Result<Response<T>, Status>) -> Duration {
    let refusal = refusal(&outcome.expect_err("was not refused"));
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS"),
        "{refusal:?}"
    );
    refusal.retry_after.expect("no RetryInfo")
}

/// Tries wrong passwords.
pub(crate) async fn fail(client: &mut Client, phone_number: &str, times: usize) {
    for _ in 0..times {
        let wrong = client
            .authenticate(credentials(phone_number, OTHER_PASSWORD))
            .await;
        assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
    }
}

#[tokio::test]
async fn some_failures_are_free_then_delays_double_and_the_owner_gets_in() {
    let server = TestServer::start_with(&["--throttle-number-attempts=3", "--throttle-max-delay=10s"]).await;
    let person = server.person().await;
    let mut client = server.client().await;
    fail(&mut client, &person.phone_number, 3).await;
    for seconds in [1, 2, 4, 8, 10, 10] {
        let delay = Duration::from_secs(seconds);
        let hashed = server.hasher.completed();
        for password in [OTHER_PASSWORD, PASSWORD] {
            let refused = client
                .authenticate(credentials(&person.phone_number, password))
                .await;
            assert_eq!(wait_of(refused), delay);
        }
        // The response has the remaining delay.
        server.clock.advance(delay - Duration::from_millis(1));
        let refused = client
            .authenticate(credentials(&person.phone_number, PASSWORD))
            .await;
        assert_eq!(wait_of(refused), Duration::from_millis(1));
        assert_eq!(
            server.hasher.completed(),
            hashed,
            "was hashed while it was refused"
        );
        server.clock.advance(Duration::from_millis(1));
        fail(&mut client, &person.phone_number, 1).await;
    }
    server.clock.advance(Duration::from_secs(10));
    client
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await
        .unwrap();
    // One failure is forgotten in an hour; of the seven that are remembered at most, all are in the end.
    server.clock.advance(Duration::from_hours(7));
    fail(&mut client, &person.phone_number, 3).await;
    let refused = client
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await;
    assert_eq!(wait_of(refused), Duration::from_secs(1));
}

#[tokio::test]
async fn numbers_without_an_account_are_throttled_as_others_are() {
    let server = TestServer::start_with(&["--throttle-number-attempts=2"]).await;
    let (person, deactivated) = (server.person().await, server.person().await);
    let mut client = server.client().await;
    client
        .deactivate_profile(deactivated.asks(v1::DeactivateProfileRequest::default()))
        .await
        .unwrap();
    let mut answers = Vec::new();
    for number in [UNKNOWN, &person.phone_number, &deactivated.phone_number] {
        let hashed = server.hasher.completed();
        let mut of_this = Vec::new();
        for _ in 0..4 {
            let status = client
                .authenticate(credentials(number, OTHER_PASSWORD))
                .await
                .unwrap_err();
            of_this.push((
                status.code(),
                status.message().to_owned(),
                status.details().to_vec(),
            ));
        }
        assert_eq!(server.hasher.completed() - hashed, 2);
        answers.push(of_this);
    }
    assert_eq!(answers[0][1].0, Code::Unauthenticated);
    assert_eq!(answers[0][2].0, Code::ResourceExhausted);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

/// By the defaults.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_guesses_hash_no_more_than_the_free_attempts() {
    let server = TestServer::start().await;
    let person = server.person().await;
    for number in [&person.phone_number, UNKNOWN] {
        let hashed = server.hasher.completed();
        let mut calls = JoinSet::new();
        for _ in 0..64 {
            let (mut client, request) = (server.client().await, credentials(number, OTHER_PASSWORD));
            calls.spawn(async move { client.authenticate(request).await.unwrap_err().code() });
        }
        let codes = calls.join_all().await;
        let refused = codes
            .iter()
            .filter(|code| **code == Code::ResourceExhausted)
            .count();
        assert_eq!(
            (server.hasher.completed() - hashed, refused),
            (10, 54),
            "{codes:?}"
        );
    }
}

#[tokio::test]
async fn replicas_count_together_and_a_killed_one_forgets_nothing() {
    let place = Place::new().await;
    let flags = [
        "--throttle-number-attempts=5",
        "--throttle-base-delay=15m",
        "--min-failed-sign-in-duration=0s",
    ];
    let (one, other) = (
        ServerProcess::start(&place, &flags).await,
        ServerProcess::start(&place, &flags).await,
    );
    let number = next_phone_number();
    let (mut client, mut second) = (connect(one.address).await, connect(other.address).await);
    client.register(registration(&number, PASSWORD)).await.unwrap();
    fail(&mut client, &number, 2).await;
    fail(&mut second, &number, 2).await;
    one.signal("KILL");
    one.ended().await;
    fail(&mut second, &number, 1).await;
    let refused = second.authenticate(credentials(&number, PASSWORD)).await;
    assert!(wait_of(refused) > Duration::from_secs(14 * 60));
    other.signal("KILL");
    other.ended().await;
    let again = ServerProcess::start(&place, &flags).await;
    let refused = connect(again.address)
        .await
        .authenticate(credentials(&number, PASSWORD))
        .await;
    assert!(wait_of(refused) > Duration::from_secs(14 * 60));
}

#[tokio::test]
async fn success_gives_back_its_own_attempt_and_no_other() {
    let server = TestServer::start_with(&["--throttle-number-attempts=3"]).await;
    let person = server.person().await;
    for _ in 0..10 {
        person.sign_in_again(&server).await;
    }
    assert_eq!(server.database.count("attempts").await, 0);
    let mut client = server.client().await;
    fail(&mut client, &person.phone_number, 2).await;
    // The failures of others are not forgiven because the owner was there.
    for _ in 0..10 {
        person.sign_in_again(&server).await;
    }
    fail(&mut client, &person.phone_number, 1).await;
    let refused = client
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await;
    assert_eq!(wait_of(refused), Duration::from_secs(1));
}

/// Their writes conflicted, and each still has its own attempt.
#[tokio::test(flavor = "multi_thread")]
async fn success_beside_a_failure_gives_back_its_own_attempt_and_no_other() {
    let server = TestServer::start_with(&["--throttle-number-attempts=3"]).await;
    let person = server.person().await;
    let held = server.hasher.hold();
    let mut calls = Vec::new();
    for password in [PASSWORD, OTHER_PASSWORD, PASSWORD] {
        let (mut client, request) = (server.client().await, credentials(&person.phone_number, password));
        calls.push(tokio::spawn(async move { client.authenticate(request).await }));
        // One after another: the first makes the row, and the others find it.
        server.waiting(calls.len()).await;
    }
    drop(held);
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap().is_ok());
    }
    assert_eq!(outcomes, [true, false, true]);
    let mut client = server.client().await;
    fail(&mut client, &person.phone_number, 2).await;
    let refused = client
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await;
    assert_eq!(wait_of(refused), Duration::from_secs(1));
}

/// A caller with the right password has not guessed.
#[tokio::test]
async fn a_sign_in_to_a_deactivated_account_is_no_failure() {
    let server = TestServer::start_with(&["--throttle-number-attempts=2"]).await;
    let person = server.person().await;
    let mut client = server.client().await;
    client
        .deactivate_profile(person.asks(v1::DeactivateProfileRequest::default()))
        .await
        .unwrap();
    for _ in 0..6 {
        let deactivated = client
            .authenticate(credentials(&person.phone_number, PASSWORD))
            .await;
        assert_refused(deactivated, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
    }
}

#[tokio::test]
async fn an_address_is_counted_over_all_numbers_and_one_of_ipv6_by_its_network() {
    let server = TestServer::start_with(&["--throttle-address-attempts=2"]).await;
    let person = server.person().await;
    let mut client = server.client().await;
    let mut rows = 0;
    for (prefixes, first, second, same, other) in [
        (1, "192.0.2.7", "192.0.2.7", "::ffff:192.0.2.7", "192.0.2.8"),
        (
            3,
            "2001:db8:0:1::1",
            "2001:db8:0:1:ffff::2",
            "2001:db8:0:1:2:3:4:5",
            "2001:db8:0:2::1",
        ),
    ] {
        for address in [first, second] {
            let wrong = client
                .authenticate(from(address, &next_phone_number(), PASSWORD))
                .await;
            assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
        }
        let refused = client
            .authenticate(from(same, &person.phone_number, PASSWORD))
            .await;
        assert_eq!(wait_of(refused), Duration::from_secs(1));
        // Two numbers and the prefixes of the address; of what was refused nothing stays reserved.
        rows += 2 + prefixes;
        assert_eq!(server.database.count("attempts").await, rows);
        client
            .authenticate(from(other, &person.phone_number, PASSWORD))
            .await
            .unwrap();
        client
            .authenticate(credentials(&person.phone_number, PASSWORD))
            .await
            .unwrap();
    }
    // The address has recovered, and what was refused has cost the number nothing.
    server.clock.advance(Duration::from_secs(20));
    client
        .authenticate(from("192.0.2.7", &person.phone_number, PASSWORD))
        .await
        .unwrap();
}

/// A calling service that passes no addresses: each call counts only for the number.
#[tokio::test]
async fn without_addresses_users_register_and_sign_in_at_full_speed() {
    let server = TestServer::start_with(&["--throttle-address-attempts=1"]).await;
    let mut client = server.client().await;
    for _ in 0..50 {
        let number = next_phone_number();
        client.register(registration(&number, PASSWORD)).await.unwrap();
        fail(&mut client, &number, 1).await;
        client.authenticate(credentials(&number, PASSWORD)).await.unwrap();
    }
}

#[tokio::test]
async fn a_limit_of_services_counts_unauthenticated_services_together() {
    let server = TestServer::start_with(&["--throttle-service-attempts=3"]).await;
    let person = server.person().await;
    let mut client = server.client().await;
    for _ in 0..3 {
        fail(&mut client, &next_phone_number(), 1).await;
    }
    let refused = client
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await;
    assert_eq!(wait_of(refused), Duration::from_secs(1));
    server.clock.advance(Duration::from_secs(1));
    person.sign_in_again(&server).await;
}

#[tokio::test]
async fn stored_counters_contain_no_number_and_are_removed() {
    let server = TestServer::start_with(&["--cleanup-interval=10ms"]).await;
    let mut client = server.client().await;
    let request = from("192.0.2.77", UNKNOWN, PASSWORD);
    client.authenticate(request).await.unwrap_err();
    assert_eq!(server.database.count("attempts").await, 2);
    let dump = server.database.dump().await;
    assert!(dump.contains("attempts.id"), "{dump}");
    assert!(!dump.contains(&UNKNOWN[1..]), "{dump}");
    let mut attempts = dump.lines().filter(|line| line.starts_with("attempts."));
    assert!(attempts.all(|line| !line.contains("192.0.2.77")), "{dump}");
    server.clock.advance(Duration::from_secs(10));
    until_rows(&server, "attempts", 1).await;
    server.clock.advance(Duration::from_hours(1));
    until_rows(&server, "attempts", 0).await;
}

/// Waits until a table has so many rows.
pub(crate) async fn until_rows(server: &TestServer, table: &str, rows: i64) {
    let waiting = async {
        while server.database.count(table).await != rows {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("did not become so");
}

#[tokio::test]
async fn limits_can_be_switched_off() {
    let server = TestServer::start_with(&["--throttle-number-attempts=0"]).await;
    let person = server.person().await;
    let mut client = server.client().await;
    fail(&mut client, &person.phone_number, 30).await;
    person.sign_in_again(&server).await;
    assert_eq!(server.database.count("attempts").await, 0);
    eventually(|| server.hasher.snapshot().depth == 0).await;
}
