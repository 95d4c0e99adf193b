//! What each RPC of administration does.

use std::time::Duration;

use phone_identity::proto::v1;
use tonic::Code;

use super::{get, update_of};
use crate::support::refusal::{assert_refused, assert_violations};
use crate::support::{
    OTHER_PASSWORD, PASSWORD, Person, TestServer, credentials, next_phone_number, registration, validation,
};

const UNKNOWN: &str = "0199b4d0-0000-7000-8000-000000000000";

fn id_of(person: &Person) -> String {
    person.user.user_id.clone()
}

async fn assert_dead(server: &TestServer, token: &str) {
    let dead = server.client().await.validate_session(validation(token)).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
}

#[tokio::test]
async fn a_person_is_found_by_id_and_by_number() {
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
    let nobody = v1::GetUserRequest {
        phone_number: "+998712345678".to_owned(),
        ..v1::GetUserRequest::default()
    };
    let outcome = client.get_user(staff.asks(nobody)).await;
    assert_refused(outcome, Code::NotFound, "USER_NOT_FOUND");
}

#[tokio::test]
async fn a_person_is_created_with_a_password_or_without() {
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
async fn an_update_changes_what_is_given_and_needs_the_etag_of_what_is() {
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

    // Whoever looked before has not seen it.
    let lost = client.update_user(root.asks(update)).await;
    assert_refused(lost, Code::Aborted, "ETAG_MISMATCH");
    // What is so already is no change.
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

/// All that UpdateUser, the person, or another RPC changes makes another etag; signing in and a rehash do not. The
/// clock stands still, so it is not the time that makes the difference.
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
    // And it is the person's own.
    assert_ne!(
        get(&server, &root, &server.person().await).await.etag,
        get(&server, &root, &server.person().await).await.etag
    );
}

#[tokio::test]
async fn a_password_that_is_set_is_the_one_and_all_sessions_end() {
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

    // Somebody without a password gets one.
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

fn phones(phones: &[(&str, &str)]) -> v1::VerifyPhoneRequest {
    v1::VerifyPhoneRequest {
        phones: phones
            .iter()
            .map(|(user_id, etag)| v1::PhoneToVerify {
                user_id: (*user_id).to_owned(),
                etag: (*etag).to_owned(),
            })
            .collect(),
    }
}

#[tokio::test]
async fn phones_of_many_are_verified_and_what_is_refused_for_one_does_not_keep_the_others() {
    let server = TestServer::start().await;
    let (staff, superuser) = (server.staff().await, server.superuser().await);
    let people = [
        server.person().await,
        server.person().await,
        server.person().await,
    ];
    let mut client = server.admin().await;
    let [first, second, third] = people.each_ref().map(id_of);
    let early = client
        .verify_phone(staff.asks(phones(&[(&second, "")])))
        .await
        .unwrap();
    let early = early.into_inner().users.remove(0).user.unwrap().phone_verified_at;
    assert!(early.is_some());
    server.clock.advance(Duration::from_secs(60));
    let etag = get(&server, &superuser, &people[0]).await.etag;
    let request = phones(&[
        (&third, "stale"),
        (UNKNOWN, ""),
        (&first, &etag),
        (&superuser.user.user_id, ""),
        (&second, ""),
        (&first, ""),
        (&staff.user.user_id, ""),
    ]);
    let answer = client
        .verify_phone(staff.asks(request))
        .await
        .unwrap()
        .into_inner();
    let verified: Vec<(String, Option<prost_types::Timestamp>)> = answer
        .users
        .iter()
        .map(|managed| managed.user.clone().unwrap())
        .map(|user| (user.user_id, user.phone_verified_at))
        .collect();
    let [(a, a_time), (b, b_time)] = verified.as_slice() else {
        panic!("{verified:?}")
    };
    assert_eq!((a, b), (&first, &second));
    // It has been verified since then, and is not verified anew.
    assert_eq!(*b_time, early);
    assert_eq!(a_time.unwrap().seconds, early.unwrap().seconds + 60);
    let refusals: Vec<(&str, v1::ErrorReason)> = answer
        .refusals
        .iter()
        .map(|refusal| (refusal.user_id.as_str(), refusal.reason()))
        .collect();
    assert_eq!(
        refusals,
        [
            (third.as_str(), v1::ErrorReason::EtagMismatch),
            (UNKNOWN, v1::ErrorReason::UserNotFound),
            (superuser.user.user_id.as_str(), v1::ErrorReason::UserNotFound),
            (staff.user.user_id.as_str(), v1::ErrorReason::UserNotFound),
        ]
    );
    // What was told is what is there, and the session knows.
    assert_eq!(get(&server, &superuser, &people[0]).await, answer.users[0]);
    let valid = server
        .client()
        .await
        .validate_session(validation(&people[0].token))
        .await;
    assert_eq!(
        valid.unwrap().into_inner().user.unwrap().phone_verified_at,
        *a_time
    );
    assert!(
        get(&server, &superuser, &people[2])
            .await
            .user
            .unwrap()
            .phone_verified_at
            .is_none()
    );
}

#[tokio::test]
async fn at_most_a_hundred_phones_are_verified_at_once() {
    let server = TestServer::start().await;
    let staff = server.staff().await;
    let mut client = server.admin().await;
    let many = |count| phones(&vec![(UNKNOWN, ""); count]);
    for (request, violation) in [
        (many(0), ("phones", "REQUIRED")),
        (many(101), ("phones", "TOO_MANY_ITEMS")),
        (
            phones(&[(UNKNOWN, ""), ("", "")]),
            ("phones[1].user_id", "REQUIRED"),
        ),
        (phones(&[("x", "")]), ("phones[0].user_id", "USER_ID_INVALID")),
    ] {
        assert_violations(client.verify_phone(staff.asks(request)).await, &[violation]);
    }
    let answer = client
        .verify_phone(staff.asks(many(100)))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((answer.users.len(), answer.refusals.len()), (0, 1));
}

/// The number that somebody looked at is the one that is verified, or none is.
#[tokio::test]
async fn a_number_that_was_changed_meanwhile_is_not_verified() {
    let server = TestServer::start().await;
    let (staff, person) = (server.staff().await, server.person().await);
    let etag = get(&server, &staff, &person).await.etag;
    let change = v1::UpdateProfileRequest {
        new_phone_number: Some("+998712345678".to_owned()),
        ..v1::UpdateProfileRequest::default()
    };
    server
        .client()
        .await
        .update_profile(person.asks(change))
        .await
        .unwrap();
    let request = phones(&[(&person.user.user_id, &etag)]);
    let answer = server.admin().await.verify_phone(staff.asks(request)).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(answer.refusals[0].reason(), v1::ErrorReason::EtagMismatch);
    let shown = get(&server, &staff, &person).await.user.unwrap();
    assert_eq!(shown.phone_verified_at, None);
}

#[tokio::test]
async fn all_sessions_of_a_person_end_and_no_others() {
    let server = TestServer::start().await;
    let (staff, person, bystander) = (server.staff().await, server.person().await, server.person().await);
    let again = person.sign_in_again(&server).await;
    let mut client = server.admin().await;
    let mut identity = server.client().await;
    // So that they are in memory.
    identity.validate_session(validation(&again.token)).await.unwrap();
    for expected in [2, 0] {
        let request = v1::RevokeUserSessionsRequest {
            user_id: id_of(&person),
        };
        let revoked = client.revoke_user_sessions(staff.asks(request)).await.unwrap();
        assert_eq!(revoked.into_inner().revoked_count, expected);
    }
    assert_dead(&server, &person.token).await;
    assert_dead(&server, &again.token).await;
    identity
        .validate_session(validation(&bystander.token))
        .await
        .unwrap();
    person.sign_in_again(&server).await;
}

#[tokio::test]
async fn who_is_deactivated_by_administration_comes_back_only_by_it() {
    let server = TestServer::start().await;
    let (root, staff, person) = (
        server.superuser().await,
        server.staff().await,
        server.person().await,
    );
    let mut client = server.admin().await;
    let mut identity = server.client().await;
    let deactivate = || v1::DeactivateUserRequest {
        user_id: id_of(&person),
    };
    let gone = client.deactivate_user(staff.asks(deactivate())).await.unwrap();
    let gone = gone.into_inner().user.unwrap();
    assert_eq!(gone.user.as_ref().unwrap().status(), v1::UserStatus::Deactivated);
    assert!(gone.deactivated_by_admin);
    assert_dead(&server, &person.token).await;
    let mut back = credentials(&person.phone_number, PASSWORD);
    for reactivate in [false, true] {
        back.reactivate = reactivate;
        let refused = identity.authenticate(back.clone()).await;
        assert_refused(refused, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
    }
    // Nobody learns of it who does not know the password.
    let mut wrong = credentials(&person.phone_number, OTHER_PASSWORD);
    wrong.reactivate = true;
    let refused = identity.authenticate(wrong).await;
    assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
    let again = client.deactivate_user(staff.asks(deactivate())).await.unwrap();
    assert_eq!(again.into_inner().user.unwrap(), gone);

    let reactivate = v1::ReactivateUserRequest {
        user_id: id_of(&person),
    };
    let returned = client.reactivate_user(root.asks(reactivate)).await.unwrap();
    let returned = returned.into_inner().user.unwrap();
    assert_eq!(returned.user.as_ref().unwrap().status(), v1::UserStatus::Active);
    assert!(!returned.deactivated_by_admin);
    // The old session does not come back with them.
    assert_dead(&server, &person.token).await;
    back.reactivate = false;
    identity.authenticate(back).await.unwrap();
}

#[tokio::test]
async fn who_has_deactivated_themselves_comes_back_by_themselves_until_administration_says_no() {
    let server = TestServer::start().await;
    let (root, person) = (server.superuser().await, server.person().await);
    let mut client = server.admin().await;
    let mut identity = server.client().await;
    let leave = v1::DeactivateProfileRequest::default();
    identity
        .deactivate_profile(person.asks(leave.clone()))
        .await
        .unwrap();
    assert!(!get(&server, &root, &person).await.deactivated_by_admin);
    // A form that sends everything as it was changes nothing.
    let same = v1::UpdateUserRequest {
        status: v1::UserStatus::Deactivated.into(),
        ..update_of(&server, &root, &person).await
    };
    let same = client.update_user(root.asks(same)).await.unwrap().into_inner();
    assert!(!same.user.unwrap().deactivated_by_admin);
    let mut back = credentials(&person.phone_number, PASSWORD);
    back.reactivate = true;
    let returned = identity.authenticate(back.clone()).await.unwrap().into_inner();
    let leave = crate::support::with_bearer(&returned.session_token, leave);
    identity.deactivate_profile(leave).await.unwrap();

    let deactivate = v1::DeactivateUserRequest {
        user_id: id_of(&person),
    };
    let gone = client.deactivate_user(root.asks(deactivate)).await.unwrap();
    assert!(gone.into_inner().user.unwrap().deactivated_by_admin);
    let refused = identity.authenticate(back.clone()).await;
    assert_refused(refused, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
    // A status of UpdateUser does what the RPCs do.
    let active = v1::UpdateUserRequest {
        status: v1::UserStatus::Active.into(),
        ..update_of(&server, &root, &person).await
    };
    client.update_user(root.asks(active)).await.unwrap();
    let returned = identity.authenticate(back.clone()).await.unwrap().into_inner();
    let deactivated = v1::UpdateUserRequest {
        status: v1::UserStatus::Deactivated.into(),
        ..update_of(&server, &root, &person).await
    };
    let gone = client.update_user(root.asks(deactivated)).await.unwrap();
    assert!(gone.into_inner().user.unwrap().deactivated_by_admin);
    assert_dead(&server, &returned.session_token).await;
    let refused = identity.authenticate(back).await;
    assert_refused(refused, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
}

#[tokio::test]
async fn who_is_deleted_is_gone_and_the_number_is_free() {
    let server = TestServer::start().await;
    let (root, person) = (server.superuser().await, server.person().await);
    let mut client = server.admin().await;
    let delete = || v1::DeleteUserRequest {
        user_id: id_of(&person),
    };
    let in_the_log = "SELECT 1 FROM audit_events WHERE subject_id = ?";
    assert!(server.database.knows(in_the_log, &person).await);
    client.delete_user(root.asks(delete())).await.unwrap();
    assert!(!server.database.knows(in_the_log, &person).await);
    assert_dead(&server, &person.token).await;
    let again = client.delete_user(root.asks(delete())).await;
    assert_refused(again, Code::NotFound, "USER_NOT_FOUND");
    assert_eq!(server.database.sessions_of(&person).await, 0);
    let new = server
        .client()
        .await
        .register(registration(&person.phone_number, PASSWORD))
        .await;
    assert_ne!(
        new.unwrap().into_inner().user.unwrap().user_id,
        person.user.user_id
    );
}
