//! CHANGE_PHONE: a verified new number, the notice to the old one, and the hold afterwards.

use std::time::Duration;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::Code;

use super::providers::{SECRET, TAKEN, secret, start, webhook};
use super::sending::left;
use super::{Challenge, NEW_PASSWORD, verify};
use crate::support::codes::{codes, flags_of_codes, offered, start_with_codes, wanted};
use crate::support::refusal::{assert_refused, assert_violations};
use crate::support::stub::Stub;
use crate::support::{PASSWORD, Person, TestServer, credentials, next_phone_number, validation};

const START: i64 = 1_767_225_600;

fn time(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

/// Changes the number of a user shortly after a sign-in.
pub(super) async fn change(server: &TestServer, person: &Person, phone_number: &str) -> v1::User {
    let mut client = codes(server).await;
    let challenge = Challenge::of_new_number(&mut client, person, phone_number).await;
    let changed = client.verify_code(person.asks(challenge.met())).await.unwrap();
    changed.into_inner().user.unwrap()
}

/// Returns the user of a session, as calling services see it.
pub(super) async fn seen(server: &TestServer, token: &str) -> v1::User {
    let validated = server.client().await.validate_session(validation(token)).await;
    validated.unwrap().into_inner().user.unwrap()
}

#[tokio::test]
async fn a_code_changes_the_number_and_the_old_one_is_notified() {
    let stub = Stub::start(TAKEN).await;
    let key = secret(SECRET);
    let server = start("webhook", &[webhook(&stub.url(), &key)]).await;
    let person = server.person().await;
    let other = person.sign_in_again(&server).await;
    let new = next_phone_number();
    server.clock.advance(Duration::from_secs(5));
    let mut client = codes(&server).await;
    let challenge = Challenge::of_new_number(&mut client, &person, &new).await;
    left(&server, 0).await;
    let response = client.verify_code(person.asks(challenge.met())).await.unwrap();
    let response = response.into_inner();
    assert_eq!((response.session, response.session_token.as_str()), (None, ""));
    let user = response.user.unwrap();
    assert_eq!(user.user_id, person.user.user_id);
    assert_eq!(user.phone_number, new);
    assert_eq!(
        (user.phone_verified_at, user.updated_at),
        (time(START + 5), time(START + 5))
    );
    // The change is effective at once, also for cached sessions, which stay valid.
    for token in [&person.token, &other.token] {
        assert_eq!(seen(&server, token).await, user);
    }
    let mut passwords = server.client().await;
    let old = passwords
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await;
    assert_refused(old, Code::Unauthenticated, "INVALID_CREDENTIALS");
    passwords.authenticate(credentials(&new, PASSWORD)).await.unwrap();

    left(&server, 0).await;
    let requests = stub.requests();
    let [code, notice] = requests.as_slice() else {
        panic!("{requests:?}")
    };
    let says = |request: &str, to: &str, text: &str| {
        request.ends_with(&format!("\"to\":\"{to}\",\"text\":\"{text}\"}}"))
    };
    let text = format!(
        "{} is the code to use this number from now on. Do not tell it to anybody.",
        challenge.code
    );
    assert!(says(code, &new, &text), "{code}");
    let text =
        "Your account has another phone number now. If it was not you who changed it, contact support.";
    assert!(says(notice, &person.phone_number, text), "{notice}");
    let sql = "SELECT action, outcome, fields FROM audit_events \
               WHERE subject_id IS NOT NULL AND action IN ('change_phone', 'deliver_notice') ORDER BY action";
    let events = server.database.rows(sql).await;
    let events: Vec<(String, String, Option<String>)> = events
        .iter()
        .map(|row| {
            (
                row.try_get("", "action").unwrap(),
                row.try_get("", "outcome").unwrap(),
                row.try_get("", "fields").unwrap(),
            )
        })
        .collect();
    let fields = Some("phone_number".to_owned());
    assert_eq!(
        events,
        [
            ("change_phone".to_owned(), "done".to_owned(), fields),
            ("deliver_notice".to_owned(), "done".to_owned(), None)
        ]
    );
}

/// The notice is in the language of the user, or else in that of the call.
#[tokio::test]
async fn the_notice_is_in_the_language_of_the_person() {
    let stub = Stub::start(TAKEN).await;
    let key = secret(SECRET);
    let server = start("webhook", &[webhook(&stub.url(), &key)]).await;
    let (chosen, not) = (server.person().await, server.person().await);
    let update = v1::UpdateProfileRequest {
        locale: Some("uz".to_owned()),
        ..v1::UpdateProfileRequest::default()
    };
    server
        .client()
        .await
        .update_profile(chosen.asks(update))
        .await
        .unwrap();
    let mut client = codes(&server).await;
    for (person, expected) in [
        (&chosen, "Hisobingizning telefon raqami"),
        (&not, "Hesabınızın numarası"),
    ] {
        let challenge = Challenge::of_new_number(&mut client, person, &next_phone_number()).await;
        let mut request = person.asks(challenge.met());
        request
            .metadata_mut()
            .insert("accept-language", "tr".parse().unwrap());
        client.verify_code(request).await.unwrap();
        left(&server, 0).await;
        // Messages that are sent at the same time arrive in any order.
        let requests = stub.requests();
        let notice = requests
            .iter()
            .find(|request| request.contains(&person.phone_number));
        assert!(
            notice.is_some_and(|notice| notice.contains(expected)),
            "{requests:?}"
        );
    }
}

#[tokio::test]
async fn a_change_takes_the_password_unless_the_sign_in_is_fresh() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    server.clock.advance(Duration::from_mins(6));
    let new = next_phone_number();
    let challenge = Challenge::of_new_number(&mut client, &person, &new).await;
    let refused = client.verify_code(person.asks(challenge.met())).await;
    assert_refused(refused, Code::FailedPrecondition, "REAUTHENTICATION_REQUIRED");
    let mut request = challenge.met();
    request.current_password = Some("not the password at all".to_owned());
    let refused = client.verify_code(person.asks(request.clone())).await;
    assert_refused(refused, Code::PermissionDenied, "CURRENT_PASSWORD_WRONG");
    assert_eq!(
        seen(&server, &person.token).await.phone_number,
        person.phone_number
    );
    // The code is still valid, since it was not checked.
    request.current_password = Some(PASSWORD.to_owned());
    client.verify_code(person.asks(request)).await.unwrap();
    assert_eq!(seen(&server, &person.token).await.phone_number, new);
}

#[tokio::test]
async fn a_code_for_a_new_number_is_for_one_person_and_one_number() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let (person, other) = (server.person().await, server.person().await);
    let challenge = Challenge::of_new_number(&mut client, &person, &next_phone_number()).await;
    let refused = client.verify_code(other.asks(challenge.met())).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    let refused = client.verify_code(challenge.met()).await;
    assert_refused(refused, Code::Unauthenticated, "SESSION_INVALID");
    let as_other = offered(&challenge.id, CodePurpose::VerifyPhone, &challenge.code);
    let refused = client.verify_code(person.asks(as_other)).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    let another_number = Challenge::of_new_number(&mut client, &person, &next_phone_number()).await;
    let swapped = offered(&challenge.id, CodePurpose::ChangePhone, &another_number.code);
    let refused = client.verify_code(person.asks(swapped)).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    assert_eq!(
        seen(&server, &person.token).await.phone_number,
        person.phone_number
    );
}

/// A request for a code does not reveal whether the number has an account. The code itself does.
#[tokio::test]
async fn a_taken_number_is_revealed_only_to_its_holder() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let (person, owner) = (server.person().await, server.person().await);
    verify(&server, &mut client, &owner).await;
    let challenge = Challenge::of_new_number(&mut client, &person, &owner.phone_number).await;
    let refused = client.verify_code(person.asks(challenge.with("000000"))).await;
    assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    let refused = client.verify_code(person.asks(challenge.met())).await;
    assert_refused(refused, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    assert_eq!(
        seen(&server, &person.token).await.phone_number,
        person.phone_number
    );
    // When it is free again, the same code gives it.
    let gone = owner.asks(v1::DeleteProfileRequest::default());
    server.client().await.delete_profile(gone).await.unwrap();
    client.verify_code(person.asks(challenge.met())).await.unwrap();
    assert_eq!(
        seen(&server, &person.token).await.phone_number,
        owner.phone_number
    );
}

#[tokio::test]
async fn verifying_the_own_number_sends_no_notice() {
    let server = start_with_codes(&[]).await;
    let person = server.person().await;
    let user = change(&server, &person, &person.phone_number).await;
    assert_eq!(
        (user.phone_number, user.phone_verified_at),
        (person.phone_number.clone(), time(START))
    );
    left(&server, 0).await;
    let notices = "SELECT 1 FROM audit_events WHERE action = 'deliver_notice'";
    assert!(server.database.rows(notices).await.is_empty());
    let held = "SELECT 1 FROM users WHERE id = ? AND phone_changed_at IS NOT NULL";
    assert!(!server.database.knows(held, &person).await);
}

/// A change without a code notifies the old number only if it was verified and is of a line type that gets messages.
/// Otherwise a session could send messages to any number.
#[tokio::test]
async fn a_verified_old_number_is_notified_of_an_unverified_change() {
    for (flag, is_verified, is_told) in [
        ("--sms-countries=UZ", true, true),
        ("--sms-countries=UZ", false, false),
        ("--sms-countries=KZ", true, false),
        ("--sms-line-types=fixed_line", true, false),
    ] {
        let server = start_with_codes(&["--unverified-phone-change"]).await;
        let person = server.person().await;
        if is_verified {
            verify(&server, &mut codes(&server).await, &person).await;
            // A message that a process has leased and not sent at its end is sent after its lease, which takes longer.
            left(&server, 0).await;
        }
        let flags = flags_of_codes(&["--unverified-phone-change", flag]);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let server = server.restart_with(&flags).await;
        let update = v1::UpdateProfileRequest {
            new_phone_number: Some(next_phone_number()),
            ..v1::UpdateProfileRequest::default()
        };
        let mut client = server.client().await;
        client.update_profile(person.asks(update)).await.unwrap();
        left(&server, 0).await;
        assert_eq!(was_told(&server, &person).await, is_told, "{flag} {is_verified}");
    }
}

/// A verified number gets a notice after any number of messages.
#[tokio::test]
async fn an_unverified_old_number_is_notified_within_the_limits() {
    for (is_verified, limit, is_told) in [(false, 1, false), (false, 2, true), (true, 1, true)] {
        let server = start_with_codes(&[&format!("--sms-limit-number={limit}/d")]).await;
        let mut client = codes(&server).await;
        let person = server.person().await;
        let challenge = Challenge::of(&mut client, CodePurpose::VerifyPhone, &person).await;
        if is_verified {
            client.verify_code(person.asks(challenge.met())).await.unwrap();
        }
        let change = Challenge::of_new_number(&mut client, &person, &next_phone_number()).await;
        client.verify_code(person.asks(change.met())).await.unwrap();
        left(&server, 0).await;
        assert_eq!(was_told(&server, &person).await, is_told, "{is_verified} {limit}");
    }
}

/// Returns whether the old number of a user got a notice of the change.
async fn was_told(server: &TestServer, person: &Person) -> bool {
    let told =
        "SELECT 1 FROM audit_events WHERE action = 'deliver_notice' AND outcome = 'done' AND subject_id = ?";
    server.database.knows(told, person).await
}

#[tokio::test]
async fn a_new_number_needs_a_code_where_codes_are_sent() {
    let server = start_with_codes(&[]).await;
    let person = server.person().await;
    let mut profiles = server.client().await;
    let mut update = v1::UpdateProfileRequest {
        new_phone_number: Some(next_phone_number()),
        locale: Some("uz".to_owned()),
        ..v1::UpdateProfileRequest::default()
    };
    let refused = profiles.update_profile(person.asks(update.clone())).await;
    assert_refused(refused, Code::FailedPrecondition, "VERIFICATION_REQUIRED");
    let user = seen(&server, &person.token).await;
    assert_eq!(
        (user.phone_number, user.locale),
        (person.phone_number.clone(), None)
    );
    // The number that they have is none that is new.
    update.new_phone_number = Some(person.phone_number.clone());
    profiles.update_profile(person.asks(update)).await.unwrap();
    assert_eq!(seen(&server, &person.token).await.locale.as_deref(), Some("uz"));
}

#[tokio::test]
async fn fields_of_other_purposes_are_refused() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let mut request = offered("x", CodePurpose::ChangePhone, "123456");
    request.new_password = NEW_PASSWORD.to_owned();
    request.remember_device = true;
    request.current_password = Some(String::new());
    assert_violations(
        client.verify_code(person.asks(request)).await,
        &[
            ("new_password", "NOT_OF_PURPOSE"),
            ("remember_device", "NOT_OF_PURPOSE"),
            ("current_password", "REQUIRED"),
        ],
    );
    let mut request = offered("x", CodePurpose::SignIn, "123456");
    request.current_password = Some(PASSWORD.to_owned());
    assert_violations(
        client.verify_code(request).await,
        &[("current_password", "NOT_OF_PURPOSE")],
    );
    // A number that cannot be registered cannot be the new number either.
    let landline = person.asks(wanted(CodePurpose::ChangePhone, "+443001234567"));
    assert_violations(
        client.send_code(landline).await,
        &[("phone_number", "PHONE_NUMBER_LINE_TYPE_NOT_ALLOWED")],
    );
    let nobodys = client
        .send_code(wanted(CodePurpose::ChangePhone, &next_phone_number()))
        .await;
    assert_refused(nobodys, Code::Unauthenticated, "SESSION_INVALID");
}

/// Of many concurrent calls with the code, one changes the number.
#[tokio::test]
async fn one_of_many_concurrent_changes_succeeds() {
    let server = start_with_codes(&["--code-attempts=64"]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    verify(&server, &mut client, &person).await;
    let challenge = Challenge::of_new_number(&mut client, &person, &next_phone_number()).await;
    let calls = (0..32).map(|_| {
        let (mut client, request) = (client.clone(), person.asks(challenge.met()));
        tokio::spawn(async move { client.verify_code(request).await })
    });
    let mut changed = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(_) => changed += 1,
            refused => assert_refused(refused, Code::InvalidArgument, "CODE_INVALID"),
        }
    }
    assert_eq!(changed, 1);
}
