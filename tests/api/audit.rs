//! The audit log: what is in it after each call and command, and what never is.

mod administration;
mod erasing;
mod event_fields;
mod events;
mod listing;
mod row_limit;
mod unknown;
mod watched;

use std::time::Duration;

use phone_identity::proto::v1;
use tonic::{Code, Request};

use watched::{Row, Watched, all};

use crate::support::refusal::assert_refused;
use crate::support::{
    OTHER_PASSWORD, PASSWORD, Person, TestServer, UNTHROTTLED, credentials, next_phone_number, registration,
    validation, with_bearer,
};

const ADDRESS: &str = "203.0.113.9";
const DEVICE: &str = "Example/1.0 (телефон)";

fn device() -> v1::ClientInfo {
    v1::ClientInfo {
        ip_address: ADDRESS.to_owned(),
        user_agent: DEVICE.to_owned(),
    }
}

fn update(current_password: Option<&str>) -> v1::UpdateProfileRequest {
    v1::UpdateProfileRequest {
        current_password: current_password.map(str::to_owned),
        ..v1::UpdateProfileRequest::default()
    }
}

fn deactivation(current_password: Option<&str>) -> v1::DeactivateProfileRequest {
    v1::DeactivateProfileRequest {
        current_password: current_password.map(str::to_owned),
    }
}

fn deletion(current_password: Option<&str>) -> v1::DeleteProfileRequest {
    v1::DeleteProfileRequest {
        current_password: current_password.map(str::to_owned),
    }
}

fn superuser(phone_number: &str) -> v1::CreateSuperuserRequest {
    v1::CreateSuperuserRequest {
        phone_number: phone_number.to_owned(),
        password: OTHER_PASSWORD.to_owned(),
        ..v1::CreateSuperuserRequest::default()
    }
}

fn all_others() -> v1::RevokeSessionsRequest {
    v1::RevokeSessionsRequest {
        all_others: true,
        ..v1::RevokeSessionsRequest::default()
    }
}

/// Every call and every command, done and refused, leaves exactly what it should.
#[tokio::test]
async fn every_action_has_its_event_and_nothing_else_has_one() {
    let mut log = Watched::start(&["--max-sessions=3"]).await;
    let mut client = log.client.clone();

    // Register.
    let person = log.person().await;
    let (user, number) = (&person.user.user_id, person.phone_number.as_str());
    let registered = Row::done("register").of(&person).on_the_device();
    log.leaves("Register", &[registered]).await;
    let taken = client.register(registration(number, OTHER_PASSWORD)).await;
    assert_refused(taken, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    log.leaves(
        "a taken number",
        &[Row::refused("register", "PHONE_NUMBER_TAKEN")],
    )
    .await;
    client.register(registration(number, "short")).await.unwrap_err();
    log.leaves("what is malformed", &[]).await;

    // Authenticate.
    let wrong = v1::AuthenticateRequest {
        client: Some(device()),
        ..credentials(number, OTHER_PASSWORD)
    };
    let wrong = client.authenticate(wrong).await;
    assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
    let refused = Row::refused("sign_in", "INVALID_CREDENTIALS");
    log.leaves("a wrong password", &[refused.clone().to(user).on_the_device()])
        .await;
    let unknown = log.number();
    let unknown = client.authenticate(credentials(&unknown, PASSWORD)).await;
    assert_refused(unknown, Code::Unauthenticated, "INVALID_CREDENTIALS");
    log.leaves("an unknown number", std::slice::from_ref(&refused))
        .await;
    let second = log.sign_in(&person, PASSWORD, false).await;
    let third = log.sign_in(&person, PASSWORD, false).await;
    let signed_in = |person: &Person| Row::done("sign_in").of(person).on_the_device();
    let both = [signed_in(&second).ended(0), signed_in(&third).ended(0)];
    let mut expected = both.to_vec();
    let mut found: Vec<Row> = Vec::new();
    for (id, row) in all(&log.server).await {
        if log.seen.insert(id) {
            found.push(row);
        }
    }
    // Both were in one millisecond of the clock.
    expected.sort_by(|a, b| a.session_id.cmp(&b.session_id));
    found.sort_by(|a, b| a.session_id.cmp(&b.session_id));
    assert_eq!(found, expected, "two sign-ins");
    log.server.clock.advance(Duration::from_secs(1));
    let fourth = log.sign_in(&person, PASSWORD, false).await;
    log.leaves("one session too many", &[signed_in(&fourth).ended(1)])
        .await;

    // Calls that only read, and calls without a known user.
    client.validate_session(validation(&fourth.token)).await.unwrap();
    client
        .list_sessions(fourth.asks(v1::ListSessionsRequest {}))
        .await
        .unwrap();
    let unknown = client.list_sessions(with_bearer("pid_0", v1::ListSessionsRequest {}));
    assert_refused(unknown.await, Code::Unauthenticated, "SESSION_INVALID");
    let unknown = client.delete_profile(with_bearer(&person.token, deletion(Some(PASSWORD))));
    assert_refused(unknown.await, Code::Unauthenticated, "SESSION_INVALID");
    log.leaves("reads, and unknown callers", &[]).await;

    // RevokeSession, under a request id.
    for expected in [
        vec![Row::done("revoke_session").of(&third).on_the_device()],
        vec![],
    ] {
        let mut request = Request::new(v1::RevokeSessionRequest {
            session_token: third.token.clone(),
        });
        request
            .metadata_mut()
            .insert("x-request-id", "order-17".parse().unwrap());
        client.revoke_session(request).await.unwrap();
        log.leaves("RevokeSession", &expected).await;
    }
    assert_eq!(
        log.server
            .database
            .count("audit_events WHERE request_id = 'order-17'")
            .await,
        1
    );
    // RevokeSessions.
    for expected in [
        vec![Row::done("revoke_sessions").of(&fourth).ended(1).on_the_device()],
        vec![],
    ] {
        client.revoke_sessions(fourth.asks(all_others())).await.unwrap();
        log.leaves("RevokeSessions", &expected).await;
    }

    // UpdateProfile.
    let other = log.person().await;
    let registered = Row::done("register").of(&other).on_the_device();
    log.leaves("Register", &[registered]).await;
    let mut change = update(Some(OTHER_PASSWORD));
    change.locale = Some("uz".to_owned());
    let wrong = client.update_profile(fourth.asks(change.clone())).await;
    assert_refused(wrong, Code::PermissionDenied, "CURRENT_PASSWORD_WRONG");
    let refused_update = |reason| Row::refused("update_profile", reason).of(&fourth).on_the_device();
    let wrong = refused_update("CURRENT_PASSWORD_WRONG").fields("locale");
    log.leaves("a wrong current password", &[wrong]).await;
    change.current_password = Some(PASSWORD.to_owned());
    change.new_phone_number = Some(other.phone_number.clone());
    let taken = client.update_profile(fourth.asks(change.clone())).await;
    assert_refused(taken, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    let taken = refused_update("PHONE_NUMBER_TAKEN").fields("phone_number,locale");
    log.leaves("a taken number", &[taken]).await;
    let fifth = log.sign_in(&person, PASSWORD, false).await;
    log.leaves("Authenticate", &[signed_in(&fifth).ended(0)]).await;
    change.new_phone_number = Some(log.number());
    change.new_password = Some(OTHER_PASSWORD.to_owned());
    let changed = Row::done("update_profile").of(&fourth).on_the_device();
    client.update_profile(fourth.asks(change.clone())).await.unwrap();
    let all_three = changed.fields("phone_number,password,locale").ended(1);
    log.leaves("all that can change", &[all_three]).await;
    let person = Person {
        phone_number: change.new_phone_number.clone().unwrap(),
        ..fourth
    };
    change.current_password = Some(OTHER_PASSWORD.to_owned());
    change.new_password = None;
    client.update_profile(person.asks(change)).await.unwrap();
    log.leaves("what is so already", &[]).await;

    // Rights.
    let new = log.number();
    let refused_right = client.create_superuser(person.asks(superuser(&new))).await;
    assert_refused(refused_right, Code::PermissionDenied, "NOT_SUPERUSER");
    let no_right = Row::refused("create_superuser", "NOT_SUPERUSER");
    let no_right = no_right.by(user).session(&person.session.session_id);
    log.leaves("no right", &[no_right.on_the_device()]).await;
    let made = Row::done("create_superuser");
    let make_superuser = "UPDATE users SET is_superuser = TRUE WHERE id = ?";
    log.server.database.execute(make_superuser, &person).await;
    let last = client.deactivate_profile(person.asks(deactivation(Some(OTHER_PASSWORD))));
    assert_refused(last.await, Code::FailedPrecondition, "LAST_SUPERUSER");
    let last = Row::refused("deactivate_profile", "LAST_SUPERUSER").fields("status");
    log.leaves("the last superuser", &[last.of(&person).on_the_device()])
        .await;
    let last = client.delete_profile(person.asks(deletion(Some(OTHER_PASSWORD))));
    assert_refused(last.await, Code::FailedPrecondition, "LAST_SUPERUSER");
    let last = Row::refused("delete_profile", "LAST_SUPERUSER");
    log.leaves("the last superuser", &[last.of(&person).on_the_device()])
        .await;
    let created = client.create_superuser(person.asks(superuser(&new))).await;
    let created = created.unwrap().into_inner().user.unwrap();
    let by_person = made
        .clone()
        .by(user)
        .to(&created.user_id)
        .session(&person.session.session_id);
    log.leaves("CreateSuperuser", &[by_person.on_the_device()]).await;
    let taken = client.create_superuser(person.asks(superuser(&new))).await;
    assert_refused(taken, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    let taken = Row::refused("create_superuser", "PHONE_NUMBER_TAKEN");
    let taken = taken.by(user).session(&person.session.session_id);
    log.leaves("a taken number", &[taken.on_the_device()]).await;

    // DeactivateProfile, and back.
    log.server.clock.advance(Duration::from_mins(5));
    let late = client.deactivate_profile(person.asks(deactivation(None))).await;
    assert_refused(late, Code::FailedPrecondition, "REAUTHENTICATION_REQUIRED");
    let deactivated = |row: Row| row.of(&person).fields("status").on_the_device();
    let late = Row::refused("deactivate_profile", "REAUTHENTICATION_REQUIRED");
    log.leaves("too late", &[deactivated(late)]).await;
    let leaves = client.deactivate_profile(person.asks(deactivation(Some(OTHER_PASSWORD))));
    leaves.await.unwrap();
    let left = Row::done("deactivate_profile").ended(1);
    log.leaves("DeactivateProfile", &[deactivated(left)]).await;
    let number = person.phone_number.as_str();
    let wrong = client.authenticate(credentials(number, PASSWORD)).await;
    assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
    log.leaves("a wrong password", &[refused.clone().to(user)]).await;
    let right = client.authenticate(credentials(number, OTHER_PASSWORD)).await;
    assert_refused(right, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
    let right = Row::refused("sign_in", "ACCOUNT_DEACTIVATED").by(user).to(user);
    log.leaves("a deactivated account", &[right]).await;
    let back = log.sign_in(&person, OTHER_PASSWORD, true).await;
    let returned = signed_in(&back).fields("status").ended(0);
    log.leaves("and back", &[returned]).await;

    // DeleteProfile, after the user lost the flag: the log names superusers permanently.
    let demote = "UPDATE users SET is_superuser = FALSE WHERE id = ?";
    log.server.database.execute(demote, &person).await;
    let wrong = client.delete_profile(back.asks(deletion(Some(PASSWORD)))).await;
    assert_refused(wrong, Code::PermissionDenied, "CURRENT_PASSWORD_WRONG");
    let wrong = Row::refused("delete_profile", "CURRENT_PASSWORD_WRONG").of(&back);
    log.leaves("a wrong current password", &[wrong.on_the_device()])
        .await;
    let deleted = client.delete_profile(back.asks(deletion(Some(OTHER_PASSWORD))));
    deleted.await.unwrap();
    let event = all(&log.server).await.into_iter().next_back().unwrap().1;
    let substitute = event.subject_id.unwrap();
    assert_ne!(substitute, *user);
    let by_user = Row {
        has_request_id: false,
        ..Row::done("delete_profile").by(&substitute).to(&substitute)
    };
    log.leaves("DeleteProfile", &[by_user]).await;

    commands_leave_events(&mut log).await;
    // No column contains passwords, tokens or numbers.
    let dump = log.server.database.dump().await;
    let events: Vec<&str> = dump
        .lines()
        .filter(|line| line.starts_with("audit_events."))
        .collect();
    assert!(events.len() > 100);
    for secret in &log.secrets {
        assert!(
            !events.iter().any(|line| line.contains(secret.as_str())),
            "{secret}"
        );
    }
}

/// The commands of the operator, beside the server.
async fn commands_leave_events(log: &mut Watched) {
    let number = log.number();
    let create = ["createsuperuser", "--phone-number", &number, "--password-stdin"];
    let cheap = [
        "--argon2-memory-kib=64",
        "--argon2-iterations=1",
        "--database-acquire-timeout=10s",
    ];
    let run = async |log: &Watched, arguments: &[&str], is_done: bool| {
        let (arguments, input) = ([arguments, &cheap].concat(), format!("{PASSWORD}\n"));
        let output = log.server.place.run(&arguments, &input).await;
        assert_eq!(output.status.success(), is_done, "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let made = run(log, &create, true).await;
    let user = made.split(' ').nth(1).unwrap();
    let expected = Row::done("create_superuser").by_operator().to(user);
    log.leaves("createsuperuser", &[expected]).await;
    run(log, &create, false).await;
    let expected = Row::refused("create_superuser", "PHONE_NUMBER_TAKEN").by_operator();
    log.leaves("a taken number", &[expected]).await;
    run(log, &["changepassword", &number, "--password-stdin"], true).await;
    let expected = Row::done("change_password").by_operator().to(user);
    log.leaves("changepassword", &[expected.fields("password").ended(0)])
        .await;
    let unknown = log.number();
    run(log, &["changepassword", &unknown, "--password-stdin"], false).await;
    run(log, &["migrate"], true).await;
    run(log, &["phone-check", &number], true).await;
    run(log, &["audit"], true).await;
    log.leaves("what changes nothing", &[]).await;
    run(log, &["after-restore"], true).await;
    log.leaves("after-restore", &[Row::done("after_restore").by_operator()])
        .await;
    let create = ["service-key", "create", "orders", "--allow", "validate"];
    log.secrets
        .push(run(log, &create, true).await.trim_end().to_owned());
    let of_orders = |action| Row {
        service: Some("orders".to_owned()),
        ..Row::done(action).by_operator()
    };
    log.leaves("service-key create", &[of_orders("create_service_key")])
        .await;
    let list = run(log, &["service-key", "list"], true).await;
    log.leaves("service-key list", &[]).await;
    let id = list.lines().nth(1).unwrap().split(' ').next().unwrap();
    run(log, &["service-key", "revoke", id], true).await;
    log.leaves("service-key revoke", &[of_orders("revoke_service_key")])
        .await;
    run(log, &["service-key", "revoke", id], true).await;
    log.leaves("service-key revoke again", &[]).await;
}

/// Every password attempt leaves an event. The existence of an event does not reveal whether a number has an account.
#[tokio::test]
async fn a_failure_that_cannot_be_audited_is_not_reported() {
    let server = TestServer::start_with(&["--database-acquire-timeout=1s"]).await;
    let person = server.person().await;
    let mut client = server.client().await;
    let held = server.database.hold_writes().await;
    for number in [&person.phone_number, &next_phone_number()] {
        let outcome = client.authenticate(credentials(number, OTHER_PASSWORD)).await;
        assert_refused(outcome, Code::Unavailable, "DATABASE_UNAVAILABLE");
    }
    held.release().await;
    assert_eq!(
        server
            .database
            .count("audit_events WHERE outcome = 'refused'")
            .await,
        0
    );
    let outcome = client
        .authenticate(credentials(&person.phone_number, OTHER_PASSWORD))
        .await;
    assert_refused(outcome, Code::Unauthenticated, "INVALID_CREDENTIALS");
}

/// A sign-in of a user that changes during the hash is rejected, and has exactly one event.
#[tokio::test]
async fn a_transaction_that_is_rolled_back_leaves_the_refusal_only() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let held = server.database.hold_writes().await;
    let hashed = server.hasher.completed();
    let (mut client, request) = (server.client().await, credentials(&person.phone_number, PASSWORD));
    let call = tokio::spawn(async move { client.authenticate(request).await });
    server.hashed(hashed + 1).await;
    let change = "UPDATE users SET credential_version = credential_version + 1 WHERE id = ?";
    held.execute(change, &person).await;
    held.release().await;
    assert_refused(call.await.unwrap(), Code::Unauthenticated, "INVALID_CREDENTIALS");
    let sign_ins: Vec<Row> = all(&server)
        .await
        .into_iter()
        .map(|(_, row)| row)
        .filter(|row| row.action == "sign_in")
        .collect();
    let refused = Row::refused("sign_in", "INVALID_CREDENTIALS").to(&person.user.user_id);
    assert_eq!(sign_ins, [refused]);
}
