//! Accounts with a number that a newer numbering plan no longer allows: they are found, and nothing reveals whether one
//! exists.

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::{Code, Request};

use crate::admin::{get, update_of};
use crate::support::codes::{codes, start_with_codes, wanted};
use crate::support::place::Place;
use crate::support::refusal::{assert_refused, assert_violations, refusal};
use crate::support::{
    OTHER_PASSWORD, PASSWORD, Person, TestServer, UNTHROTTLED, credentials, next_phone_number, registration,
    validation,
};
use crate::throttle::wait_of;

/// Ivory Coast until 2021: eight digits, now ten. Mexican mobiles until 2019: eleven, now ten. Andorra has six, eight
/// and nine.
const OLD: [&str; 3] = ["+22507123456", "+5215512345678", "+3767123456"];

/// Numbers of the same forms, which no account has.
const UNKNOWN: [&str; 3] = ["+22507123457", "+5215512345679", "+3767123457"];

/// A user with this number.
async fn with_number(server: &TestServer, number: &str) -> Person {
    let person = server.person().await;
    set_number(server, &person, number).await;
    Person {
        phone_number: number.to_owned(),
        ..person
    }
}

async fn set_number(server: &TestServer, person: &Person, number: &str) {
    let sql = format!("UPDATE users SET phone_number = '{number}' WHERE id = ?");
    server.database.execute(&sql, person).await;
}

#[tokio::test]
async fn an_account_with_a_number_of_an_older_plan_is_signed_in_and_found() {
    let server = TestServer::start().await;
    let (root, mut client, mut admin) = (
        server.superuser().await,
        server.client().await,
        server.admin().await,
    );
    for (number, unknown) in OLD.into_iter().zip(UNKNOWN) {
        let person = with_number(&server, number).await;
        let pasted = format!(
            "\u{202a}{} {}\u{a0}{}\u{202c}\n",
            &number[..4],
            &number[4..7],
            &number[7..]
        );
        for written in [number, pasted.as_str()] {
            let signed_in = client.authenticate(credentials(written, PASSWORD)).await.unwrap();
            assert_eq!(signed_in.into_inner().user.unwrap().user_id, person.user.user_id);
            let request = v1::GetUserRequest {
                phone_number: written.to_owned(),
                ..v1::GetUserRequest::default()
            };
            let found = admin.get_user(root.asks(request)).await.unwrap().into_inner();
            assert_eq!(found.user.unwrap().user.unwrap().user_id, person.user.user_id);
        }
        let request = v1::GetUserRequest {
            phone_number: unknown.to_owned(),
            ..v1::GetUserRequest::default()
        };
        assert_refused(
            admin.get_user(root.asks(request)).await,
            Code::NotFound,
            "USER_NOT_FOUND",
        );
    }
    // The national form, in its region.
    let national = v1::AuthenticateRequest {
        default_region: "CI".to_owned(),
        ..credentials("07 12 34 56", PASSWORD)
    };
    client.authenticate(national).await.unwrap();
}

/// A number of an old plan that has an account, one that has none, and an ordinary one that has none.
#[tokio::test]
async fn no_response_reveals_whether_a_number_of_an_old_plan_has_an_account() {
    let limits = ["--throttle-number-attempts=3", "--throttle-address-attempts=0"];
    let server = start_with_codes(&limits).await;
    with_number(&server, OLD[0]).await;
    let numbers = [OLD[0].to_owned(), UNKNOWN[0].to_owned(), next_phone_number()];
    let mut client = server.client().await;
    for wrong in 0..3 {
        let mut answers = Vec::new();
        for number in &numbers {
            let hashed = server.hasher.completed();
            let refused = client.authenticate(credentials(number, OTHER_PASSWORD)).await;
            answers.push(format!("{:?}", refusal(&refused.unwrap_err())));
            assert_eq!(server.hasher.completed(), hashed + 1, "{number}");
        }
        assert!(answers[0].contains("INVALID_CREDENTIALS"), "{answers:?}");
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{wrong}: {answers:?}"
        );
    }
    // As many attempts have no delay.
    let mut waits = Vec::new();
    for number in &numbers {
        let hashed = server.hasher.completed();
        waits.push(wait_of(
            client.authenticate(credentials(number, OTHER_PASSWORD)).await,
        ));
        assert_eq!(server.hasher.completed(), hashed, "{number}");
    }
    assert!(waits.iter().all(|wait| *wait == waits[0]), "{waits:?}");

    let mut verification = codes(&server).await;
    for purpose in [CodePurpose::SignIn, CodePurpose::ResetPassword] {
        let mut answers = Vec::new();
        for number in &numbers {
            let sent = verification
                .send_code(wanted(purpose, number))
                .await
                .unwrap()
                .into_inner();
            answers.push((sent.resend_after, sent.expires_at, sent.code_length));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
}

#[tokio::test]
async fn a_number_of_an_old_plan_is_never_registered() {
    let flags = ["--sign-up-by-code", "--unverified-phone-change"];
    let server = start_with_codes(&[&UNTHROTTLED[..], &flags].concat()).await;
    let (root, person) = (server.superuser().await, server.person().await);
    let (mut client, mut admin, mut verification) =
        (server.client().await, server.admin().await, codes(&server).await);
    for (number, reason) in UNKNOWN.into_iter().zip([
        "PHONE_NUMBER_TOO_SHORT",
        "PHONE_NUMBER_TOO_LONG",
        "PHONE_NUMBER_LENGTH_NOT_POSSIBLE",
    ]) {
        let refused = client.register(registration(number, PASSWORD)).await;
        assert_violations(refused, &[("phone_number", reason)]);
        let request = v1::UpdateProfileRequest {
            new_phone_number: Some(number.to_owned()),
            ..v1::UpdateProfileRequest::default()
        };
        let refused = client.update_profile(person.asks(request)).await;
        assert_violations(refused, &[("new_phone_number", reason)]);
        let request = v1::CreateUserRequest {
            phone_number: number.to_owned(),
            ..v1::CreateUserRequest::default()
        };
        let refused = admin.create_user(root.asks(request)).await;
        assert_violations(refused, &[("phone_number", reason)]);
        let request = v1::UpdateUserRequest {
            phone_number: Some(number.to_owned()),
            ..update_of(&server, &root, &person).await
        };
        let refused = admin.update_user(root.asks(request)).await;
        assert_violations(refused, &[("phone_number", reason)]);
        let refused = verification
            .send_code(person.asks(wanted(CodePurpose::ChangePhone, number)))
            .await;
        assert_violations(refused, &[("phone_number", reason)]);
        // A code would create the account, so none is sent.
        let sent = verification
            .send_code(wanted(CodePurpose::SignIn, number))
            .await
            .unwrap();
        let id = sent.into_inner().challenge_id;
        let code = crate::support::codes::code_of(&id, CodePurpose::SignIn, number, None);
        let offered = crate::support::codes::offered(&id, CodePurpose::SignIn, &code);
        let refused = verification.verify_code(Request::new(offered)).await;
        assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    }
    assert_eq!(server.database.count("users").await, 2);
}

#[tokio::test]
async fn a_superuser_changes_a_number_and_everything_of_the_old_one_ends() {
    let server = TestServer::start().await;
    let root = server.superuser().await;
    let person = with_number(&server, OLD[0]).await;
    let (mut client, mut admin) = (server.client().await, server.admin().await);
    let request = v1::AuthenticateRequest {
        remember_device: true,
        ..credentials(OLD[0], PASSWORD)
    };
    let device_token = client
        .authenticate(request)
        .await
        .unwrap()
        .into_inner()
        .device_token;
    assert!(!device_token.is_empty());
    let number = "+2250707123456";
    let request = v1::UpdateUserRequest {
        phone_number: Some("07 07 12 34 56".to_owned()),
        default_region: "CI".to_owned(),
        ..update_of(&server, &root, &person).await
    };
    let changed = admin
        .update_user(root.asks(request.clone()))
        .await
        .unwrap()
        .into_inner();
    let changed = changed.user.unwrap();
    let user = changed.user.clone().unwrap();
    assert_eq!(
        (user.phone_number.as_str(), user.phone_verified_at),
        (number, None)
    );
    assert_ne!(changed.etag, request.etag);
    assert_eq!(get(&server, &root, &person).await, changed);
    // The sessions, the device and the old number are gone, and the password stays.
    let ended = client.validate_session(validation(&person.token)).await;
    assert_refused(ended, Code::Unauthenticated, "SESSION_INVALID");
    let sql = "SELECT 1 FROM users WHERE id = ? AND credential_version = 1";
    assert!(server.database.knows(sql, &person).await);
    let old = client.authenticate(credentials(OLD[0], PASSWORD)).await;
    assert_refused(old, Code::Unauthenticated, "INVALID_CREDENTIALS");
    client.authenticate(credentials(number, PASSWORD)).await.unwrap();
    let sql = "SELECT 1 FROM audit_events WHERE subject_id = ? AND action = 'update_user' AND outcome = 'done' \
               AND fields = 'phone_number' AND ended_sessions = 2";
    assert!(server.database.knows(sql, &person).await);
    // The same number is no change, and ends nothing.
    let again = client
        .authenticate(credentials(number, PASSWORD))
        .await
        .unwrap()
        .into_inner();
    let request = v1::UpdateUserRequest {
        phone_number: Some(number.to_owned()),
        ..update_of(&server, &root, &person).await
    };
    admin.update_user(root.asks(request)).await.unwrap();
    client
        .validate_session(validation(&again.session_token))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_number_is_changed_to_a_free_one_and_by_superusers_only() {
    let server = TestServer::start().await;
    let (root, staff, person, other) = (
        server.superuser().await,
        server.staff().await,
        server.person().await,
        server.person().await,
    );
    let mut admin = server.admin().await;
    let request = v1::UpdateUserRequest {
        phone_number: Some(other.phone_number.clone()),
        ..update_of(&server, &root, &person).await
    };
    let taken = admin.update_user(root.asks(request.clone())).await;
    assert_refused(taken, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    let by_staff = admin.update_user(staff.asks(request.clone())).await;
    assert_refused(by_staff, Code::PermissionDenied, "NOT_SUPERUSER");
    let stale = v1::UpdateUserRequest {
        phone_number: Some(next_phone_number()),
        etag: "stale".to_owned(),
        ..request
    };
    let stale = admin.update_user(root.asks(stale)).await;
    assert_refused(stale, Code::Aborted, "ETAG_MISMATCH");
    let valid = server
        .client()
        .await
        .validate_session(validation(&person.token))
        .await;
    assert_eq!(
        valid.unwrap().into_inner().user.unwrap().phone_number,
        person.phone_number
    );
}

/// The holder of the old number may be another user than the one that requested the change.
#[tokio::test]
async fn a_verified_old_number_is_notified_of_a_change_by_administration() {
    let server = start_with_codes(&[]).await;
    let (root, verified, unverified) = (
        server.superuser().await,
        server.person().await,
        server.person().await,
    );
    let sql = "UPDATE users SET phone_verified_at = created_at WHERE id = ?";
    server.database.execute(sql, &verified).await;
    let mut admin = server.admin().await;
    for person in [&unverified, &verified] {
        let request = v1::UpdateUserRequest {
            phone_number: Some(next_phone_number()),
            ..update_of(&server, &root, person).await
        };
        admin.update_user(root.asks(request)).await.unwrap();
    }
    let notified =
        "SELECT 1 FROM audit_events WHERE subject_id = ? AND action = 'deliver_notice' AND outcome = 'done'";
    server.database.wait_for(notified, &verified).await;
    assert!(!server.database.knows(notified, &unverified).await);
}

#[tokio::test]
async fn commands_find_a_number_of_an_old_plan_and_take_an_id() {
    let place = Place::new().await;
    let server = TestServer::start_in(place, &[], None).await;
    let person = with_number(&server, OLD[1]).await;
    let id = person.user.user_id.as_str();
    let place = &server.place;
    let printed = |output: std::process::Output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = printed(place.run(&["users", "show", OLD[1]], "").await);
    assert!(shown.contains(id) && shown.contains(OLD[1]), "{shown}");
    let password = |number: &'static str| format!("{number} over the hill\n");
    for (user, password) in [(OLD[1], password("one")), (id, password("two"))] {
        let output = place
            .run(&["changepassword", user, "--password-stdin"], &password)
            .await;
        assert_eq!(
            printed(output),
            format!("password changed, and all sessions ended: {}\n", OLD[1])
        );
        let mut client = server.client().await;
        let signed_in = client
            .authenticate(credentials(OLD[1], password.trim_end()))
            .await;
        assert_eq!(signed_in.unwrap().into_inner().user.unwrap().user_id, id);
    }
    // By id too, a password is not the number.
    let output = place
        .run(&["changepassword", id, "--password-stdin"], "x5215512345678yz\n")
        .await;
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("is the phone number or a part of it")
    );
    for (user, failure) in [
        (UNKNOWN[1], "error: no user has this phone number\n"),
        ("0199b4d0-0000-7000-8000-000000000000", "error: user not found\n"),
    ] {
        let output = place
            .run(
                &["changepassword", user, "--password-stdin"],
                "one over the hill\n",
            )
            .await;
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), failure);
    }

    let number = next_phone_number();
    let changed = printed(place.run(&["users", "change-number", OLD[1], &number], "").await);
    assert!(changed.contains(id) && changed.contains(&number), "{changed}");
    let number = next_phone_number();
    printed(place.run(&["users", "change-number", id, &number], "").await);
    let shown = printed(place.run(&["users", "show", &number], "").await);
    assert!(shown.contains(id), "{shown}");
    let other = server.person().await;
    let output = place
        .run(&["users", "change-number", id, &other.phone_number], "")
        .await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("this phone number is taken"), "{stderr}");
    let output = place.run(&["users", "change-number", id, UNKNOWN[0]], "").await;
    assert_eq!(output.status.code(), Some(2));
}
