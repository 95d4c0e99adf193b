//! Attempts of callers that gave up: what was not hashed is given back, and what was hashed is settled by its result.

use std::sync::Arc;

use phone_identity::proto::v1;
use phone_identity::service::hasher::Held;
use tokio::task::{JoinHandle, JoinSet};
use tonic::{Code, Response, Status};

use super::{UNKNOWN, from, until_rows, wait_of};
use crate::support::refusal::assert_refused;
use crate::support::{
    OTHER_PASSWORD, PASSWORD, Person, TestServer, credentials, eventually, next_phone_number, registration,
};
use crate::wire::{call_by_frames, frame};

/// The number of free failures, by the defaults: one more attempt would be delayed.
const FREE: usize = 10;

/// Calls while hashing is held, and waits until the password waits for which the attempt was reserved: whatever is
/// looked at on the hashing threads before is let through.
async fn begin<T: Send + 'static>(
    server: &TestServer,
    call: impl Future<Output = T> + Send + 'static,
) -> (JoinHandle<T>, Held) {
    server.nothing_is_to_be_finished().await;
    let mut held = server.hasher.hold();
    let call = tokio::spawn(call);
    loop {
        server.waiting(1).await;
        if server.database.count("attempts").await > 0 {
            return (call, held);
        }
        let taken = server.hasher.hold_taken();
        drop(held);
        server.waiting(0).await;
        held = server.hasher.hold();
        drop(taken);
    }
}

async fn cancel<T: std::fmt::Debug>(call: JoinHandle<T>) {
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
}

/// Calls, and cancels the call while its password waits. The attempt is given back.
async fn leave_in_the_queue<T, F>(server: &TestServer, call: F)
where
    T: std::fmt::Debug + Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (call, held) = begin(server, call).await;
    cancel(call).await;
    server.waiting(0).await;
    drop(held);
    until_rows(server, "attempts", 0).await;
}

/// Calls, and cancels the call while a thread works on its password.
async fn leave_while_it_is_hashed<T, F>(server: &TestServer, call: F)
where
    T: std::fmt::Debug + Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (call, held) = begin(server, call).await;
    let taken = server.hasher.hold_taken();
    drop(held);
    server.waiting(0).await;
    cancel(call).await;
    // The rest of the call is a task of its own.
    server.something_is_to_be_finished().await;
    drop(taken);
    eventually(|| server.hasher.snapshot().running == 0).await;
    server.nothing_is_to_be_finished().await;
}

fn sign_in(
    mut client: crate::support::Client,
    number: &str,
    password: &str,
) -> impl Future<Output = Result<Response<v1::AuthenticateResponse>, Status>> + Send + 'static {
    let request = from("192.0.2.7", number, password);
    async move { client.authenticate(request).await }
}

/// Returns the number of sessions of the user, besides that of the registration.
async fn further_sessions(server: &TestServer, person: &Person) -> usize {
    let request = person.asks(v1::ListSessionsRequest::default());
    let sessions = server.client().await.list_sessions(request).await.unwrap();
    sessions.into_inner().sessions.len() - 1
}

/// With deadlines, all at once, as clients do on a busy replica.
#[tokio::test]
async fn calls_that_expire_in_the_queue_do_not_delay_the_owner() {
    let server = Arc::new(TestServer::start().await);
    let person = server.person().await;
    let hashed = server.hasher.completed();
    let held = server.hasher.hold();
    let path = "/phone_identity.v1.PhoneIdentity/Authenticate";
    for password in [PASSWORD, OTHER_PASSWORD] {
        let mut calls = JoinSet::new();
        for _ in 0..FREE {
            let body = frame(&from("192.0.2.7", &person.phone_number, password));
            let server = server.clone();
            calls.spawn(async move { call_by_frames(&server, path, Some("300m"), &body).await });
        }
        for headers in calls.join_all().await {
            let call = Err::<Response<()>, _>(Status::from_header_map(&headers).unwrap());
            assert_refused(call, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        }
        server.waiting(0).await;
        until_rows(&server, "attempts", 0).await;
    }
    drop(held);
    sign_in(server.client().await, &person.phone_number, PASSWORD)
        .await
        .unwrap();
    assert_eq!(server.hasher.completed() - hashed, 1);
}

#[tokio::test]
async fn a_call_that_leaves_the_queue_is_given_back_whatever_it_was_for() {
    let server = TestServer::start_with(&["--throttle-phone-claim-attempts=3"]).await;
    let (person, superuser) = (server.person().await, server.superuser().await);
    let mut client = server.client().await;
    for _ in 0..=FREE {
        let call = sign_in(server.client().await, UNKNOWN, PASSWORD);
        leave_in_the_queue(&server, call).await;
        let (mut client, request) = (server.client().await, registration(UNKNOWN, PASSWORD));
        leave_in_the_queue(&server, async move { client.register(request).await }).await;
        let request = person.asks(v1::DeleteProfileRequest {
            current_password: Some(PASSWORD.to_owned()),
        });
        let mut client = server.client().await;
        leave_in_the_queue(&server, async move { client.delete_profile(request).await }).await;
        let request = superuser.asks(v1::CreateSuperuserRequest {
            phone_number: next_phone_number(),
            password: PASSWORD.to_owned(),
            ..v1::CreateSuperuserRequest::default()
        });
        let mut client = server.client().await;
        leave_in_the_queue(&server, async move { client.create_superuser(request).await }).await;
    }
    client.register(registration(UNKNOWN, PASSWORD)).await.unwrap();
    person.sign_in_again(&server).await;
    assert_eq!(
        server
            .database
            .count("audit_events WHERE outcome = 'refused'")
            .await,
        0
    );
}

/// The database is busy: the statement that reserves the attempt is executed after the caller has left.
#[tokio::test]
async fn a_call_that_leaves_while_its_attempt_is_reserved_is_given_back() {
    let server = TestServer::start().await;
    let person = server.person().await;
    server.nothing_is_to_be_finished().await;
    let writes = server.database.hold_writes().await;
    let numbers = [person.phone_number.as_str(), UNKNOWN];
    for (calls, number) in numbers.into_iter().cycle().take(2 * FREE + 2).enumerate() {
        let call = tokio::spawn(sign_in(server.client().await, number, PASSWORD));
        server.finishing(calls + 1).await;
        cancel(call).await;
    }
    drop(writes);
    server.nothing_is_to_be_finished().await;
    until_rows(&server, "attempts", 0).await;
    person.sign_in_again(&server).await;
}

#[tokio::test]
async fn a_right_password_is_given_back_if_its_caller_left_while_it_was_hashed() {
    let server = TestServer::start().await;
    let person = server.person().await;
    for _ in 0..=FREE {
        let call = sign_in(server.client().await, &person.phone_number, PASSWORD);
        leave_while_it_is_hashed(&server, call).await;
        until_rows(&server, "attempts", 0).await;
        let request = person.asks(v1::DeactivateProfileRequest {
            current_password: Some(PASSWORD.to_owned()),
        });
        let mut client = server.client().await;
        leave_while_it_is_hashed(&server, async move { client.deactivate_profile(request).await }).await;
        until_rows(&server, "attempts", 0).await;
    }
    assert_eq!(further_sessions(&server, &person).await, 0, "they have no caller");
    sign_in(server.client().await, &person.phone_number, PASSWORD)
        .await
        .unwrap();
    assert_eq!(further_sessions(&server, &person).await, 1);
}

#[tokio::test]
async fn a_wrong_password_counts_and_is_audited_if_its_caller_left_while_it_was_hashed() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let refused = async |refusal: &str| {
        let events = format!("audit_events WHERE reason = '{refusal}'");
        server.database.count(&events).await
    };
    for (number, audited) in [(person.phone_number.as_str(), 10), (UNKNOWN, 20)] {
        for _ in 0..FREE {
            let call = sign_in(server.client().await, number, OTHER_PASSWORD);
            leave_while_it_is_hashed(&server, call).await;
        }
        let delayed = sign_in(server.client().await, number, PASSWORD).await;
        assert_eq!(wait_of(delayed), std::time::Duration::from_secs(1));
        until_audited(async || refused("INVALID_CREDENTIALS").await, audited).await;
    }
    for _ in 0..FREE {
        let request = person.asks(v1::DeleteProfileRequest {
            current_password: Some(OTHER_PASSWORD.to_owned()),
        });
        let mut client = server.client().await;
        leave_while_it_is_hashed(&server, async move { client.delete_profile(request).await }).await;
    }
    let request = person.asks(v1::DeleteProfileRequest {
        current_password: Some(PASSWORD.to_owned()),
    });
    wait_of(server.client().await.delete_profile(request).await);
    until_audited(async || refused("CURRENT_PASSWORD_WRONG").await, 10).await;
}

async fn until_audited(count: impl AsyncFn() -> i64, expected: i64) {
    let waiting = async {
        while count().await != expected {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), waiting)
        .await
        .expect("was not audited");
}

/// Nothing is learned of an account by the hash of a new password.
#[tokio::test]
async fn a_registration_is_given_back_if_its_caller_left_while_it_was_hashed() {
    let server = TestServer::start_with(&["--throttle-phone-claim-attempts=1"]).await;
    let mut client = server.client().await;
    for _ in 0..3 {
        let (mut client, request) = (server.client().await, registration(UNKNOWN, PASSWORD));
        let (call, held) = begin(&server, async move { client.register(request).await }).await;
        let taken = server.hasher.hold_taken();
        drop(held);
        server.waiting(0).await;
        cancel(call).await;
        // At once, since the result does not matter.
        until_rows(&server, "attempts", 0).await;
        drop(taken);
        eventually(|| server.hasher.snapshot().running == 0).await;
    }
    assert_eq!(server.database.count("users").await, 0, "they have no caller");
    client.register(registration(UNKNOWN, PASSWORD)).await.unwrap();
}

/// All callers of a full queue leave at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_all_callers_leave_gives_all_attempts_back() {
    let server = TestServer::start_with(&["--hash-queue=100"]).await;
    let held = server.hasher.hold();
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (mut client, request) = (server.client().await, credentials(&next_phone_number(), PASSWORD));
        calls.spawn(async move { client.authenticate(request).await });
    }
    server.waiting(100).await;
    assert_eq!(server.database.count("attempts").await, 100);
    calls.shutdown().await;
    server.waiting(0).await;
    until_rows(&server, "attempts", 0).await;
    drop(held);
}
