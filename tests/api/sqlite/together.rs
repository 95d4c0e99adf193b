//! Group commit: SQLite commits concurrent sign-ins together.

use std::collections::HashSet;
use std::time::Duration;

use phone_identity::proto::v1;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::{Code, Response, Status};

use crate::support::database::HeldWrites;
use crate::support::refusal::assert_refused;
use crate::support::{PASSWORD, Person, TestServer, UNTHROTTLED, credentials, validation};

type SignedIn = Result<Response<v1::AuthenticateResponse>, Status>;

/// As [`ask_at_once`], with nothing but their passwords.
async fn sign_in_at_once(
    server: &TestServer,
    people: &[&Person],
    meanwhile: impl AsyncFnOnce(&HeldWrites),
) -> Vec<SignedIn> {
    let requests = people
        .iter()
        .map(|person| credentials(&person.phone_number, PASSWORD));
    ask_at_once(server, requests.collect(), meanwhile).await
}

/// Signs users in. When `meanwhile` ends, all are hashed and none is committed. Returns the outcome of each.
async fn ask_at_once(
    server: &TestServer,
    requests: Vec<v1::AuthenticateRequest>,
    meanwhile: impl AsyncFnOnce(&HeldWrites),
) -> Vec<SignedIn> {
    let held = server.database.hold_writes().await;
    let hashed = server.hasher.completed() + u64::try_from(requests.len()).unwrap();
    let mut calls = JoinSet::new();
    for (number, request) in requests.into_iter().enumerate() {
        let mut client = server.client().await;
        calls.spawn(async move { (number, client.authenticate(request).await) });
    }
    server.hashed(hashed).await;
    meanwhile(&held).await;
    held.release().await;
    let mut outcomes = calls.join_all().await;
    outcomes.sort_unstable_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// The tokens belong to this user, and are valid.
async fn assert_theirs(server: &TestServer, signed_in: &v1::AuthenticateResponse, person: &Person) {
    let (user, session) = (
        signed_in.user.as_ref().unwrap(),
        signed_in.session.as_ref().unwrap(),
    );
    assert_eq!(user.user_id, person.user.user_id);
    let mut client = server.client().await;
    let request = validation(&signed_in.session_token);
    let validated = client.validate_session(request).await.unwrap().into_inner();
    assert_eq!(validated.user.unwrap().user_id, person.user.user_id);
    assert_eq!(validated.session.unwrap().session_id, session.session_id);
}

#[tokio::test]
async fn each_sign_in_gets_its_own_result_and_a_changed_user_fails() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let people = server.people(20).await;
    let [changed, deactivated, ..] = people.as_slice() else {
        unreachable!("there are twenty");
    };
    let all: Vec<&Person> = people.iter().collect();
    let outcomes = sign_in_at_once(&server, &all, async |held| {
        let sql = "UPDATE users SET credential_version = credential_version + 1 WHERE id = ?";
        held.execute(sql, changed).await;
        let sql = "UPDATE users SET status = 'deactivated' WHERE id = ?";
        held.execute(sql, deactivated).await;
    })
    .await;
    let mut tokens = HashSet::new();
    for (number, (outcome, person)) in outcomes.into_iter().zip(&people).enumerate() {
        let events = |outcome: &str, count: u32| {
            format!(
                "SELECT 1 FROM (SELECT COUNT(*) AS n FROM audit_events WHERE subject_id = ? AND action = 'sign_in' \
                 AND outcome = '{outcome}') AS events WHERE n = {count}"
            )
        };
        if number < 2 {
            assert_refused(outcome, Code::Unauthenticated, "INVALID_CREDENTIALS");
            assert!(server.database.knows(&events("refused", 1), person).await);
            assert!(server.database.knows(&events("done", 0), person).await);
            assert_eq!(server.database.sessions_of(person).await, 1);
            continue;
        }
        let signed_in = outcome.unwrap().into_inner();
        assert_theirs(&server, &signed_in, person).await;
        assert!(tokens.insert(signed_in.session_token));
        assert!(server.database.knows(&events("done", 1), person).await);
        assert_eq!(server.database.sessions_of(person).await, 2);
    }
}

/// Concurrent sign-ins of one user do not exceed the maximum number of sessions.
#[tokio::test]
async fn the_oldest_sessions_of_one_user_are_evicted_in_a_batch_too() {
    let flags = [UNTHROTTLED.as_slice(), &["--max-sessions=2"]].concat();
    let server = TestServer::start_with(&flags).await;
    let (person, other) = (server.person().await, server.person().await);
    let people = [&other, &person, &person, &person, &other];
    let outcomes = sign_in_at_once(&server, &people, async |_| ()).await;
    for outcome in outcomes {
        outcome.unwrap();
    }
    for person in [&person, &other] {
        assert_eq!(server.database.sessions_of(person).await, 2);
    }
}

/// The attempts of all are given back.
#[tokio::test]
async fn nothing_is_stored_of_concurrent_sign_ins() {
    let server = TestServer::start().await;
    let people = server.people(20).await;
    let waiting = server.hasher.hold();
    let mut calls = JoinSet::new();
    for person in &people {
        let (mut client, request) = (server.client().await, credentials(&person.phone_number, PASSWORD));
        calls.spawn(async move { client.authenticate(request).await.map(|_| ()) });
    }
    server.waiting(people.len()).await;
    drop(waiting);
    for outcome in calls.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(server.database.count("attempts").await, 0);
}

#[tokio::test]
async fn one_that_cannot_be_written_keeps_none_of_the_others_back() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let people = server.people(12).await;
    // The last of all that a sign-in writes but the commit.
    let id = people[5].user.user_id.replace('-', "");
    let trigger = format!(
        "CREATE TRIGGER refuses BEFORE INSERT ON audit_events WHEN NEW.actor_id = x'{id}' \
         BEGIN SELECT RAISE(ABORT, 'not this one'); END"
    );
    server.database.execute_with(&trigger, Vec::new()).await;
    let all: Vec<&Person> = people.iter().collect();
    let outcomes = sign_in_at_once(&server, &all, async |_| ()).await;
    for (number, (outcome, person)) in outcomes.into_iter().zip(&people).enumerate() {
        if number == 5 {
            assert_refused(outcome, Code::Internal, "INTERNAL");
            assert_eq!(server.database.sessions_of(person).await, 1);
        } else {
            assert_theirs(&server, &outcome.unwrap().into_inner(), person).await;
            assert_eq!(server.database.sessions_of(person).await, 2);
        }
    }
}

/// Old sessions are evicted, accounts reactivated, hashes replaced and devices remembered for each, as for a single
/// sign-in.
#[tokio::test]
async fn all_that_a_sign_in_does_is_done_for_each() {
    let server = TestServer::start().await;
    let people = server.people(12).await;
    let mut newer = Vec::new();
    server.clock.advance(Duration::from_secs(1));
    for person in &people {
        newer.push(person.sign_in_again(&server).await);
    }
    let flags = ["--max-sessions=2", "--argon2-iterations=2"];
    let server = server
        .restart_with(&[UNTHROTTLED.as_slice(), &flags].concat())
        .await;
    server.clock.advance(Duration::from_secs(2));
    let comes_back = |number: usize| number.is_multiple_of(2);
    let is_remembered = |number: usize| number.is_multiple_of(3);
    let mut requests = Vec::new();
    for (number, person) in people.iter().enumerate() {
        let hash = server.database.password_hash(person).await;
        assert!(hash.contains(",t=1,"), "{hash}");
        // Its session is in memory.
        let mut client = server.client().await;
        client.validate_session(validation(&person.token)).await.unwrap();
        if comes_back(number) {
            let gone = "UPDATE users SET status = 'deactivated' WHERE id = ?";
            server.database.execute(gone, person).await;
        }
        requests.push(v1::AuthenticateRequest {
            reactivate: comes_back(number),
            remember_device: is_remembered(number),
            ..credentials(&person.phone_number, PASSWORD)
        });
    }
    let outcomes = ask_at_once(&server, requests, async |_| ()).await;
    for (number, (outcome, person)) in outcomes.into_iter().zip(&people).enumerate() {
        let signed_in = outcome.unwrap().into_inner();
        assert_theirs(&server, &signed_in, person).await;
        let status = signed_in.user.unwrap().status;
        assert_eq!(status, i32::from(v1::UserStatus::Active));
        assert_eq!(signed_in.device_token.is_empty(), !is_remembered(number));
        let hash = server.database.password_hash(person).await;
        assert!(hash.contains(",t=2,"), "{hash}");
        let mut client = server.client().await;
        let oldest = client.validate_session(validation(&person.token)).await;
        assert_refused(oldest, Code::Unauthenticated, "SESSION_INVALID");
        client
            .validate_session(validation(&newer[number].token))
            .await
            .unwrap();
        for (expected, query) in [
            (is_remembered(number), "SELECT 1 FROM devices WHERE user_id = ?"),
            (true, "SELECT 1 FROM users WHERE id = ? AND status = 'active'"),
            (
                comes_back(number),
                "SELECT 1 FROM audit_events WHERE subject_id = ? AND ended_sessions = 1 AND fields = 'status'",
            ),
            (
                !comes_back(number),
                "SELECT 1 FROM audit_events WHERE subject_id = ? AND ended_sessions = 1 AND fields IS NULL",
            ),
        ] {
            assert_eq!(server.database.knows(query, person).await, expected, "{query}");
        }
    }
    // One for each that was pushed out, and one for each that came back, in a row.
    let rows = server
        .database
        .rows("SELECT seq FROM identity_changes ORDER BY seq DESC LIMIT 18")
        .await;
    let numbers: Vec<i64> = rows.iter().map(|row| row.try_get("", "seq").unwrap()).collect();
    let last = numbers[0];
    assert_eq!(numbers, (last - 17..=last).rev().collect::<Vec<_>>());
}

/// While the database cannot be written, all sign-ins of a batch fail soon, and none is written later.
#[tokio::test]
async fn while_nothing_can_be_written_all_are_refused() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let people = server.people(30).await;
    let flags = [UNTHROTTLED.as_slice(), &["--database-acquire-timeout=300ms"]].concat();
    let server = server.restart_with(&flags).await;
    let held = server.database.hold_writes().await;
    let mut calls = JoinSet::new();
    // Each twice.
    for person in people.iter().flat_map(|person| [person, person]) {
        let (mut client, request) = (server.client().await, credentials(&person.phone_number, PASSWORD));
        calls.spawn(async move { client.authenticate(request).await });
        // Some arrive while the writer waits for others.
        sleep(Duration::from_millis(50)).await;
    }
    for outcome in calls.join_all().await {
        assert_refused(outcome, Code::Unavailable, "DATABASE_UNAVAILABLE");
    }
    held.release().await;
    // Calls in flight end.
    let server = server.restart_with(&UNTHROTTLED).await;
    for person in &people {
        assert_eq!(server.database.sessions_of(person).await, 1);
        person.sign_in_again(&server).await;
    }
}
