//! Hidden users: responses to staff do not reveal whether a user is hidden from them or does not exist.
//!
//! The descriptors list the fields that name a user, so the test covers a new RPC without a change.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;
use std::time::Duration;

use phone_identity::proto::v1;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::rpcs::{RequestField, RequestScene, classes, request_fields};
use crate::support::any_rpc::call;
use crate::support::codes::{codes, offered, start_with_codes, wanted};
use crate::support::refusal::refusal;
use crate::support::{
    OTHER_PASSWORD, Person, TestServer, UNTHROTTLED, channel, credentials, next_phone_number,
};

/// The kind of value of a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    User,
    Number,
    Session,
    Challenge,
}

/// Returns every field of a request by which a caller can name a user.
fn naming_fields() -> BTreeSet<RequestField> {
    let mut fields = request_fields();
    fields.retain(|field| {
        ["_id", "_ids", "phone_number", "phone_number_prefix"]
            .iter()
            .any(|end| field.path.ends_with(end))
    });
    fields
}

fn kind_of(field: &RequestField) -> Kind {
    match field.name() {
        "session_ids" => Kind::Session,
        "challenge_id" => Kind::Challenge,
        name if name.contains("phone_number") => Kind::Number,
        _ => Kind::User,
    }
}

/// Returns all that a response reveals.
fn revealed<T: Debug>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(status) => format!("{:?}", refusal(&status)),
    }
}

/// Calls an RPC as staff with this value in this field. The request is that of the class of the RPC. An arm is only for
/// RPCs that need another request, or with responses that differ from call to call.
async fn ask(server: &TestServer, staff: &Person, field: &RequestField, value: &str) -> String {
    let value = value.to_owned();
    let (mut client, mut admin, mut verification) =
        (server.client().await, server.admin().await, codes(server).await);
    match (field.method(), field.path.as_str()) {
        ("Authenticate", "phone_number") => revealed(
            client
                .authenticate(credentials(&value, OTHER_PASSWORD))
                .await
                .map(Response::into_inner),
        ),
        ("RevokeSessions", "session_ids") => {
            let request = v1::RevokeSessionsRequest {
                session_ids: vec![value],
                ..v1::RevokeSessionsRequest::default()
            };
            revealed(
                client
                    .revoke_sessions(staff.asks(request))
                    .await
                    .map(Response::into_inner),
            )
        }
        ("UpdateProfile", "new_phone_number") => {
            let request = v1::UpdateProfileRequest {
                new_phone_number: Some(value),
                ..v1::UpdateProfileRequest::default()
            };
            revealed(
                client
                    .update_profile(staff.asks(request))
                    .await
                    .map(Response::into_inner),
            )
        }
        ("CreateUser", "phone_number") => {
            let request = v1::CreateUserRequest {
                phone_number: value,
                ..v1::CreateUserRequest::default()
            };
            revealed(
                admin
                    .create_user(staff.asks(request))
                    .await
                    .map(Response::into_inner),
            )
        }
        ("UpdateUser", "phone_number") => {
            let request = v1::UpdateUserRequest {
                user_id: staff.user.user_id.clone(),
                etag: "none".to_owned(),
                phone_number: Some(value),
                ..v1::UpdateUserRequest::default()
            };
            revealed(
                admin
                    .update_user(staff.asks(request))
                    .await
                    .map(Response::into_inner),
            )
        }
        ("VerifyPhone", "phones.user_id") => {
            let phones = vec![v1::PhoneToVerify {
                user_id: value.clone(),
                etag: String::new(),
            }];
            let answer = admin
                .verify_phone(staff.asks(v1::VerifyPhoneRequest { phones }))
                .await;
            // The response repeats the id of the request.
            revealed(answer.map(Response::into_inner)).replace(&value, "ID")
        }
        ("SendCode", "phone_number") => {
            let request = wanted(v1::CodePurpose::SignIn, &value);
            sent(verification.send_code(request).await)
        }
        ("SendCode", "challenge_id") => {
            // Longer than --code-resend-interval, and three times less than --code-lifetime.
            server.clock.advance(Duration::from_secs(40));
            let request = v1::SendCodeRequest {
                challenge_id: value,
                ..v1::SendCodeRequest::default()
            };
            sent(verification.send_code(request).await)
        }
        ("VerifyCode", "challenge_id") => {
            let request = offered(&value, v1::CodePurpose::SignIn, "000000");
            revealed(verification.verify_code(request).await.map(Response::into_inner))
        }
        _ => {
            let class = classes().iter().find(|class| class.rpc == field.rpc).unwrap();
            // The request names no other user.
            let scene = RequestScene {
                token: staff.token.clone(),
                phone_number: staff.phone_number.clone(),
                user_id: String::new(),
                etag: "none".to_owned(),
            };
            let mut request = (class.request)(&scene);
            field.set(&mut request, &value);
            let channel = channel(server.address).await;
            revealed(call(&channel, &class.path(), request, Some(&staff.token), None).await)
        }
    }
}

/// Returns what a response of SendCode reveals. The id and the times of a challenge differ from call to call.
fn sent(answer: Result<Response<v1::SendCodeResponse>, Status>) -> String {
    let without = |answer: Response<v1::SendCodeResponse>| {
        answer.map(|sent| v1::SendCodeResponse {
            challenge_id: String::new(),
            resend_after: None,
            expires_at: None,
            ..sent
        })
    };
    revealed(answer.map(without).map(Response::into_inner))
}

/// Returns the ids of all events. The order of events of one millisecond is random.
async fn event_ids(server: &TestServer) -> HashSet<Uuid> {
    let rows = server.database.rows("SELECT id FROM audit_events").await;
    rows.iter().map(|row| row.try_get("", "id").unwrap()).collect()
}

/// Returns the other events, without the columns that differ from call to call. Events of the outbox are left out,
/// since they come later.
async fn events_besides(server: &TestServer, known: &HashSet<Uuid>) -> Vec<String> {
    let sql = "SELECT id, action, outcome, reason, actor, actor_id, subject_id, fields FROM audit_events \
               WHERE action <> 'deliver_code'";
    let rows = server.database.rows(sql).await;
    let of = |row: &sea_orm::QueryResult| {
        let text = |column| {
            row.try_get::<Option<String>>("", column)
                .unwrap()
                .unwrap_or_default()
        };
        let id = |column| {
            let id = row.try_get::<Option<Uuid>>("", column).unwrap();
            id.map(|id| id.to_string()).unwrap_or_default()
        };
        [
            text("action"),
            text("outcome"),
            text("reason"),
            text("actor"),
            id("actor_id"),
            id("subject_id"),
            text("fields"),
        ]
        .join("|")
    };
    let is_new = |row: &&sea_orm::QueryResult| !known.contains(&row.try_get("", "id").unwrap());
    rows.iter().filter(is_new).map(of).collect()
}

#[tokio::test]
async fn no_request_tells_staff_whether_a_user_is_hidden_or_does_not_exist() {
    let flags = [
        &UNTHROTTLED[..],
        &["--throttle-creation-attempts=0", "--unverified-phone-change"],
    ]
    .concat();
    let server = start_with_codes(&flags).await;
    let fields = naming_fields();
    assert!(fields.len() >= 20, "{fields:?}");
    for field in fields {
        let staff = server.staff().await;
        let (superuser, colleague) = (server.superuser().await, server.staff().await);
        let kind = kind_of(&field);
        let mut verification = codes(&server).await;
        let mut challenge = async |number: &str| {
            let sent = verification
                .send_code(wanted(v1::CodePurpose::SignIn, number))
                .await;
            sent.unwrap().into_inner().challenge_id
        };
        let value = |hidden: &Person| match kind {
            Kind::User => hidden.user.user_id.clone(),
            Kind::Session => hidden.session.session_id.clone(),
            Kind::Number | Kind::Challenge => hidden.phone_number.clone(),
        };
        let missing = match (kind, field.method()) {
            // These RPCs create an account for a free number, and reveal that a number is taken.
            (Kind::Number, "Register" | "UpdateProfile") => server.person().await.phone_number,
            (Kind::Number | Kind::Challenge, _) => next_phone_number(),
            (Kind::User | Kind::Session, _) => Uuid::new_v4().to_string(),
        };
        let mut values = vec![missing, value(&superuser), value(&colleague)];
        if kind == Kind::Challenge {
            for value in &mut values {
                *value = challenge(value).await;
            }
        }
        if kind == Kind::User {
            values.push(staff.user.user_id.clone());
        }
        let mut expected = None;
        for value in values {
            let before = event_ids(&server).await;
            let answer = ask(&server, &staff, &field, &value).await;
            server.nothing_is_to_be_finished().await;
            let mut events = events_besides(&server, &before).await;
            // Superusers see the subject of a call without a session; staff see no events.
            if matches!(
                field.method(),
                "Register" | "Authenticate" | "SendCode" | "VerifyCode"
            ) {
                events = vec![events.len().to_string()];
            }
            let outcome = (answer, events);
            match &expected {
                None => expected = Some(outcome),
                Some(expected) => assert_eq!(outcome, *expected, "{field:?}"),
            }
        }
    }
}

/// The audit log has failed attempts of staff on hidden and on missing users, without a subject.
#[tokio::test]
async fn attempts_of_staff_on_hidden_and_missing_users_are_audited_alike() {
    let server = TestServer::start().await;
    let (staff, superuser) = (server.staff().await, server.superuser().await);
    let mut admin = server.admin().await;
    for user_id in [superuser.user.user_id.clone(), Uuid::new_v4().to_string()] {
        for action in ["revoke_user_sessions", "deactivate_user", "verify_phone"] {
            let before = event_ids(&server).await;
            let user_id = user_id.clone();
            match action {
                "revoke_user_sessions" => {
                    let request = v1::RevokeUserSessionsRequest { user_id };
                    admin.revoke_user_sessions(staff.asks(request)).await.unwrap_err();
                }
                "deactivate_user" => {
                    let request = v1::DeactivateUserRequest { user_id };
                    admin.deactivate_user(staff.asks(request)).await.unwrap_err();
                }
                _ => {
                    let phone = v1::PhoneToVerify {
                        user_id,
                        etag: String::new(),
                    };
                    let request = v1::VerifyPhoneRequest {
                        phones: vec![phone.clone(), phone],
                    };
                    admin.verify_phone(staff.asks(request)).await.unwrap();
                }
            }
            let actor = &staff.user.user_id;
            let expected = format!("{action}|refused|USER_NOT_FOUND|user|{actor}||");
            assert_eq!(events_besides(&server, &before).await, [expected]);
        }
    }
    // A superuser sees all users: a missing user is a mistyped id, and has no event.
    let before = event_ids(&server).await;
    let request = v1::DeactivateUserRequest {
        user_id: Uuid::new_v4().to_string(),
    };
    admin.deactivate_user(superuser.asks(request)).await.unwrap_err();
    assert!(events_besides(&server, &before).await.is_empty());
}
