//! Races between checking a password and writing the result.
//!
//! The tests hold the write lock of the database while a sign-in hashes. A sign-in that has hashed has read the account
//! and waits for the lock, so the commit of the test always comes in between.

use phone_identity::proto::v1::{
    AuthenticateResponse, DeactivateProfileRequest, DeleteProfileRequest, UpdateProfileRequest,
};
use tokio::task::JoinHandle;
use tonic::{Code, Response, Status};

use crate::support::database::HeldWrites;
use crate::support::refusal::assert_refused;
use crate::support::{OTHER_PASSWORD, PASSWORD, Person, TestServer, UNTHROTTLED, credentials, validation};

type SignInCall = JoinHandle<Result<Response<AuthenticateResponse>, Status>>;

/// Holds all writes, and lets a sign-in with the old password run up to its transaction.
async fn sign_in_up_to_its_transaction(server: &TestServer, person: &Person) -> (HeldWrites, SignInCall) {
    let held = server.database.hold_writes().await;
    let hashed = server.hasher.completed();
    let (mut client, request) = (server.client().await, credentials(&person.phone_number, PASSWORD));
    let call = tokio::spawn(async move { client.authenticate(request).await });
    server.hashed(hashed + 1).await;
    (held, call)
}

/// A change of the password by a caller that knows the old one.
fn password_change(new_password: &str) -> UpdateProfileRequest {
    UpdateProfileRequest {
        current_password: Some(PASSWORD.to_owned()),
        new_password: Some(new_password.to_owned()),
        ..UpdateProfileRequest::default()
    }
}

#[tokio::test]
async fn a_sign_in_that_began_before_the_password_changed_leaves_no_session() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let new_hash = server.database.password_hash(&server.person().await).await;
    let (held, call) = sign_in_up_to_its_transaction(&server, &person).await;
    let statement = "UPDATE users SET credential_version = credential_version + 1, password_hash = ";
    held.execute(&format!("{statement}'{new_hash}' WHERE id = ?"), &person)
        .await;
    held.execute("DELETE FROM sessions WHERE user_id = ?", &person)
        .await;
    held.release().await;
    assert_refused(call.await.unwrap(), Code::Unauthenticated, "INVALID_CREDENTIALS");
    assert_eq!(server.database.count("sessions").await, 1, "the other person's");
}

#[tokio::test]
async fn a_rehash_never_puts_an_old_password_back() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let new_hash = server.database.password_hash(&server.person().await).await;
    let server = server
        .restart_with(&["--argon2-iterations=2", UNTHROTTLED[0]])
        .await;
    let (held, call) = sign_in_up_to_its_transaction(&server, &person).await;
    let statement = "UPDATE users SET credential_version = credential_version + 1, password_hash = ";
    held.execute(&format!("{statement}'{new_hash}' WHERE id = ?"), &person)
        .await;
    held.release().await;
    assert_refused(call.await.unwrap(), Code::Unauthenticated, "INVALID_CREDENTIALS");
    assert_eq!(server.database.password_hash(&person).await, new_hash);
}

/// The condition in the UPDATE itself, which holds even if the version of the credentials did not tell.
#[tokio::test]
async fn a_rehash_replaces_only_the_hash_that_was_verified() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let new_hash = server.database.password_hash(&server.person().await).await;
    let server = server
        .restart_with(&["--argon2-iterations=2", UNTHROTTLED[0]])
        .await;
    let (held, call) = sign_in_up_to_its_transaction(&server, &person).await;
    held.execute(
        &format!("UPDATE users SET password_hash = '{new_hash}' WHERE id = ?"),
        &person,
    )
    .await;
    held.release().await;
    call.await.unwrap().unwrap();
    assert_eq!(server.database.password_hash(&person).await, new_hash);
}

#[tokio::test]
async fn a_sign_in_against_a_deactivation_leaves_nothing() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let (held, call) = sign_in_up_to_its_transaction(&server, &person).await;
    held.execute("UPDATE users SET status = 'deactivated' WHERE id = ?", &person)
        .await;
    held.execute("DELETE FROM sessions WHERE user_id = ?", &person)
        .await;
    held.release().await;
    assert_refused(call.await.unwrap(), Code::Unauthenticated, "INVALID_CREDENTIALS");
    assert_eq!(server.database.count("sessions").await, 0);
}

#[tokio::test]
async fn a_sign_in_against_a_deletion_leaves_nothing() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let (held, call) = sign_in_up_to_its_transaction(&server, &person).await;
    held.execute("DELETE FROM users WHERE id = ?", &person).await;
    held.release().await;
    assert_refused(call.await.unwrap(), Code::Unauthenticated, "INVALID_CREDENTIALS");
    assert_eq!(
        (
            server.database.count("users").await,
            server.database.count("sessions").await
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn a_sign_in_with_a_number_that_was_given_up_meanwhile_leaves_no_session() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let (held, call) = sign_in_up_to_its_transaction(&server, &person).await;
    held.execute(
        "UPDATE users SET phone_number = '+998712345678' WHERE id = ?",
        &person,
    )
    .await;
    held.release().await;
    assert_refused(call.await.unwrap(), Code::Unauthenticated, "INVALID_CREDENTIALS");
    assert_eq!(server.database.count("sessions").await, 1);
}

/// The same through the RPC only: in either order of the two, the session does not survive.
#[tokio::test]
async fn changes_through_the_front_door_leave_no_session_of_the_old_password() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let held = server.database.hold_writes().await;
    let hashed = server.hasher.completed();
    let mut client = server.client().await;
    let request = person.asks(password_change(OTHER_PASSWORD));
    let change = tokio::spawn(async move { client.update_profile(request).await });
    server.hashed(hashed + 2).await;
    let (mut client, request) = (server.client().await, credentials(&person.phone_number, PASSWORD));
    let sign_in = tokio::spawn(async move { client.authenticate(request).await });
    server.hashed(hashed + 3).await;
    held.release().await;
    change.await.unwrap().unwrap();
    let _ = sign_in.await.unwrap();
    assert_eq!(
        server.database.count("sessions").await,
        1,
        "the one that changed the password"
    );
}

#[tokio::test]
async fn one_of_two_changes_with_the_same_password_succeeds() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let held = server.database.hold_writes().await;
    let hashed = server.hasher.completed();
    let mut calls = tokio::task::JoinSet::new();
    for new_password in [OTHER_PASSWORD, "valleys and deserts"] {
        let mut client = server.client().await;
        let request = person.asks(password_change(new_password));
        calls.spawn(async move { client.update_profile(request).await });
    }
    server.hashed(hashed + 4).await;
    held.release().await;
    let (won, lost): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 1));
    for outcome in lost {
        assert_refused(outcome, Code::PermissionDenied, "CURRENT_PASSWORD_WRONG");
    }
}

#[tokio::test]
async fn a_change_by_a_session_that_was_revoked_meanwhile_does_not_happen() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let hash = server.database.password_hash(&person).await;
    let held = server.database.hold_writes().await;
    let hashed = server.hasher.completed();
    let mut client = server.client().await;
    let request = person.asks(UpdateProfileRequest {
        new_password: Some(OTHER_PASSWORD.to_owned()),
        ..UpdateProfileRequest::default()
    });
    let change = tokio::spawn(async move { client.update_profile(request).await });
    server.hashed(hashed + 1).await;
    held.execute("DELETE FROM sessions WHERE user_id = ?", &person)
        .await;
    held.release().await;
    assert_refused(change.await.unwrap(), Code::Unauthenticated, "SESSION_INVALID");
    assert_eq!(server.database.password_hash(&person).await, hash);
}

#[tokio::test]
async fn one_of_two_superusers_that_delete_themselves_at_once_stays() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let superusers = [server.superuser().await, server.superuser().await];
    let held = server.database.hold_writes().await;
    let hashed = server.hasher.completed();
    let mut calls = tokio::task::JoinSet::new();
    for superuser in &superusers {
        let mut client = server.client().await;
        let request = superuser.asks(DeleteProfileRequest {
            current_password: Some(PASSWORD.to_owned()),
        });
        calls.spawn(async move { client.delete_profile(request).await });
    }
    server.hashed(hashed + 2).await;
    held.release().await;
    let (left, stayed): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((left.len(), stayed.len()), (1, 1));
    for outcome in stayed {
        assert_refused(outcome, Code::FailedPrecondition, "LAST_SUPERUSER");
    }
    assert_eq!(
        server
            .database
            .count("users WHERE is_superuser AND status = 'active'")
            .await,
        1
    );
}

#[tokio::test]
async fn one_of_a_deleting_and_a_deactivating_superuser_stays() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let (first, second) = (server.superuser().await, server.superuser().await);
    let held = server.database.hold_writes().await;
    let hashed = server.hasher.completed();
    let (mut client, mut other) = (server.client().await, server.client().await);
    let delete = first.asks(DeleteProfileRequest {
        current_password: Some(PASSWORD.to_owned()),
    });
    let deactivate = second.asks(DeactivateProfileRequest {
        current_password: Some(PASSWORD.to_owned()),
    });
    let delete = tokio::spawn(async move { client.delete_profile(delete).await.map(drop) });
    let deactivate = tokio::spawn(async move { other.deactivate_profile(deactivate).await.map(drop) });
    server.hashed(hashed + 2).await;
    held.release().await;
    let outcomes = [delete.await.unwrap(), deactivate.await.unwrap()];
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
        1,
        "{outcomes:?}"
    );
    assert_eq!(
        server
            .database
            .count("users WHERE is_superuser AND status = 'active'")
            .await,
        1
    );
}

/// The work after a hash finishes even if the caller disconnects.
#[tokio::test]
async fn a_change_of_a_disconnected_caller_is_done() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let held = server.database.hold_writes().await;
    let mut client = server.client().await;
    let request = person.asks(password_change(OTHER_PASSWORD));
    let call = tokio::spawn(async move { client.update_profile(request).await });
    server.something_is_to_be_finished().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    held.release().await;
    let mut client = server.client().await;
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(10));
    let changed = async {
        while client
            .authenticate(credentials(&person.phone_number, OTHER_PASSWORD))
            .await
            .is_err()
        {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), changed)
        .await
        .expect("the password did not change");
}

/// A change of the password locks the user and then the other sessions; the test locks them in reverse order. The
/// database aborts the transaction of the service, so the test gets its locks. The service retries the transaction, and
/// nothing is done twice. (SQLite serialises writers, so it has no deadlock.)
#[tokio::test]
async fn a_change_that_meets_a_deadlock_is_done_once() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let other = person.sign_in_again(&server).await;
    let (changes, hashed) = (
        server.database.count("identity_changes").await,
        server.hasher.completed(),
    );
    let held = server.database.begin().await;
    let touch = "UPDATE sessions SET client_user_agent = 'held' WHERE user_id = ?";
    held.execute(touch, &person).await;
    let mut client = server.client().await;
    let request = person.asks(password_change(OTHER_PASSWORD));
    let change = tokio::spawn(async move { client.update_profile(request).await });
    server.hashed(hashed + 2).await;
    server.database.lock_is_awaited().await;
    held.lock(&person).await;
    held.release().await;
    change.await.unwrap().unwrap();
    let count = async |table| server.database.count(table).await;
    assert_eq!(count("identity_changes").await, changes + 1);
    assert_eq!(count("change_log WHERE last_seq = 1").await, 1);
    assert_eq!(count("users WHERE credential_version = 1").await, 1);
    assert_eq!(count("audit_events WHERE action = 'update_profile'").await, 1);
    assert_eq!(
        count("sessions WHERE client_user_agent = 'held'").await,
        1,
        "the one that asked"
    );
    let mut client = server.client().await;
    let dead = client.validate_session(validation(&other.token)).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
    client.validate_session(validation(&person.token)).await.unwrap();
}
