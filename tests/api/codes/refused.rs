//! Codes that give nothing: all with one answer.

use std::time::Duration;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::Code;
use uuid::Uuid;

use super::{Challenge, Outcome, verify};
use crate::support::codes::{another, codes, offered, start_with_codes};
use crate::support::refusal::{assert_refused, assert_violations};
use crate::support::{PASSWORD, next_phone_number};

#[tokio::test]
async fn all_wrong_codes_have_the_same_response() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let other = server.person().await;
    verify(&server, &mut client, &person).await;
    let sign_in = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    let of_other = Challenge::of(&mut client, CodePurpose::SignIn, &other).await;
    let reset = Challenge::of(&mut client, CodePurpose::ResetPassword, &person).await;
    let used = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    client.verify_code(used.met()).await.unwrap();
    let unknown = next_phone_number();
    let unknown_number = Challenge::of_unknown_number(&mut client, CodePurpose::SignIn, &unknown).await;
    let landline =
        Challenge::of_unknown_number(&mut client, CodePurpose::ResetPassword, "+998712345678").await;
    let elsewhere = offered(&reset.id, CodePurpose::SignIn, &reset.code);
    let outcomes: Vec<(&str, Outcome)> = vec![
        (
            "wrong",
            client.verify_code(sign_in.with(&another(&sign_in.code))).await,
        ),
        (
            "of another number",
            client.verify_code(sign_in.with(&of_other.code)).await,
        ),
        (
            "of another purpose",
            client.verify_code(sign_in.with(&reset.code)).await,
        ),
        ("for another purpose", client.verify_code(elsewhere).await),
        ("used", client.verify_code(used.met()).await),
        (
            "too short",
            client.verify_code(sign_in.with(&sign_in.code[..5])).await,
        ),
        (
            "too long",
            client
                .verify_code(sign_in.with(&format!("{}0", sign_in.code)))
                .await,
        ),
        ("no code", client.verify_code(sign_in.with("hello")).await),
        (
            "unknown",
            client
                .verify_code(offered(
                    &Uuid::new_v4().to_string(),
                    CodePurpose::SignIn,
                    "123456",
                ))
                .await,
        ),
        (
            "no challenge",
            client
                .verify_code(offered("x", CodePurpose::SignIn, "123456"))
                .await,
        ),
        (
            "of an unknown number",
            client.verify_code(unknown_number.met()).await,
        ),
        (
            "of an unknown number, wrong",
            client
                .verify_code(unknown_number.with(&another(&unknown_number.code)))
                .await,
        ),
        ("not sent", client.verify_code(landline.met()).await),
    ];
    let mut answers = Vec::new();
    for (what, outcome) in outcomes {
        let status = outcome.expect_err(what);
        answers.push((
            what,
            status.code(),
            status.message().to_owned(),
            status.details().to_vec(),
        ));
    }
    let (_, code, message, details) = answers[0].clone();
    assert_eq!((code, message.as_str()), (Code::InvalidArgument, "code invalid"));
    for answer in answers {
        assert_eq!(
            (answer.1, &answer.2, &answer.3),
            (code, &message, &details),
            "{}",
            answer.0
        );
    }
    server.clock.advance(Duration::from_secs(300));
    let expired = client.verify_code(sign_in.met()).await.unwrap_err();
    assert_eq!((expired.code(), expired.details()), (code, details.as_slice()));
}

#[tokio::test]
async fn after_five_wrong_codes_the_right_one_is_wrong() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    verify(&server, &mut client, &person).await;
    let kept = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    let guessed = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    for challenge in [&kept, &guessed] {
        for _ in 0..4 {
            let refused = client
                .verify_code(challenge.with(&another(&challenge.code)))
                .await;
            assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
        }
    }
    // For something else is no attempt on this one.
    let elsewhere = offered(&kept.id, CodePurpose::ResetPassword, &kept.code);
    let mut elsewhere = elsewhere;
    elsewhere.new_password = PASSWORD.to_owned();
    let refused = client.verify_code(elsewhere).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    client.verify_code(kept.met()).await.unwrap();
    let refused = client.verify_code(guessed.with(&another(&guessed.code))).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    let refused = client.verify_code(guessed.met()).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    // It is not sent again, either.
    server.clock.advance(Duration::from_secs(60));
    let again = v1::SendCodeRequest {
        challenge_id: guessed.id,
        ..v1::SendCodeRequest::default()
    };
    assert_refused(
        client.send_code(again).await,
        Code::InvalidArgument,
        "CODE_INVALID",
    );
}

/// Five guesses at once are five attempts, however they meet.
#[tokio::test]
async fn guesses_at_the_same_time_are_all_counted() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    verify(&server, &mut client, &person).await;
    let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    let guesses = (0..40).map(|_| {
        let (mut client, request) = (client.clone(), challenge.with(&another(&challenge.code)));
        tokio::spawn(async move { client.verify_code(request).await })
    });
    for guess in guesses.collect::<Vec<_>>() {
        assert_refused(guess.await.unwrap(), Code::InvalidArgument, "CODE_INVALID");
    }
    let row = &server
        .database
        .rows("SELECT attempts FROM challenges WHERE purpose = 'sign_in'")
        .await[0];
    assert_eq!(row.try_get::<i32>("", "attempts").unwrap(), 5);
    let refused = client.verify_code(challenge.met()).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
}

#[tokio::test]
async fn a_code_is_invalid_after_the_user_changed_number_or_left() {
    let server = start_with_codes(&["--unverified-phone-change"]).await;
    let mut client = codes(&server).await;
    let moved = server.person().await;
    let gone = server.person().await;
    for person in [&moved, &gone] {
        verify(&server, &mut client, person).await;
    }
    let mut challenges = Vec::new();
    for person in [&moved, &gone] {
        for purpose in [CodePurpose::SignIn, CodePurpose::ResetPassword] {
            challenges.push(Challenge::of(&mut client, purpose, person).await);
        }
    }
    let verification = Challenge::of(&mut client, CodePurpose::VerifyPhone, &moved).await;
    let update = v1::UpdateProfileRequest {
        new_phone_number: Some(next_phone_number()),
        ..v1::UpdateProfileRequest::default()
    };
    let mut profiles = server.client().await;
    profiles.update_profile(moved.asks(update)).await.unwrap();
    profiles
        .delete_profile(gone.asks(v1::DeleteProfileRequest::default()))
        .await
        .unwrap();
    for challenge in challenges {
        let refused = client.verify_code(challenge.met()).await;
        assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    }
    let refused = client.verify_code(moved.asks(verification.met())).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
}

#[tokio::test]
async fn no_user_verifies_the_number_of_another_user() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let (person, other) = (server.person().await, server.person().await);
    let challenge = Challenge::of(&mut client, CodePurpose::VerifyPhone, &person).await;
    let refused = client.verify_code(other.asks(challenge.met())).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    let refused = client.verify_code(challenge.met()).await;
    assert_refused(refused, Code::Unauthenticated, "SESSION_INVALID");
    let verified = "SELECT 1 FROM users WHERE phone_verified_at IS NOT NULL AND id = ?";
    for person in [&person, &other] {
        assert!(!server.database.knows(verified, person).await);
    }
    client.verify_code(person.asks(challenge.met())).await.unwrap();
}

#[tokio::test]
async fn all_invalid_fields_are_reported_at_once_and_count_as_no_attempt() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let empty = client.verify_code(v1::VerifyCodeRequest::default()).await;
    assert_violations(
        empty,
        &[
            ("challenge_id", "REQUIRED"),
            ("code", "REQUIRED"),
            ("purpose", "REQUIRED"),
        ],
    );
    let mut request = offered("x", CodePurpose::SignIn, "123456");
    request.purpose = 99;
    assert_violations(
        client.verify_code(request).await,
        &[("purpose", "ENUM_VALUE_UNKNOWN")],
    );
    let mut request = offered("x", CodePurpose::VerifyPhone, "123456");
    request.new_password = PASSWORD.to_owned();
    request.reactivate = true;
    request.remember_device = true;
    request.client = Some(v1::ClientInfo {
        ip_address: "here".to_owned(),
        ..v1::ClientInfo::default()
    });
    assert_violations(
        client.verify_code(request).await,
        &[
            ("new_password", "NOT_OF_PURPOSE"),
            ("reactivate", "NOT_OF_PURPOSE"),
            ("remember_device", "NOT_OF_PURPOSE"),
            ("client.ip_address", "IP_ADDRESS_INVALID"),
        ],
    );
    let challenge = Challenge::of(&mut client, CodePurpose::ResetPassword, &person).await;
    for (password, reason) in [
        ("", "REQUIRED"),
        ("short", "PASSWORD_TOO_SHORT"),
        ("password1", "PASSWORD_TOO_COMMON"),
    ] {
        let mut request = challenge.met();
        request.new_password = password.to_owned();
        assert_violations(client.verify_code(request).await, &[("new_password", reason)]);
    }
    let row = &server.database.rows("SELECT attempts FROM challenges").await[0];
    assert_eq!(row.try_get::<i32>("", "attempts").unwrap(), 0);
}
