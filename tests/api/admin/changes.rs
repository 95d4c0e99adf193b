//! The effect of each RPC of administration.

mod verify_phone;

use std::time::Duration;

use phone_identity::proto::v1;
use tonic::Code;

use super::{get, update_of};
use crate::support::refusal::{assert_refused, assert_violations};
use crate::support::{
    OTHER_PASSWORD, PASSWORD, Person, TestServer, credentials, next_phone_number, validation,
};

const UNKNOWN: &str = "0199b4d0-0000-7000-8000-000000000000";

pub(super) fn id_of(person: &Person) -> String {
    person.user.user_id.clone()
}

pub(super) async fn assert_dead(server: &TestServer, token: &str) {
    let dead = server.client().await.validate_session(validation(token)).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
}

#[tokio::test]
async fn a_user_is_found_by_id_and_by_number() {
    let server = TestServer::start_with(&["--default-region=UZ"]).await;
    let (staff, person) = (server.staff().await, server.person().await);
    let mut client = server.admin().await;
    let national = format!("{} {}", &person.phone_number[4..6], &person.phone_number[6..]);
    for (user_id, phone_number, default_region) in [
        (id_of(&person), String::new(), ""),
        (String::new(), person.phone_number.clone(), ""),
        (String::new(), national.clone(), ""),
        (String::new(), national, "uz"),
    ] {
        let request = v1::GetUserRequest {
            user_id,
            phone_number,
            default_region: default_region.to_owned(),
        };
        let found = client.get_user(staff.asks(request)).await.unwrap().into_inner();
        let found = found.user.unwrap();
        assert_eq!(found.user.unwrap(), person.user);
        assert!(!found.etag.is_empty() && !found.deactivated_by_admin);
    }
    for (user_id, phone_number, violation) in [
        ("", "", ("user_id", "REQUIRED")),
        ("me", "", ("user_id", "USER_ID_INVALID")),
        ("", "+99890", ("phone_number", "PHONE_NUMBER_TOO_SHORT")),
        (UNKNOWN, "+998901234567", ("phone_number", "MUTUALLY_EXCLUSIVE")),
    ] {
        let request = v1::GetUserRequest {
            user_id: user_id.to_owned(),
            phone_number: phone_number.to_owned(),
            default_region: String::new(),
        };
        assert_violations(client.get_user(staff.asks(request)).await, &[violation]);
    }
    let missing = v1::GetUserRequest {
        phone_number: "+998712345678".to_owned(),
        ..v1::GetUserRequest::default()
    };
    let outcome = client.get_user(staff.asks(missing)).await;
    assert_refused(outcome, Code::NotFound, "USER_NOT_FOUND");
}

#[tokio::test]
async fn a_user_is_created_with_or_without_a_password() {
    let server = TestServer::start().await;
    let root = server.superuser().await;
    let mut client = server.admin().await;
    for (password, is_staff, is_superuser) in [
        (Some(PASSWORD), false, false),
        (None, false, false),
        (Some(PASSWORD), true, false),
        (Some(PASSWORD), true, true),
        (None, false, true),
    ] {
        let number = next_phone_number();
        let request = v1::CreateUserRequest {
            phone_number: number.clone(),
            password: password.map(str::to_owned),
            is_staff,
            is_superuser,
            ..v1::CreateUserRequest::default()
        };
        let created = client.create_user(root.asks(request.clone())).await.unwrap();
        let managed = created.into_inner().user.unwrap();
        let user = managed.user.clone().unwrap();
        assert_eq!(
            (
                user.phone_number.as_str(),
                user.status(),
                user.has_password,
                user.is_staff,
                user.is_superuser,
                user.last_login_at,
                user.phone_verified_at
            ),
            (
                number.as_str(),
                v1::UserStatus::Active,
                password.is_some(),
                is_staff,
                is_superuser,
                None,
                None
            )
        );
        let signed_in = server
            .client()
            .await
            .authenticate(credentials(&number, PASSWORD))
            .await;
        match password {
            Some(_) => assert_eq!(
                signed_in.unwrap().into_inner().user.unwrap().user_id,
                user.user_id
            ),
            None => assert_refused(signed_in, Code::Unauthenticated, "INVALID_CREDENTIALS"),
        }
        let taken = client.create_user(root.asks(request)).await;
        assert_refused(taken, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    }
    let bad = v1::CreateUserRequest {
        phone_number: "+18002345678".to_owned(),
        password: Some("zqvkxwj".to_owned()),
        ..v1::CreateUserRequest::default()
    };
    let violations = [
        ("phone_number", "PHONE_NUMBER_LINE_TYPE_NOT_ALLOWED"),
        ("password", "PASSWORD_TOO_SHORT"),
    ];
    assert_violations(client.create_user(root.asks(bad)).await, &violations);
    let common = v1::CreateUserRequest {
        phone_number: next_phone_number(),
        password: Some("password".to_owned()),
        ..v1::CreateUserRequest::default()
    };
    let violations = [("password", "PASSWORD_TOO_COMMON")];
    assert_violations(client.create_user(root.asks(common)).await, &violations);
    // Set and empty is a password that is too short, and not none.
    let empty = v1::CreateUserRequest {
        phone_number: next_phone_number(),
        password: Some(String::new()),
        ..v1::CreateUserRequest::default()
    };
    assert_violations(
        client.create_user(root.asks(empty)).await,
        &[("password", "REQUIRED")],
    );
}

#[tokio::test]
async fn an_update_changes_the_given_fields_and_needs_the_current_etag() {
    let server = TestServer::start().await;
    let (root, person) = (server.superuser().await, server.person().await);
    let mut client = server.admin().await;
    let before = get(&server, &root, &person).await;
    server.clock.advance(Duration::from_secs(1));
    let update = v1::UpdateUserRequest {
        is_staff: Some(true),
        ..update_of(&server, &root, &person).await
    };
    let after = client.update_user(root.asks(update.clone())).await.unwrap();
    let after = after.into_inner().user.unwrap();
    let user = after.user.clone().unwrap();
    assert!(user.is_staff && !user.is_superuser && user.status() == v1::UserStatus::Active);
    assert!(after.etag != before.etag && user.updated_at != before.user.unwrap().updated_at);
    // The session is the same, and shows it.
    let valid = server
        .client()
        .await
        .validate_session(validation(&person.token))
        .await;
    assert!(valid.unwrap().into_inner().user.unwrap().is_staff);

    // An etag of an older version does not match.
    let lost = client.update_user(root.asks(update)).await;
    assert_refused(lost, Code::Aborted, "ETAG_MISMATCH");
    // Setting the current value is no change.
    let nothing = v1::UpdateUserRequest {
        is_staff: Some(true),
        status: v1::UserStatus::Active.into(),
        etag: after.etag.clone(),
        ..v1::UpdateUserRequest {
            user_id: id_of(&person),
            ..v1::UpdateUserRequest::default()
        }
    };
    server.clock.advance(Duration::from_secs(1));
    let same = client.update_user(root.asks(nothing)).await.unwrap().into_inner();
    assert_eq!(same.user.unwrap(), after);

    let bad = v1::UpdateUserRequest {
        user_id: "x".to_owned(),
        status: 9,
        ..v1::UpdateUserRequest::default()
    };
    let violations = [
        ("user_id", "USER_ID_INVALID"),
        ("etag", "REQUIRED"),
        ("status", "ENUM_VALUE_UNKNOWN"),
    ];
    assert_violations(client.update_user(root.asks(bad)).await, &violations);
}

/// Each change by UpdateUser, by the user or by another RPC changes the etag; a sign-in and a rehash do not. The clock
/// stands still, so the time does not cause the difference.
#[tokio::test]
async fn an_etag_stands_for_all_that_can_be_changed() {
    let server = TestServer::start().await;
    let (root, person) = (server.superuser().await, server.person().await);
    let mut seen = vec![get(&server, &root, &person).await.etag];
    person.sign_in_again(&server).await;
    assert_eq!(get(&server, &root, &person).await.etag, seen[0]);
    let set = |column: &str, value: &str| format!("UPDATE users SET {column} = {value} WHERE id = ?");
    for (column, value, is_change) in [
        ("status", "'deactivated'", true),
        ("deactivated_by_admin", "TRUE", true),
        ("is_staff", "TRUE", true),
        ("is_superuser", "TRUE", true),
        ("phone_number", "'+998712345678'", true),
        ("phone_verified_at", "created_at", true),
        ("locale", "'uz'", true),
        ("credential_version", "17", true),
        ("last_login_at", "NULL", false),
        ("password_hash", "'another'", false),
        ("password_hash", "NULL", true),
    ] {
        server.database.execute(&set(column, value), &person).await;
        let etag = get(&server, &root, &person).await.etag;
        assert_eq!(!seen.contains(&etag), is_change, "{column} = {value}");
        seen.push(etag);
    }
    // The password is that of the user.
    assert_ne!(
        get(&server, &root, &server.person().await).await.etag,
        get(&server, &root, &server.person().await).await.etag
    );
}

#[tokio::test]
async fn setting_a_password_replaces_it_and_ends_all_sessions() {
    let server = TestServer::start().await;
    let (root, person) = (server.superuser().await, server.person().await);
    let other = person.sign_in_again(&server).await;
    let mut client = server.admin().await;
    let with = |new_password: &str| v1::SetPasswordRequest {
        user_id: id_of(&person),
        new_password: new_password.to_owned(),
    };
    for (password, reason) in [
        ("", "REQUIRED"),
        ("zqvkxwj", "PASSWORD_TOO_SHORT"),
        ("password", "PASSWORD_TOO_COMMON"),
        (&person.phone_number, "PASSWORD_CONTAINS_PHONE_NUMBER"),
    ] {
        let refused = client.set_password(root.asks(with(password))).await;
        assert_violations(refused, &[("new_password", reason)]);
    }
    server
        .client()
        .await
        .validate_session(validation(&person.token))
        .await
        .unwrap();
    let before = get(&server, &root, &person).await.etag;
    let changed = client
        .set_password(root.asks(with(OTHER_PASSWORD)))
        .await
        .unwrap();
    assert_ne!(changed.into_inner().user.unwrap().etag, before);
    assert_dead(&server, &person.token).await;
    assert_dead(&server, &other.token).await;
    let mut identity = server.client().await;
    let old = identity
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await;
    assert_refused(old, Code::Unauthenticated, "INVALID_CREDENTIALS");
    identity
        .authenticate(credentials(&person.phone_number, OTHER_PASSWORD))
        .await
        .unwrap();

    // A user without a password gets one.
    let number = next_phone_number();
    let request = v1::CreateUserRequest {
        phone_number: number.clone(),
        ..v1::CreateUserRequest::default()
    };
    let created = client.create_user(root.asks(request)).await.unwrap().into_inner();
    let request = v1::SetPasswordRequest {
        user_id: created.user.unwrap().user.unwrap().user_id,
        new_password: PASSWORD.to_owned(),
    };
    let changed = client
        .set_password(root.asks(request))
        .await
        .unwrap()
        .into_inner();
    assert!(changed.user.unwrap().user.unwrap().has_password);
    identity
        .authenticate(credentials(&number, PASSWORD))
        .await
        .unwrap();
}
