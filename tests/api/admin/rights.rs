//! The rights of administrators on users, as a table.

use phone_identity::proto::v1;
use tonic::{Code, Response, Status};

use super::{get, update_of};
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{AdminClient, OTHER_PASSWORD, Person, TestServer, next_phone_number, with_bearer};

const GET: &str = "GetUser";
const UPDATE: &str = "UpdateUser";
const SET_PASSWORD: &str = "SetPassword";
const VERIFY: &str = "VerifyPhone";
const REVOKE: &str = "RevokeUserSessions";
const DEACTIVATE: &str = "DeactivateUser";
const REACTIVATE: &str = "ReactivateUser";
const DELETE: &str = "DeleteUser";

/// The RPCs that concern a user.
const ABOUT_A_PERSON: [&str; 8] = [
    GET,
    UPDATE,
    SET_PASSWORD,
    VERIFY,
    REVOKE,
    DEACTIVATE,
    REACTIVATE,
    DELETE,
];

/// The rights of staff.
const FOR_STAFF: [&str; 4] = [GET, VERIFY, REVOKE, DEACTIVATE];

fn outcome<T>(answer: Result<Response<T>, Status>) -> String {
    match answer {
        Ok(_) => "OK".to_owned(),
        Err(status) => refusal(&status).reason,
    }
}

/// Calls an RPC that concerns a user. Returns the reason, or OK.
async fn call(client: &mut AdminClient, rpc: &str, token: &str, user_id: &str, etag: &str) -> String {
    let user_id = user_id.to_owned();
    match rpc {
        GET => {
            let request = v1::GetUserRequest {
                user_id,
                ..v1::GetUserRequest::default()
            };
            outcome(client.get_user(with_bearer(token, request)).await)
        }
        UPDATE => {
            let request = v1::UpdateUserRequest {
                user_id,
                etag: etag.to_owned(),
                is_staff: Some(true),
                ..v1::UpdateUserRequest::default()
            };
            outcome(client.update_user(with_bearer(token, request)).await)
        }
        SET_PASSWORD => {
            let request = v1::SetPasswordRequest {
                user_id,
                new_password: OTHER_PASSWORD.to_owned(),
            };
            outcome(client.set_password(with_bearer(token, request)).await)
        }
        VERIFY => {
            let phones = vec![v1::PhoneToVerify {
                user_id: user_id.clone(),
                etag: String::new(),
            }];
            let request = v1::VerifyPhoneRequest { phones };
            match client.verify_phone(with_bearer(token, request)).await {
                Ok(answer) => match answer.into_inner() {
                    v1::VerifyPhoneResponse { users, refusals } if refusals.is_empty() => {
                        assert_eq!(users.len(), 1);
                        "OK".to_owned()
                    }
                    v1::VerifyPhoneResponse { users, refusals } => {
                        assert!(users.is_empty());
                        assert_eq!(refusals[0].user_id, user_id);
                        let name = refusals[0].reason().as_str_name();
                        name.strip_prefix("ERROR_REASON_").unwrap().to_owned()
                    }
                },
                Err(status) => refusal(&status).reason,
            }
        }
        REVOKE => outcome(
            client
                .revoke_user_sessions(with_bearer(token, v1::RevokeUserSessionsRequest { user_id }))
                .await,
        ),
        DEACTIVATE => outcome(
            client
                .deactivate_user(with_bearer(token, v1::DeactivateUserRequest { user_id }))
                .await,
        ),
        REACTIVATE => outcome(
            client
                .reactivate_user(with_bearer(token, v1::ReactivateUserRequest { user_id }))
                .await,
        ),
        DELETE => outcome(
            client
                .delete_user(with_bearer(token, v1::DeleteUserRequest { user_id }))
                .await,
        ),
        _ => panic!("{rpc}"),
    }
}

/// Returns the whole database, without the time of last use, which session checks change, and without the audit log,
/// which records rejections.
async fn stored(server: &TestServer) -> String {
    let dump = server.database.dump().await;
    let lines = dump
        .lines()
        .filter(|line| !line.starts_with("sessions.last_seen_at") && !line.starts_with("audit_events."));
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn staff_do_four_things_to_users_without_flags_and_superusers_do_everything() {
    let server = TestServer::start().await;
    let mut client = server.admin().await;
    // A superuser that knows all etags, and because of which no other is the last one.
    let root = server.superuser().await;
    for rpc in ABOUT_A_PERSON {
        for actor_kind in ["person", "staff", "superuser"] {
            for target_kind in ["person", "staff", "superuser", "self", "unknown"] {
                let actor = match actor_kind {
                    "person" => server.person().await,
                    "staff" => server.staff().await,
                    _ => server.superuser().await,
                };
                let target = match target_kind {
                    "person" | "unknown" => Some(server.person().await),
                    "staff" => Some(server.staff().await),
                    "superuser" => Some(server.superuser().await),
                    _ => None,
                };
                let target = target.as_ref().unwrap_or(&actor);
                let etag = get(&server, &root, target).await.etag;
                let (id, etag) = if target_kind == "unknown" {
                    ("0199b4d0-0000-7000-8000-000000000000", "")
                } else {
                    (target.user.user_id.as_str(), etag.as_str())
                };
                let etag = if etag.is_empty() { "none" } else { etag };
                let expected = match (actor_kind, FOR_STAFF.contains(&rpc), target_kind) {
                    ("person", ..) => "NOT_STAFF",
                    ("staff", false, _) => "NOT_SUPERUSER",
                    ("staff", true, "staff" | "superuser" | "self") => "USER_NOT_FOUND",
                    (_, _, "unknown") => "USER_NOT_FOUND",
                    _ => "OK",
                };
                let before = stored(&server).await;
                let outcome = call(&mut client, rpc, &actor.token, id, etag).await;
                let case = format!("{rpc} by a {actor_kind} to a {target_kind}");
                assert_eq!(outcome, expected, "{case}");
                if expected != "OK" {
                    assert_eq!(stored(&server).await, before, "{case}");
                }
            }
        }
    }
}

/// Each bearer lacks the right, and each request is invalid in every field.
#[tokio::test]
async fn a_caller_without_the_right_learns_nothing_about_the_request() {
    let server = TestServer::start().await;
    let mut client = server.admin().await;
    let (person, staff) = (server.person().await, server.staff().await);
    for rpc in ABOUT_A_PERSON {
        let outcome = call(&mut client, rpc, &person.token, "nobody", "").await;
        assert_eq!(outcome, "NOT_STAFF", "{rpc}");
        let expected = if FOR_STAFF.contains(&rpc) {
            "INVALID_INPUT"
        } else {
            "NOT_SUPERUSER"
        };
        let outcome = call(&mut client, rpc, &staff.token, "nobody", "").await;
        assert_eq!(outcome, expected, "{rpc}");
        let outcome = call(&mut client, rpc, "no token", "nobody", "").await;
        assert_eq!(outcome, "SESSION_INVALID", "{rpc}");
    }
    let bad_list = || v1::ListUsersRequest {
        page_size: -1,
        ..v1::ListUsersRequest::default()
    };
    let list = client.list_users(person.asks(bad_list())).await;
    assert_refused(list, Code::PermissionDenied, "NOT_STAFF");
    let list = client.list_users(bad_list()).await;
    assert_refused(list, Code::Unauthenticated, "SESSION_INVALID");
    let create = client
        .create_user(person.asks(v1::CreateUserRequest::default()))
        .await;
    assert_refused(create, Code::PermissionDenied, "NOT_STAFF");
    let create = client
        .create_user(staff.asks(v1::CreateUserRequest::default()))
        .await;
    assert_refused(create, Code::PermissionDenied, "NOT_SUPERUSER");
}

/// A row that a crash or another version left behind is no way in.
#[tokio::test]
async fn a_deactivated_superuser_has_no_rights_even_with_a_session() {
    let server = TestServer::start().await;
    let (superuser, person) = (server.superuser().await, server.person().await);
    server
        .database
        .execute("UPDATE users SET status = 'deactivated' WHERE id = ?", &superuser)
        .await;
    let mut client = server.admin().await;
    for rpc in ABOUT_A_PERSON {
        let outcome = call(&mut client, rpc, &superuser.token, &person.user.user_id, "none").await;
        assert_eq!(outcome, "SESSION_INVALID", "{rpc}");
    }
}

/// The status codes, once for each reason.
#[tokio::test]
async fn each_refusal_has_its_code() {
    let server = TestServer::start().await;
    let (root, staff, person) = (
        server.superuser().await,
        server.staff().await,
        server.person().await,
    );
    let mut client = server.admin().await;
    let request = |user: &Person| v1::DeactivateUserRequest {
        user_id: user.user.user_id.clone(),
    };
    let outcome = client.deactivate_user(person.asks(request(&staff))).await;
    assert_refused(outcome, Code::PermissionDenied, "NOT_STAFF");
    let outcome = client.deactivate_user(staff.asks(request(&root))).await;
    assert_refused(outcome, Code::NotFound, "USER_NOT_FOUND");
    let gone = v1::DeactivateUserRequest {
        user_id: "0199b4d0-0000-7000-8000-000000000000".to_owned(),
    };
    let outcome = client.deactivate_user(staff.asks(gone)).await;
    assert_refused(outcome, Code::NotFound, "USER_NOT_FOUND");
    let mut update = update_of(&server, &root, &person).await;
    update.etag.push('x');
    let outcome = client.update_user(root.asks(update)).await;
    assert_refused(outcome, Code::Aborted, "ETAG_MISMATCH");
}

/// Every call that would remove the last active superuser fails, for every caller. Deactivated superusers do not count.
#[tokio::test]
async fn no_caller_removes_the_last_active_superuser() {
    let server = TestServer::start().await;
    let (root, other) = (server.superuser().await, server.superuser().await);
    let mut client = server.admin().await;
    let root_id = root.user.user_id.clone();
    let deactivated = call(&mut client, DEACTIVATE, &root.token, &other.user.user_id, "").await;
    assert_eq!(deactivated, "OK");
    for rpc in [DEACTIVATE, DELETE] {
        let outcome = call(&mut client, rpc, &root.token, &root_id, "").await;
        assert_eq!(outcome, "LAST_SUPERUSER", "{rpc}");
    }
    let update = update_of(&server, &root, &root).await;
    let no_superuser = v1::UpdateUserRequest {
        is_superuser: Some(false),
        ..update.clone()
    };
    let no_status = v1::UpdateUserRequest {
        status: v1::UserStatus::Deactivated.into(),
        ..update.clone()
    };
    for update in [no_superuser.clone(), no_status] {
        let outcome = client.update_user(root.asks(update)).await;
        assert_refused(outcome, Code::FailedPrecondition, "LAST_SUPERUSER");
    }
    // Without being staff they are the superuser all the same.
    let no_staff = v1::UpdateUserRequest {
        is_staff: Some(false),
        ..update
    };
    client.update_user(root.asks(no_staff)).await.unwrap();
    // The deactivated one can go, and be made a superuser no more.
    let other_update = v1::UpdateUserRequest {
        is_superuser: Some(false),
        ..update_of(&server, &root, &other).await
    };
    client.update_user(root.asks(other_update)).await.unwrap();
    // With another one, they may leave.
    let next = server.superuser().await;
    let last = v1::UpdateUserRequest {
        etag: get(&server, &root, &root).await.etag,
        ..no_superuser
    };
    client.update_user(root.asks(last)).await.unwrap();
    let outcome = call(&mut client, GET, &root.token, &root_id, "").await;
    assert_eq!(outcome, "NOT_STAFF");
    let outcome = call(&mut client, GET, &next.token, &root_id, "").await;
    assert_eq!(outcome, "OK");
}

/// Lists of staff contain no staff.
#[tokio::test]
async fn staff_list_only_users_without_flags() {
    let server = TestServer::start().await;
    let (root, staff, person) = (
        server.superuser().await,
        server.staff().await,
        server.person().await,
    );
    let mut client = server.admin().await;
    let everybody = v1::ListUsersRequest::default;
    let ids = |response: v1::ListUsersResponse| -> Vec<String> {
        let users = response.users.into_iter();
        users.map(|managed| managed.user.unwrap().user_id).collect()
    };
    let all = super::list(&mut client, &root, everybody()).await;
    let in_order = [&root, &staff, &person].map(|person| person.user.user_id.clone());
    assert_eq!(ids(all), in_order);
    let some = super::list(&mut client, &staff, everybody()).await;
    assert_eq!(ids(some), std::slice::from_ref(&person.user.user_id));
    for hidden in [
        v1::ListUsersRequest {
            is_staff: Some(true),
            ..everybody()
        },
        v1::ListUsersRequest {
            is_superuser: Some(true),
            ..everybody()
        },
    ] {
        let some = super::list(&mut client, &staff, hidden.clone()).await;
        assert!(some.users.is_empty() && some.next_page_token.is_empty());
        assert!(!super::list(&mut client, &root, hidden).await.users.is_empty());
    }
    // A superuser without the staff flag is hidden from staff, too.
    server
        .database
        .execute("UPDATE users SET is_staff = FALSE WHERE id = ?", &root)
        .await;
    let some = super::list(&mut client, &staff, everybody()).await;
    assert_eq!(ids(some), [person.user.user_id]);
}

/// Bearers may be what they were not when they signed in, and the other way round.
#[tokio::test]
async fn new_staff_have_rights_at_once_and_former_staff_have_none() {
    let server = TestServer::start().await;
    let (root, person, other) = (
        server.superuser().await,
        server.person().await,
        server.person().await,
    );
    let mut client = server.admin().await;
    let mut last = "NOT_STAFF";
    for (is_staff, expected) in [(true, "OK"), (false, "NOT_STAFF")] {
        let outcome = call(&mut client, GET, &person.token, &other.user.user_id, "").await;
        assert_eq!(outcome, last);
        let update = v1::UpdateUserRequest {
            is_staff: Some(is_staff),
            ..update_of(&server, &root, &person).await
        };
        client.update_user(root.asks(update)).await.unwrap();
        let outcome = call(&mut client, GET, &person.token, &other.user.user_id, "").await;
        assert_eq!(outcome, expected);
        last = expected;
    }
    let create = v1::CreateUserRequest {
        phone_number: next_phone_number(),
        ..v1::CreateUserRequest::default()
    };
    let outcome = client.create_user(person.asks(create)).await;
    assert_refused(outcome, Code::PermissionDenied, "NOT_STAFF");
}
