//! The effect of a code: a verified number, a session, or a new password.

use std::time::Duration;

use phone_identity::proto::v1;
use phone_identity::proto::v1::{AuthMethod, CodePurpose};
use tonic::Code;

use super::{Challenge, NEW_PASSWORD, verify};
use crate::support::codes::{code_of, codes, offered, start_with_codes, wanted};
use crate::support::refusal::assert_refused;
use crate::support::{PASSWORD, TestServer, credentials, next_phone_number, registration, validation};

const START: i64 = 1_767_225_600;

fn time(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

async fn is_alive(server: &TestServer, token: &str) -> bool {
    server
        .client()
        .await
        .validate_session(validation(token))
        .await
        .is_ok()
}

#[tokio::test]
async fn a_code_signs_in_without_a_password() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    verify(&server, &mut client, &person).await;
    server.clock.advance(Duration::from_secs(60));
    let mut request = Challenge::of(&mut client, CodePurpose::SignIn, &person)
        .await
        .met();
    request.client = Some(v1::ClientInfo {
        ip_address: "192.0.2.7".to_owned(),
        user_agent: "app/1".to_owned(),
    });
    let response = client.verify_code(request).await.unwrap().into_inner();
    let (user, session) = (response.user.unwrap(), response.session.unwrap());
    assert_eq!(user.user_id, person.user.user_id);
    assert_eq!(user.last_login_at, time(START + 60));
    assert_eq!(user.phone_verified_at, time(START), "it was verified before");
    assert_eq!(session.auth_methods, [i32::from(AuthMethod::SmsCode)]);
    assert_eq!(session.client.unwrap().ip_address, "192.0.2.7");
    assert_eq!(response.device_token, "");
    assert!(is_alive(&server, &response.session_token).await);
    // Other users keep their sessions.
    assert!(is_alive(&server, &person.token).await);
    person.sign_in_again(&server).await;
}

/// An attacker may register the number of another user and wait for that user to verify it.
#[tokio::test]
async fn the_first_verification_of_a_number_ends_all_older_sessions() {
    for purpose in [CodePurpose::SignIn, CodePurpose::ResetPassword] {
        let server = start_with_codes(&[]).await;
        let mut client = codes(&server).await;
        let hijacker = server.person().await;
        let mut passwords = server.client().await;
        let mut request = credentials(&hijacker.phone_number, PASSWORD);
        request.remember_device = true;
        passwords.authenticate(request.clone()).await.unwrap();
        let known_device = "SELECT 1 FROM devices JOIN users ON users.id = devices.user_id WHERE users.id = ? \
                            AND devices.credential_version = users.credential_version";
        assert!(server.database.knows(known_device, &hijacker).await);
        let challenge = Challenge::of(&mut client, purpose, &hijacker).await;
        let response = client.verify_code(challenge.met()).await.unwrap().into_inner();
        let user = response.user.unwrap();
        assert_eq!(user.user_id, hijacker.user.user_id);
        assert_eq!(user.phone_verified_at, time(START));
        assert_eq!(user.has_password, purpose == CodePurpose::ResetPassword);
        assert!(!is_alive(&server, &hijacker.token).await);
        assert!(!server.database.knows(known_device, &hijacker).await);
        let refused = passwords.authenticate(request).await;
        assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
        if purpose == CodePurpose::SignIn {
            assert!(is_alive(&server, &response.session_token).await);
            let kept = "SELECT 1 FROM users WHERE id = ? AND password_hash IS NOT NULL";
            assert!(!server.database.knows(kept, &hijacker).await);
        }
    }
}

#[tokio::test]
async fn a_user_that_verifies_the_number_with_a_session_keeps_all_sessions() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let other = person.sign_in_again(&server).await;
    server.clock.advance(Duration::from_secs(5));
    let challenge = Challenge::of(&mut client, CodePurpose::VerifyPhone, &person).await;
    let verified = client.verify_code(person.asks(challenge.met())).await.unwrap();
    let response = verified.into_inner();
    let user = response.user.unwrap();
    assert_eq!(
        (user.phone_verified_at, user.updated_at, user.has_password),
        (time(START + 5), time(START + 5), true)
    );
    assert_eq!((response.session, response.session_token.as_str()), (None, ""));
    // At once, on the sessions that are in memory, too.
    for token in [&person.token, &other.token] {
        let known = server.client().await.validate_session(validation(token)).await;
        let user = known.unwrap().into_inner().user.unwrap();
        assert_eq!(user.phone_verified_at, time(START + 5));
    }
    person.sign_in_again(&server).await;
}

#[tokio::test]
async fn a_code_sets_a_new_password_and_ends_all_sessions() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    verify(&server, &mut client, &person).await;
    let challenge = Challenge::of(&mut client, CodePurpose::ResetPassword, &person).await;
    let response = client.verify_code(challenge.met()).await.unwrap().into_inner();
    assert_eq!((response.session, response.session_token.as_str()), (None, ""));
    assert!(!is_alive(&server, &person.token).await);
    let mut passwords = server.client().await;
    let old = passwords
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await;
    assert_refused(old, Code::Unauthenticated, "INVALID_CREDENTIALS");
    passwords
        .authenticate(credentials(&person.phone_number, NEW_PASSWORD))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_number_without_an_account_signs_up_where_that_is_allowed() {
    let server = start_with_codes(&["--sign-up-by-code"]).await;
    let mut client = codes(&server).await;
    let number = next_phone_number();
    let challenge = Challenge::of_unknown_number(&mut client, CodePurpose::SignIn, &number).await;
    let mut request = challenge.met();
    request.remember_device = true;
    let response = client.verify_code(request).await.unwrap().into_inner();
    let user = response.user.unwrap();
    assert_eq!(user.phone_number, number);
    assert_eq!(
        (user.has_password, user.phone_verified_at, user.last_login_at),
        (false, time(START), time(START))
    );
    assert!(
        response.device_token.starts_with("pdv_"),
        "{}",
        response.device_token
    );
    assert!(is_alive(&server, &response.session_token).await);
    // The next sign-in finds the account.
    server.clock.advance(Duration::from_secs(60));
    let sent = client
        .send_code(wanted(CodePurpose::SignIn, &number))
        .await
        .unwrap();
    let id = sent.into_inner().challenge_id;
    let code = code_of(&id, CodePurpose::SignIn, &number, Some(&user.user_id));
    let request = offered(&id, CodePurpose::SignIn, &code);
    let again = client
        .verify_code(request)
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    assert_eq!(again.user_id, user.user_id);
}

#[tokio::test]
async fn a_code_for_a_number_without_an_account_does_not_sign_in_a_later_account() {
    let server = start_with_codes(&["--sign-up-by-code"]).await;
    let mut client = codes(&server).await;
    let number = next_phone_number();
    let challenge = Challenge::of_unknown_number(&mut client, CodePurpose::SignIn, &number).await;
    server
        .client()
        .await
        .register(registration(&number, PASSWORD))
        .await
        .unwrap();
    let refused = client.verify_code(challenge.met()).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
}

#[tokio::test]
async fn a_deactivated_account_comes_back_by_the_same_code() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    verify(&server, &mut client, &person).await;
    let deactivated = person.asks(v1::DeactivateProfileRequest::default());
    server
        .client()
        .await
        .deactivate_profile(deactivated)
        .await
        .unwrap();
    let reset = Challenge::of(&mut client, CodePurpose::ResetPassword, &person).await;
    let refused = client.verify_code(reset.met()).await;
    assert_refused(refused, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
    let mut request = Challenge::of(&mut client, CodePurpose::SignIn, &person)
        .await
        .met();
    let refused = client.verify_code(request.clone()).await;
    assert_refused(refused, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
    request.reactivate = true;
    let response = client.verify_code(request).await.unwrap().into_inner();
    assert_eq!(response.user.unwrap().status, i32::from(v1::UserStatus::Active));
    assert!(is_alive(&server, &response.session_token).await);
}

#[tokio::test]
async fn no_code_reactivates_a_user_that_administration_deactivated() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let superuser = server.superuser().await;
    let deactivate = v1::DeactivateUserRequest {
        user_id: person.user.user_id.clone(),
    };
    server
        .admin()
        .await
        .deactivate_user(superuser.asks(deactivate))
        .await
        .unwrap();
    let mut request = Challenge::of(&mut client, CodePurpose::SignIn, &person)
        .await
        .met();
    request.reactivate = true;
    let refused = client.verify_code(request).await;
    assert_refused(refused, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
}

/// All of them have the right code; the challenge takes as many attempts as there are.
#[tokio::test]
async fn one_of_many_calls_with_the_same_code_signs_in() {
    let server = start_with_codes(&["--code-attempts=64"]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    verify(&server, &mut client, &person).await;
    let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    let calls = (0..64).map(|_| {
        let (mut client, request) = (client.clone(), challenge.met());
        tokio::spawn(async move { client.verify_code(request).await })
    });
    let mut signed_in = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(_) => signed_in += 1,
            refused => assert_refused(refused, Code::InvalidArgument, "CODE_INVALID"),
        }
    }
    assert_eq!(signed_in, 1);
    assert_eq!(server.database.sessions_of(&person).await, 2);
    assert_eq!(server.database.count("challenges").await, 0);
}

/// The code is copied from a message with the text around it.
#[tokio::test]
async fn a_pasted_code_is_accepted() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    for paste in [
        |code: &str| format!("{}\u{a0}{}", &code[..3], &code[3..]),
        |code: &str| format!("{code}\n"),
        |code: &str| format!("\u{202a}{}\u{2009}{}\u{202c}\r\n", &code[..3], &code[3..]),
        |code: &str| format!("\u{feff}{}\u{200b}{}\u{2029}", &code[..1], &code[1..]),
    ] {
        let person = server.person().await;
        let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
        let pasted = challenge.with(&paste(challenge.code()));
        let response = client.verify_code(pasted).await.unwrap().into_inner();
        assert_eq!(response.user.unwrap().user_id, person.user.user_id);
    }
    let person = server.person().await;
    let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    for marks in ["\t", "x", "\u{fe0f}"] {
        let code = format!("{}{marks}{}", &challenge.code()[..3], &challenge.code()[3..]);
        let refused = client.verify_code(challenge.with(&code)).await;
        assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    }
    client.verify_code(challenge.met()).await.unwrap();
}
