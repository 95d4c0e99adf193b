//! Numbers that were never verified, or changed recently.

use std::time::Duration;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::Code;

use super::changing::{change, seen};
use super::{Challenge, NEW_PASSWORD, verify};
use crate::support::codes::{codes, start_with_codes};
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{PASSWORD, TestServer, credentials, next_phone_number, validation, with_bearer};

/// The request of UpdateProfile that changes the number without a code.
fn to(phone_number: &str) -> v1::UpdateProfileRequest {
    v1::UpdateProfileRequest {
        new_phone_number: Some(phone_number.to_owned()),
        ..v1::UpdateProfileRequest::default()
    }
}

#[tokio::test]
async fn a_recently_changed_number_resets_no_password() {
    let server = start_with_codes(&["--phone-change-hold=2h"]).await;
    let mut client = codes(&server).await;
    let mut person = server.person().await;
    person.phone_number = change(&server, &person, &next_phone_number()).await.phone_number;
    server.clock.advance(Duration::from_hours(1));
    let challenge = Challenge::of(&mut client, CodePurpose::ResetPassword, &person).await;
    let refused = client.verify_code(challenge.with("000000")).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    let refused = refusal(&client.verify_code(challenge.met()).await.unwrap_err());
    assert_eq!(
        (refused.code, refused.reason.as_str(), refused.retry_after),
        (
            Code::FailedPrecondition,
            "PHONE_CHANGED_RECENTLY",
            Some(Duration::from_hours(1))
        )
    );
    // A sign-in with a code, which would have the same effect, is blocked, too.
    let sign_in = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    let signed_in = client.verify_code(sign_in.met()).await.unwrap().into_inner();
    let update = v1::UpdateProfileRequest {
        new_password: Some(NEW_PASSWORD.to_owned()),
        ..v1::UpdateProfileRequest::default()
    };
    let by_code = with_bearer(&signed_in.session_token, update.clone());
    let refused = server.client().await.update_profile(by_code).await;
    assert_refused(refused, Code::FailedPrecondition, "REAUTHENTICATION_REQUIRED");
    // The password is a stronger proof than a code to the number.
    let by_password = person.sign_in_again(&server).await;
    server
        .client()
        .await
        .update_profile(by_password.asks(update))
        .await
        .unwrap();

    server.clock.advance(Duration::from_hours(1));
    let challenge = Challenge::of(&mut client, CodePurpose::ResetPassword, &person).await;
    client.verify_code(challenge.met()).await.unwrap();
}

/// A number that is changed without a code is held back as well.
#[tokio::test]
async fn a_number_is_taken_without_a_code_where_that_is_allowed() {
    let server = start_with_codes(&["--unverified-phone-change"]).await;
    let mut person = server.person().await;
    let update = to(&next_phone_number());
    let updated = server
        .client()
        .await
        .update_profile(person.asks(update))
        .await
        .unwrap();
    let user = updated.into_inner().user.unwrap();
    assert_eq!(user.phone_verified_at, None);
    person.phone_number = user.phone_number;
    let mut client = codes(&server).await;
    // The holder of the new number gets the account neither by a reset nor by a sign-in.
    for purpose in [CodePurpose::ResetPassword, CodePurpose::SignIn] {
        let challenge = Challenge::of(&mut client, purpose, &person).await;
        let refused = client.verify_code(challenge.met()).await;
        assert_refused(refused, Code::FailedPrecondition, "PHONE_CHANGED_RECENTLY");
    }
    let has_password = "SELECT 1 FROM users WHERE id = ? AND password_hash IS NOT NULL";
    assert!(server.database.knows(has_password, &person).await);
    assert_eq!(
        seen(&server, &person.token).await.phone_number,
        person.phone_number
    );
    server.clock.advance(Duration::from_hours(24));
    let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    client.verify_code(challenge.met()).await.unwrap();
}

/// Otherwise repeated changes would keep the holder of a number from verifying it.
#[tokio::test]
async fn a_recently_changed_number_changes_again_only_by_a_code() {
    let server = start_with_codes(&["--unverified-phone-change", "--phone-change-hold=2h"]).await;
    let (stranger, number) = (server.person().await, next_phone_number());
    let mut client = server.client().await;
    client.update_profile(stranger.asks(to(&number))).await.unwrap();
    server.clock.advance(Duration::from_mins(2));
    let again = client
        .update_profile(stranger.asks(to(&next_phone_number())))
        .await;
    let refused = refusal(&again.unwrap_err());
    assert_eq!(
        (refused.code, refused.reason.as_str(), refused.retry_after),
        (
            Code::FailedPrecondition,
            "PHONE_CHANGED_RECENTLY",
            Some(Duration::from_mins(118))
        )
    );
    // The same one is no change.
    client.update_profile(stranger.asks(to(&number))).await.unwrap();
    assert_eq!(seen(&server, &stranger.token).await.phone_number, number);
    // The holder of a number may register it at once.
    let other = change(&server, &stranger, &next_phone_number()).await;
    assert!(other.phone_verified_at.is_some());
    // The holder of the first number may register it after the hold.
    let stranger = server.person().await;
    client.update_profile(stranger.asks(to(&number))).await.unwrap();
    server.clock.advance(Duration::from_hours(2));
    let owner = crate::support::Person {
        phone_number: number,
        ..stranger
    };
    let challenge = Challenge::of(&mut codes(&server).await, CodePurpose::SignIn, &owner).await;
    let mut codes = codes(&server).await;
    codes.verify_code(challenge.met()).await.unwrap();
    let dead = client.validate_session(validation(&owner.token)).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
}

/// There would be no other way.
#[tokio::test]
async fn without_codes_a_number_is_changed_any_number_of_times() {
    let server = TestServer::start().await;
    let person = server.person().await;
    for _ in 0..3 {
        let (mut client, number) = (server.client().await, next_phone_number());
        client.update_profile(person.asks(to(&number))).await.unwrap();
        assert_eq!(seen(&server, &person.token).await.phone_number, number);
    }
}

/// A user registered the number of another user, which wants it for an existing account.
#[tokio::test]
async fn a_verified_holder_takes_a_number_that_was_never_verified() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let (stranger, owner) = (server.person().await, server.person().await);
    verify(&server, &mut client, &owner).await;
    let challenge = Challenge::of_new_number(&mut client, &owner, &stranger.phone_number).await;
    let refused = client.verify_code(owner.asks(challenge.with("000000"))).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    seen(&server, &stranger.token).await;
    let refused = client.verify_code(owner.asks(challenge.met())).await;
    assert_refused(refused, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    let mut identity = server.client().await;
    let dead = identity.validate_session(validation(&stranger.token)).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
    let by_password = identity
        .authenticate(credentials(&stranger.phone_number, PASSWORD))
        .await;
    assert_refused(by_password, Code::Unauthenticated, "INVALID_CREDENTIALS");
    let event = "SELECT 1 FROM audit_events WHERE subject_id = ? AND action = 'verify_phone' \
                 AND outcome = 'done' AND fields = 'password' AND ended_sessions = 1";
    assert!(server.database.knows(event, &stranger).await);
    // Their own is as it was.
    assert_eq!(seen(&server, &owner.token).await.phone_number, owner.phone_number);
    // With the number they get rid of that account, and have the number for theirs by the same code.
    let sign_in = Challenge::of(&mut client, CodePurpose::SignIn, &stranger).await;
    let signed_in = client.verify_code(sign_in.met()).await.unwrap().into_inner();
    let deletion = with_bearer(&signed_in.session_token, v1::DeleteProfileRequest::default());
    identity.delete_profile(deletion).await.unwrap();
    client.verify_code(owner.asks(challenge.met())).await.unwrap();
    let phone_number = seen(&server, &owner.token).await.phone_number;
    assert_eq!(phone_number, stranger.phone_number);
}

/// A thief of a session that changed the number to their own does not get the account with a second account.
#[tokio::test]
async fn a_verified_holder_takes_no_number_that_was_verified_or_changed_recently() {
    let server = start_with_codes(&["--unverified-phone-change"]).await;
    let mut client = codes(&server).await;
    let mut robbed = server.person().await;
    robbed.phone_number = next_phone_number();
    let taken = to(&robbed.phone_number);
    server
        .client()
        .await
        .update_profile(robbed.asks(taken))
        .await
        .unwrap();
    let verified = server.person().await;
    verify(&server, &mut client, &verified).await;
    let other = server.person().await;
    for person in [robbed, verified] {
        let challenge = Challenge::of_new_number(&mut client, &other, &person.phone_number).await;
        let refused = client.verify_code(other.asks(challenge.met())).await;
        assert_refused(refused, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
        seen(&server, &person.token).await;
        let has_password = "SELECT 1 FROM users WHERE id = ? AND password_hash IS NOT NULL";
        assert!(server.database.knows(has_password, &person).await);
    }
}

/// Administration is no way around it.
#[tokio::test]
async fn a_superuser_with_a_recently_changed_number_sets_no_password_by_a_code() {
    let server = start_with_codes(&["--phone-change-hold=2h"]).await;
    let mut root = server.superuser().await;
    root.phone_number = change(&server, &root, &next_phone_number()).await.phone_number;
    let request = v1::SetPasswordRequest {
        user_id: root.user.user_id.clone(),
        new_password: NEW_PASSWORD.to_owned(),
    };
    let mut admin = server.admin().await;
    let mut client = codes(&server).await;
    for may in [false, true] {
        let sign_in = Challenge::of(&mut client, CodePurpose::SignIn, &root).await;
        let signed_in = client.verify_code(sign_in.met()).await.unwrap().into_inner();
        let set = admin
            .set_password(with_bearer(&signed_in.session_token, request.clone()))
            .await;
        if may {
            set.unwrap();
        } else {
            assert_refused(set, Code::FailedPrecondition, "REAUTHENTICATION_REQUIRED");
            server.clock.advance(Duration::from_hours(2));
        }
    }
}

/// Deleting a user deletes the messages that wait for delivery to that user.
#[tokio::test]
async fn deleting_a_user_deletes_its_codes_and_messages() {
    for by_administration in [false, true] {
        let server = start_with_codes(&[]).await;
        let mut client = codes(&server).await;
        let (root, person, other) = (
            server.superuser().await,
            server.person().await,
            server.person().await,
        );
        for purpose in [CodePurpose::SignIn, CodePurpose::VerifyPhone] {
            Challenge::of(&mut client, purpose, &person).await;
        }
        Challenge::of(&mut client, CodePurpose::SignIn, &other).await;
        // A message that no provider of this test sends.
        let notice = "INSERT INTO outbox_messages \
                      (id, template, phone_number, user_id, language, tries, due_at, expires_at) \
                      SELECT id, 'of_a_newer_version', phone_number, id, 'en', 0, created_at, created_at FROM users \
                      WHERE id = ?";
        for person in [&person, &other] {
            server.database.execute(notice, person).await;
        }
        if by_administration {
            let request = v1::DeleteUserRequest {
                user_id: person.user.user_id.clone(),
            };
            let mut admin = server.admin().await;
            admin.delete_user(root.asks(request)).await.unwrap();
        } else {
            let request = v1::DeleteProfileRequest::default();
            let mut identity = server.client().await;
            identity.delete_profile(person.asks(request)).await.unwrap();
        }
        for table in ["challenges", "outbox_messages"] {
            let sql = format!("SELECT 1 FROM {table} WHERE user_id = ?");
            assert!(!server.database.knows(&sql, &person).await, "{table}");
            assert!(server.database.knows(&sql, &other).await, "{table}");
        }
    }
}
