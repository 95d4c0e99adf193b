//! Many who sign in at the same time, which SQLite commits together.

use std::collections::HashSet;

use phone_identity::proto::v1;
use tokio::task::JoinSet;
use tonic::{Code, Response, Status};

use crate::support::database::HeldWrites;
use crate::support::refusal::assert_refused;
use crate::support::{PASSWORD, Person, TestServer, UNTHROTTLED, credentials, validation};

type SignedIn = Result<Response<v1::AuthenticateResponse>, Status>;

/// Has people sign in, all of whom are hashed and none committed when `meanwhile` is done, and gives what became of each.
async fn sign_in_at_once(
    server: &TestServer,
    people: &[&Person],
    meanwhile: impl AsyncFnOnce(&HeldWrites),
) -> Vec<SignedIn> {
    let held = server.database.hold_writes().await;
    let hashed = server.hasher.completed();
    let mut calls = JoinSet::new();
    for (number, person) in people.iter().enumerate() {
        let (mut client, request) = (server.client().await, credentials(&person.phone_number, PASSWORD));
        calls.spawn(async move { (number, client.authenticate(request).await) });
    }
    server.hashed(hashed + u64::try_from(people.len()).unwrap()).await;
    meanwhile(&held).await;
    held.release().await;
    let mut outcomes = calls.join_all().await;
    outcomes.sort_unstable_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// They are those of this person, and good.
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
async fn each_gets_what_is_theirs_and_who_has_changed_meanwhile_nothing() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let mut people = Vec::new();
    for _ in 0..20 {
        people.push(server.person().await);
    }
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

/// Who signs in several times at once has no more sessions by it than may be.
#[tokio::test]
async fn of_one_person_the_oldest_sessions_give_way_all_the_same() {
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
async fn nothing_is_remembered_of_those_who_signed_in_together() {
    let server = TestServer::start().await;
    let mut people = Vec::new();
    for _ in 0..20 {
        people.push(server.person().await);
    }
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
    let mut people = Vec::new();
    for _ in 0..12 {
        people.push(server.person().await);
    }
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
