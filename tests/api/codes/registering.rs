//! `--registration`: registration with a code that verifies the number, and closed registration.

use std::time::Duration;

use phone_identity::proto::v1;
use phone_identity::proto::v1::{AuthMethod, CodePurpose};
use tonic::{Code, Status};
use uuid::Uuid;

use super::providers::{SECRET, TAKEN, secret, start, webhook};
use super::sending::{again, left};
use super::{Challenge, NEW_PASSWORD};
use crate::support::codes::{CodesClient, code_of, codes, flags_of_codes, start_with_codes, wanted};
use crate::support::place::Place;
use crate::support::refusal::{assert_refused, assert_violations, refusal};
use crate::support::stub::Stub;
use crate::support::{PASSWORD, TestServer, credentials, next_phone_number, registration, validation};

const START: i64 = 1_767_225_600;
const VERIFIED: &[&str] = &["--registration=verified"];

/// Returns the challenge of a rejection by Register, and the ErrorInfo without it.
fn required(refused: &Status) -> (String, Vec<(String, String)>) {
    let refusal = refusal(refused);
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::FailedPrecondition, "VERIFICATION_REQUIRED"),
        "{refusal:?}"
    );
    let mut metadata = refusal.metadata;
    metadata.sort();
    let (key, challenge) = metadata.remove(0);
    assert_eq!(key, "challengeId");
    assert!(Uuid::parse_str(&challenge).is_ok(), "{challenge}");
    (challenge, metadata)
}

async fn register(server: &TestServer, phone_number: &str) -> Status {
    let request = registration(phone_number, "");
    server.client().await.register(request).await.unwrap_err()
}

/// Starts the registration of a number without an account.
pub(super) async fn challenge(server: &TestServer, phone_number: &str) -> Challenge {
    let (id, _) = required(&register(server, phone_number).await);
    let purpose = CodePurpose::Register;
    let code = code_of(&id, purpose, phone_number, None);
    Challenge { id, purpose, code }
}

#[tokio::test]
async fn an_account_is_created_by_the_code_and_not_before() {
    let server = start_with_codes(VERIFIED).await;
    let mut client = codes(&server).await;
    let number = next_phone_number();
    let refused = register(&server, &number).await;
    let (id, said) = required(&refused);
    let expected = [
        ("codeLength", "6"),
        ("expiresAt", "2026-01-01T00:05:00.000000Z"),
        ("resendAfter", "2026-01-01T00:00:30.000000Z"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(said, expected);
    for table in ["users", "sessions", "devices"] {
        assert_eq!(server.database.count(table).await, 0, "{table}");
    }
    let code = code_of(&id, CodePurpose::Register, &number, None);
    let challenge = Challenge {
        id,
        purpose: CodePurpose::Register,
        code,
    };
    server.clock.advance(Duration::from_secs(60));
    let mut request = challenge.met();
    request.remember_device = true;
    let response = client.verify_code(request).await.unwrap().into_inner();
    let (user, session) = (response.user.unwrap(), response.session.unwrap());
    let now = Some(prost_types::Timestamp {
        seconds: START + 60,
        nanos: 0,
    });
    assert_eq!(user.phone_number, number);
    assert_eq!(
        (
            user.has_password,
            user.phone_verified_at,
            user.created_at,
            user.last_login_at
        ),
        (true, now, now, now)
    );
    let methods = [AuthMethod::Password, AuthMethod::SmsCode].map(i32::from);
    assert_eq!(session.auth_methods, methods);
    assert!(response.device_token.starts_with("pdv_"));
    let mut passwords = server.client().await;
    passwords
        .validate_session(validation(&response.session_token))
        .await
        .unwrap();
    passwords
        .authenticate(credentials(&number, NEW_PASSWORD))
        .await
        .unwrap();
    // It is valid once.
    let refused = client.verify_code(challenge.met()).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
}

/// The responses for numbers with and without an account are the same. The user of the account gets a notice without a
/// code.
#[tokio::test]
async fn registration_does_not_reveal_taken_numbers() {
    let stub = Stub::start(TAKEN).await;
    let key = secret(SECRET);
    let mut flags = webhook(&stub.url(), &key);
    flags.push(VERIFIED[0].to_owned());
    let server = start("webhook", &[flags]).await;
    let mut client = codes(&server).await;
    let taken = next_phone_number();
    let first = challenge(&server, &taken).await;
    // A message is not sent after its code was used.
    left(&server, 0).await;
    let user = client
        .verify_code(first.met())
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    left(&server, 0).await;
    let free = next_phone_number();
    let (of_taken, said_of_taken) = required(&register(&server, &taken).await);
    left(&server, 0).await;
    let (of_free, said_of_free) = required(&register(&server, &free).await);
    assert_eq!(said_of_taken, said_of_free);
    left(&server, 0).await;
    let requests = stub.requests();
    let [_, notice, code] = requests.as_slice() else {
        panic!("{requests:?}")
    };
    let text = "There is an account with this number already. Sign in, or reset the password.";
    assert!(notice.contains(&taken) && notice.contains(text), "{notice}");
    let right = code_of(&of_free, CodePurpose::Register, &free, None);
    assert!(code.contains(&free) && code.contains(&right), "{code}");
    // No code is right: neither that of the owner nor that of an unknown number.
    for person in [Some(user.user_id.as_str()), None] {
        let code = code_of(&of_taken, CodePurpose::Register, &taken, person);
        let forged = Challenge {
            id: of_taken.clone(),
            purpose: CodePurpose::Register,
            code,
        };
        let refused = client.verify_code(forged.met()).await;
        assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    }
    // Once more, the same is sent to each.
    server.clock.advance(Duration::from_secs(30));
    let mut answers = Vec::new();
    for id in [&of_taken, &of_free] {
        let mut sent = client.send_code(again(id)).await.unwrap().into_inner();
        sent.challenge_id.clear();
        answers.push(sent);
        left(&server, 0).await;
    }
    assert_eq!(answers[0], answers[1]);
    let requests = stub.requests();
    assert!(
        requests[3].contains(text) && requests[3].contains(&taken),
        "{requests:?}"
    );
    assert!(
        requests[4].contains(&right) && requests[4].contains(&free),
        "{requests:?}"
    );
}

#[tokio::test]
async fn the_first_of_two_registrations_of_a_number_succeeds() {
    let server = start_with_codes(VERIFIED).await;
    let mut client = codes(&server).await;
    let number = next_phone_number();
    let (one, other) = (
        challenge(&server, &number).await,
        challenge(&server, &number).await,
    );
    client.verify_code(other.met()).await.unwrap();
    let refused = client.verify_code(one.met()).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
}

#[tokio::test]
async fn a_rejected_password_is_rejected_with_and_without_the_code() {
    let server = start_with_codes(VERIFIED).await;
    let mut client = codes(&server).await;
    let number = next_phone_number();
    for (password, reason) in [
        ("short", "PASSWORD_TOO_SHORT"),
        ("password123", "PASSWORD_TOO_COMMON"),
        (number.as_str(), "PASSWORD_CONTAINS_PHONE_NUMBER"),
    ] {
        let early = server
            .client()
            .await
            .register(registration(&number, password))
            .await;
        assert_violations(early, &[("password", reason)]);
        let challenge = challenge(&server, &number).await;
        let mut request = challenge.met();
        request.new_password = password.to_owned();
        let late = client.verify_code(request).await;
        assert_violations(late, &[("new_password", reason)]);
        // With another password, the code is valid.
        if reason == "PASSWORD_CONTAINS_PHONE_NUMBER" {
            client.verify_code(challenge.met()).await.unwrap();
        }
    }
}

/// One that is fit is looked at, and forgotten.
#[tokio::test]
async fn the_password_of_register_is_not_kept() {
    let server = start_with_codes(VERIFIED).await;
    let number = next_phone_number();
    let refused = server
        .client()
        .await
        .register(registration(&number, PASSWORD))
        .await;
    let (id, _) = required(&refused.unwrap_err());
    let code = code_of(&id, CodePurpose::Register, &number, None);
    let purpose = CodePurpose::Register;
    let challenge = Challenge { id, purpose, code };
    codes(&server).await.verify_code(challenge.met()).await.unwrap();
    let refused = server
        .client()
        .await
        .authenticate(credentials(&number, PASSWORD))
        .await;
    assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
}

async fn send(client: &mut CodesClient, purpose: CodePurpose, number: &str) -> Result<(), Status> {
    client.send_code(wanted(purpose, number)).await.map(drop)
}

/// Only Register requests such a code, so there is one way to it. It has the rate limits of all codes.
#[tokio::test]
async fn the_code_of_register_is_asked_for_with_register() {
    let server = start_with_codes(&["--registration=verified", "--throttle-code-attempts=2"]).await;
    let mut client = codes(&server).await;
    let number = next_phone_number();
    let refused = refusal(
        &send(&mut client, CodePurpose::Register, &number)
            .await
            .unwrap_err(),
    );
    assert_eq!(
        refused.violations,
        [("purpose".to_owned(), "NOT_OF_PURPOSE".to_owned())]
    );
    for _ in 0..2 {
        required(&register(&server, &number).await);
    }
    let refused = refusal(&register(&server, &number).await);
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS")
    );
}

#[tokio::test]
async fn superusers_create_accounts_where_registration_is_closed() {
    let server = start_with_codes(&[]).await;
    let superuser = server.superuser().await;
    let flags = flags_of_codes(&["--registration=closed"]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = server.restart_with(&flags).await;
    let number = next_phone_number();
    let refused = server
        .client()
        .await
        .register(registration(&number, PASSWORD))
        .await;
    assert_refused(refused, Code::PermissionDenied, "REGISTRATION_CLOSED");
    let created = v1::CreateUserRequest {
        phone_number: number.clone(),
        ..v1::CreateUserRequest::default()
    };
    server
        .admin()
        .await
        .create_user(superuser.asks(created))
        .await
        .unwrap();
    // A code for another user does not register the number, either.
    let mut client = codes(&server).await;
    let unknown = Challenge::of_unknown_number(&mut client, CodePurpose::SignIn, &next_phone_number()).await;
    let refused = client.verify_code(unknown.met()).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
}

#[tokio::test]
async fn contradictory_settings_are_reported() {
    let place = Place::new().await;
    for (flags, expected) in [
        (
            vec!["--registration=verified"],
            "--registration verified needs --sms-providers",
        ),
        (
            vec![
                "--registration=verified",
                "--sms-providers=log",
                "--unverified-phone-change",
            ],
            "--registration verified and --unverified-phone-change contradict each other",
        ),
        (
            vec![
                "--registration=closed",
                "--sms-providers=log",
                "--sign-up-by-code",
            ],
            "--registration closed and --sign-up-by-code contradict each other",
        ),
        (vec!["--registration=everybody"], "everybody"),
    ] {
        let mut arguments = vec!["serve", "--listen=127.0.0.1:0"];
        arguments.extend(flags);
        let output = place.run(&arguments, "").await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
