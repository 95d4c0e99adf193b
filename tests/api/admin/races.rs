//! Races of administration with itself and with changes by users.

use phone_identity::proto::v1;
use tonic::{Code, Response, Status};

use super::{get, update_of};
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{OTHER_PASSWORD, PASSWORD, Person, TestServer, UNTHROTTLED, credentials};

fn id_of(person: &Person) -> String {
    person.user.user_id.clone()
}

/// Two administrators have the same etag: the first update succeeds, and the second fails without any effect.
#[tokio::test]
async fn one_of_two_updates_with_the_same_etag_succeeds() {
    let server = TestServer::start().await;
    let (root, person) = (server.superuser().await, server.person().await);
    for round in 0..10 {
        let update = update_of(&server, &root, &person).await;
        let before = get(&server, &root, &person).await.user.unwrap();
        let held = server.database.hold_writes().await;
        let mut calls = tokio::task::JoinSet::new();
        for is_about_staff in [true, false] {
            let mut client = server.admin().await;
            let change = v1::UpdateUserRequest {
                is_staff: is_about_staff.then_some(!before.is_staff),
                is_superuser: (!is_about_staff).then_some(!before.is_superuser),
                ..update.clone()
            };
            let request = root.asks(change);
            calls.spawn(async move { client.update_user(request).await });
        }
        server.database.so_many_wait(2).await;
        held.release().await;
        let (won, lost): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 1), "{round}: {won:?}");
        for outcome in lost {
            assert_refused(outcome, Code::Aborted, "ETAG_MISMATCH");
        }
        let after = get(&server, &root, &person).await.user.unwrap();
        let changed = [
            after.is_staff != before.is_staff,
            after.is_superuser != before.is_superuser,
        ];
        assert_eq!(changed.iter().filter(|changed| **changed).count(), 1);
    }
}

/// Changes by users count, too.
#[tokio::test]
async fn an_update_does_not_overwrite_a_change_by_the_user() {
    let server = TestServer::start().await;
    let (root, person) = (server.superuser().await, server.person().await);
    let update = v1::UpdateUserRequest {
        is_superuser: Some(true),
        ..update_of(&server, &root, &person).await
    };
    let held = server.database.hold_writes().await;
    let mut client = server.admin().await;
    let request = root.asks(update);
    let call = tokio::spawn(async move { client.update_user(request).await });
    server.database.lock_is_awaited().await;
    held.execute(
        "UPDATE users SET phone_number = '+998712345678' WHERE id = ?",
        &person,
    )
    .await;
    held.release().await;
    assert_refused(call.await.unwrap(), Code::Aborted, "ETAG_MISMATCH");
    assert!(!get(&server, &root, &person).await.user.unwrap().is_superuser);
}

/// An administrator that loses the right while the call waits for a lock changes nothing.
#[tokio::test]
async fn a_right_that_the_administrator_lost_in_the_meantime_is_checked() {
    let server = TestServer::start().await;
    let root = server.superuser().await;
    for (statement, is_about_target, code, reason) in [
        (
            "UPDATE users SET is_staff = FALSE WHERE id = ?",
            false,
            Code::PermissionDenied,
            "NOT_STAFF",
        ),
        (
            "UPDATE users SET status = 'deactivated' WHERE id = ?",
            false,
            Code::Unauthenticated,
            "SESSION_INVALID",
        ),
        (
            "DELETE FROM sessions WHERE user_id = ?",
            false,
            Code::Unauthenticated,
            "SESSION_INVALID",
        ),
        (
            "UPDATE users SET is_superuser = TRUE WHERE id = ?",
            true,
            Code::NotFound,
            "USER_NOT_FOUND",
        ),
        (
            "DELETE FROM users WHERE id = ?",
            true,
            Code::NotFound,
            "USER_NOT_FOUND",
        ),
    ] {
        let (staff, person) = (server.staff().await, server.person().await);
        let held = server.database.hold_writes().await;
        let mut client = server.admin().await;
        let request = staff.asks(v1::DeactivateUserRequest {
            user_id: id_of(&person),
        });
        let call = tokio::spawn(async move { client.deactivate_user(request).await });
        server.database.lock_is_awaited().await;
        let user = if is_about_target { &person } else { &staff };
        held.execute(statement, user).await;
        held.release().await;
        assert_refused(call.await.unwrap(), code, reason);
        if reason != "USER_NOT_FOUND" {
            let shown = get(&server, &root, &person).await.user.unwrap();
            assert_eq!(shown.status(), v1::UserStatus::Active, "{statement}");
        }
    }
}

/// The same, for a superuser that sets a password which is being hashed.
#[tokio::test]
async fn a_former_superuser_sets_no_password() {
    let server = TestServer::start().await;
    let (root, person) = (server.superuser().await, server.person().await);
    let hash = server.database.password_hash(&person).await;
    for rpc in ["SetPassword", "CreateUser"] {
        let superuser = server.superuser().await;
        let held = server.database.hold_writes().await;
        let hashed = server.hasher.completed();
        let mut client = server.admin().await;
        let set = superuser.asks(v1::SetPasswordRequest {
            user_id: id_of(&person),
            new_password: OTHER_PASSWORD.to_owned(),
        });
        let create = superuser.asks(v1::CreateUserRequest {
            phone_number: "+998712345678".to_owned(),
            password: Some(OTHER_PASSWORD.to_owned()),
            ..v1::CreateUserRequest::default()
        });
        let call = tokio::spawn(async move {
            match rpc {
                "SetPassword" => client.set_password(set).await.map(|_| Response::new(())),
                _ => client.create_user(create).await.map(|_| Response::new(())),
            }
        });
        server.hashed(hashed + 1).await;
        held.execute("UPDATE users SET is_superuser = FALSE WHERE id = ?", &superuser)
            .await;
        held.release().await;
        assert_refused(call.await.unwrap(), Code::PermissionDenied, "NOT_SUPERUSER");
    }
    assert_eq!(server.database.password_hash(&person).await, hash);
    assert_eq!(
        server
            .database
            .count("users WHERE phone_number = '+998712345678'")
            .await,
        0
    );
    drop(root);
}

/// A sign-in that has read the account before it was deactivated does not bring it back.
#[tokio::test]
async fn a_reactivation_that_began_before_a_deactivation_fails() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    server
        .database
        .execute("UPDATE users SET status = 'deactivated' WHERE id = ?", &person)
        .await;
    let held = server.database.hold_writes().await;
    let hashed = server.hasher.completed();
    let mut client = server.client().await;
    let mut back = credentials(&person.phone_number, PASSWORD);
    back.reactivate = true;
    let call = tokio::spawn(async move { client.authenticate(back).await });
    server.hashed(hashed + 1).await;
    held.execute(
        "UPDATE users SET deactivated_by_admin = TRUE WHERE id = ?",
        &person,
    )
    .await;
    held.release().await;
    assert_refused(call.await.unwrap(), Code::Unauthenticated, "INVALID_CREDENTIALS");
    assert_eq!(server.database.count("users WHERE status = 'active'").await, 0);
}

/// A way in which one superuser removes another.
#[derive(Clone, Copy, Debug)]
enum Way {
    Delete,
    Deactivate,
    Update,
    /// Themselves, by their own profile.
    Leave,
}

async fn remove(
    server: &TestServer,
    way: Way,
    by: &Person,
    other: &Person,
) -> tokio::task::JoinHandle<Result<(), Status>> {
    let user_id = id_of(other);
    let mut client = server.admin().await;
    let mut identity = server.client().await;
    let (delete, deactivate, leave) = (
        by.asks(v1::DeleteUserRequest {
            user_id: user_id.clone(),
        }),
        by.asks(v1::DeactivateUserRequest { user_id }),
        by.asks(v1::DeleteProfileRequest::default()),
    );
    let update = by.asks(v1::UpdateUserRequest {
        is_superuser: Some(false),
        is_staff: Some(false),
        ..update_of(server, by, other).await
    });
    tokio::spawn(async move {
        match way {
            Way::Delete => client.delete_user(delete).await.map(drop),
            Way::Deactivate => client.deactivate_user(deactivate).await.map(drop),
            Way::Update => client.update_user(update).await.map(drop),
            Way::Leave => identity.delete_profile(leave).await.map(drop),
        }
    })
}

#[tokio::test]
async fn one_of_two_superusers_that_remove_each_other_at_once_stays() {
    let server = TestServer::start().await;
    for (way, other_way) in [
        (Way::Delete, Way::Delete),
        (Way::Deactivate, Way::Deactivate),
        (Way::Update, Way::Update),
        (Way::Delete, Way::Update),
        (Way::Deactivate, Way::Delete),
        (Way::Deactivate, Way::Leave),
        (Way::Leave, Way::Leave),
    ] {
        let (first, second) = (server.superuser().await, server.superuser().await);
        let held = server.database.hold_writes().await;
        let calls = [
            remove(&server, way, &first, &second).await,
            remove(&server, other_way, &second, &first).await,
        ];
        server.database.so_many_wait(2).await;
        held.release().await;
        let mut refusals = Vec::new();
        for call in calls {
            if let Err(status) = call.await.unwrap() {
                refusals.push(refusal(&status).reason);
            }
        }
        let left = server
            .database
            .count("users WHERE is_superuser AND status = 'active'")
            .await;
        // A superuser that is removed while removing itself finds that it was done already.
        assert_eq!(left, 1, "{way:?} {other_way:?} {refusals:?}");
        assert_eq!(refusals.len(), 1, "{way:?} {other_way:?} {refusals:?}");
        let reasons = ["SESSION_INVALID", "NOT_STAFF", "LAST_SUPERUSER", "USER_NOT_FOUND"];
        assert!(reasons.contains(&refusals[0].as_str()), "{refusals:?}");
        // The next two are the only ones.
        for superuser in [&first, &second] {
            let sql = "DELETE FROM users WHERE id = ?";
            if server.database.exists(superuser).await {
                server.database.execute(sql, superuser).await;
            }
        }
    }
}
