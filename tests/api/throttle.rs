//! Throttling: of whom attempts are counted, how long they have to wait, and that nobody guesses for free.

mod abandoned;
mod attack;
mod creations;
mod devices;
mod networks;
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
    registration, validation,
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
        // What is told is what remains.
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
async fn numbers_that_nobody_has_are_throttled_as_others_are() {
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
async fn of_many_guesses_at_once_no_more_are_hashed_than_are_free() {
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

/// What has been written of them has met, and still each has its own.
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

/// Who knows the password has not guessed it.
#[tokio::test]
async fn to_be_deactivated_is_no_failure() {
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

/// As a backend does that passes no addresses: what each call does is nobody's but the number's.
#[tokio::test]
async fn without_addresses_people_register_and_sign_in_at_full_speed() {
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
async fn a_limit_of_services_counts_those_together_that_do_not_say_who_they_are() {
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
async fn every_rpc_that_takes_the_current_password_counts_for_the_person() {
    let server = TestServer::start_with(&["--throttle-number-attempts=3"]).await;
    let (person, other) = (server.person().await, server.person().await);
    let mut client = server.client().await;
    // What strangers do to the number is not the fault of whoever has a session.
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
    // What needs no password goes on, and so does everybody else.
    client.update_profile(person.asks(update(None))).await.unwrap();
    client
        .update_profile(other.asks(update(right.clone())))
        .await
        .unwrap();
    server.clock.advance(second);
    client.update_profile(person.asks(update(right))).await.unwrap();
}

/// Whether a number is taken is told, so asking is counted.
#[tokio::test]
async fn asking_whether_numbers_are_taken_is_counted() {
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
    // By the address. Who registers with success goes on.
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
    // By the person, whatever the numbers.
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

/// Nothing was hashed for them, so nobody has guessed, and an overload makes nobody wait for long.
#[tokio::test]
async fn who_was_refused_by_a_full_queue_has_not_guessed() {
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

/// All of them come while there is room, and then there is not.
#[tokio::test]
async fn what_was_reserved_before_the_queue_was_full_is_given_back() {
    let server = TestServer::start_with(&["--hash-queue=1"]).await;
    let (held_hashes, held_writes) = (server.hasher.hold(), server.database.hold_writes().await);
    let mut client = server.client().await;
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        let (mut client, number) = (client.clone(), next_phone_number());
        calls.spawn(async move { client.authenticate(credentials(&number, PASSWORD)).await });
    }
    // On one connection, what is answered shows that what was asked before has come.
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

#[tokio::test]
async fn what_is_remembered_shows_no_number_and_is_removed() {
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
