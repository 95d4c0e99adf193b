//! Hidden users: for staff, a user that they may not see is one that does not exist.
//!
//! The fields by which a request names a user come from the descriptors, so that a new RPC without a row fails.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;
use std::time::Duration;

use phone_identity::proto::{DESCRIPTORS, v1};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::support::codes::{codes, offered, start_with_codes, wanted};
use crate::support::refusal::refusal;
use crate::support::{
    OTHER_PASSWORD, Person, TestServer, UNTHROTTLED, credentials, next_phone_number, registration,
};

/// What a field holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    User,
    Number,
    Session,
    Challenge,
}

/// Every field of a request by which a caller can name a user, as `Method.path`, and what it holds.
fn naming_fields() -> BTreeSet<(String, String)> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let ours: Vec<_> = files
        .iter()
        .filter(|file| file.package().starts_with("phone_identity."))
        .collect();
    let fields_of = |type_name: &str| {
        let name = type_name.rsplit('.').next().unwrap().to_owned();
        let messages = ours.iter().flat_map(|file| &file.message_type);
        messages
            .filter(|message| message.name() == name)
            .flat_map(|message| message.field.clone())
            .collect::<Vec<_>>()
    };
    let mut all = BTreeSet::new();
    for method in ours
        .iter()
        .flat_map(|file| &file.service)
        .flat_map(|service| &service.method)
    {
        let mut open = vec![(String::new(), method.input_type().to_owned())];
        while let Some((path, message)) = open.pop() {
            for field in fields_of(&message) {
                let path = format!("{path}{}", field.name());
                if field.type_name().starts_with(".phone_identity.") {
                    open.push((format!("{path}."), field.type_name().to_owned()));
                } else if ["_id", "_ids", "phone_number", "phone_number_prefix"]
                    .iter()
                    .any(|end| path.ends_with(end))
                {
                    all.insert((method.name().to_owned(), path));
                }
            }
        }
    }
    all
}

fn kind_of(field: &str) -> Kind {
    match field {
        "session_ids" => Kind::Session,
        "challenge_id" => Kind::Challenge,
        _ if field.contains("phone_number") => Kind::Number,
        _ => Kind::User,
    }
}

/// What a caller learns from an answer.
fn learnt<T: Debug>(answer: Result<Response<T>, Status>) -> String {
    match answer {
        Ok(answer) => format!("{:?}", answer.into_inner()),
        Err(status) => format!("{:?}", refusal(&status)),
    }
}

/// Calls an RPC as staff with this value in this field.
async fn ask(server: &TestServer, staff: &Person, rpc: &str, field: &str, value: &str) -> String {
    let value = value.to_owned();
    let (mut client, mut admin, mut verification) =
        (server.client().await, server.admin().await, codes(server).await);
    match (rpc, field) {
        ("Register", "phone_number") => learnt(client.register(registration(&value, OTHER_PASSWORD)).await),
        ("Authenticate", "phone_number") => {
            learnt(client.authenticate(credentials(&value, OTHER_PASSWORD)).await)
        }
        ("RevokeSessions", "session_ids") => {
            let request = v1::RevokeSessionsRequest {
                session_ids: vec![value],
                ..v1::RevokeSessionsRequest::default()
            };
            learnt(client.revoke_sessions(staff.asks(request)).await)
        }
        ("UpdateProfile", "new_phone_number") => {
            let request = v1::UpdateProfileRequest {
                new_phone_number: Some(value),
                ..v1::UpdateProfileRequest::default()
            };
            learnt(client.update_profile(staff.asks(request)).await)
        }
        ("CreateSuperuser", "phone_number") => {
            let request = v1::CreateSuperuserRequest {
                phone_number: value,
                password: OTHER_PASSWORD.to_owned(),
                ..v1::CreateSuperuserRequest::default()
            };
            learnt(client.create_superuser(staff.asks(request)).await)
        }
        ("ListUsers", "phone_number_prefix") => {
            let request = v1::ListUsersRequest {
                phone_number_prefix: value,
                ..v1::ListUsersRequest::default()
            };
            learnt(admin.list_users(staff.asks(request)).await)
        }
        ("GetUser", "user_id") => {
            let request = v1::GetUserRequest {
                user_id: value,
                ..v1::GetUserRequest::default()
            };
            learnt(admin.get_user(staff.asks(request)).await)
        }
        ("GetUser", "phone_number") => {
            let request = v1::GetUserRequest {
                phone_number: value,
                ..v1::GetUserRequest::default()
            };
            learnt(admin.get_user(staff.asks(request)).await)
        }
        ("CreateUser", "phone_number") => {
            let request = v1::CreateUserRequest {
                phone_number: value,
                ..v1::CreateUserRequest::default()
            };
            learnt(admin.create_user(staff.asks(request)).await)
        }
        ("UpdateUser", "user_id") => {
            let request = v1::UpdateUserRequest {
                user_id: value,
                etag: "none".to_owned(),
                is_staff: Some(true),
                ..v1::UpdateUserRequest::default()
            };
            learnt(admin.update_user(staff.asks(request)).await)
        }
        ("UpdateUser", "phone_number") => {
            let request = v1::UpdateUserRequest {
                user_id: staff.user.user_id.clone(),
                etag: "none".to_owned(),
                phone_number: Some(value),
                ..v1::UpdateUserRequest::default()
            };
            learnt(admin.update_user(staff.asks(request)).await)
        }
        ("SetPassword", "user_id") => {
            let request = v1::SetPasswordRequest {
                user_id: value,
                new_password: OTHER_PASSWORD.to_owned(),
            };
            learnt(admin.set_password(staff.asks(request)).await)
        }
        ("VerifyPhone", "phones.user_id") => {
            let phones = vec![v1::PhoneToVerify {
                user_id: value.clone(),
                etag: String::new(),
            }];
            let answer = admin
                .verify_phone(staff.asks(v1::VerifyPhoneRequest { phones }))
                .await;
            // The answer repeats the id of the request.
            learnt(answer).replace(&value, "ID")
        }
        ("RevokeUserSessions", "user_id") => {
            let request = v1::RevokeUserSessionsRequest { user_id: value };
            learnt(admin.revoke_user_sessions(staff.asks(request)).await)
        }
        ("DeactivateUser", "user_id") => {
            let request = v1::DeactivateUserRequest { user_id: value };
            learnt(admin.deactivate_user(staff.asks(request)).await)
        }
        ("ReactivateUser", "user_id") => {
            let request = v1::ReactivateUserRequest { user_id: value };
            learnt(admin.reactivate_user(staff.asks(request)).await)
        }
        ("DeleteUser", "user_id") => {
            let request = v1::DeleteUserRequest { user_id: value };
            learnt(admin.delete_user(staff.asks(request)).await)
        }
        ("ListAuditEvents", "subject_id") => {
            let request = v1::ListAuditEventsRequest {
                subject_id: value,
                ..v1::ListAuditEventsRequest::default()
            };
            learnt(admin.list_audit_events(staff.asks(request)).await)
        }
        ("ListAuditEvents", "actor_id") => {
            let request = v1::ListAuditEventsRequest {
                actor_id: value,
                ..v1::ListAuditEventsRequest::default()
            };
            learnt(admin.list_audit_events(staff.asks(request)).await)
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
            learnt(verification.verify_code(request).await)
        }
        _ => panic!("{rpc}.{field} has no row: what does it tell staff of users that they may not see?"),
    }
}

/// The id and the times of a challenge are those of the call.
fn sent(answer: Result<Response<v1::SendCodeResponse>, Status>) -> String {
    let without = |answer: Response<v1::SendCodeResponse>| {
        answer.map(|sent| v1::SendCodeResponse {
            challenge_id: String::new(),
            resend_after: None,
            expires_at: None,
            ..sent
        })
    };
    learnt(answer.map(without))
}

/// The ids of all events. Those of one millisecond sort by chance.
async fn event_ids(server: &TestServer) -> HashSet<Uuid> {
    let rows = server.database.rows("SELECT id FROM audit_events").await;
    rows.iter().map(|row| row.try_get("", "id").unwrap()).collect()
}

/// The events besides these, without what differs from call to call, and without those of the outbox, which come later.
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
    for (rpc, field) in fields {
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
        let missing = match (kind, rpc.as_str()) {
            // An account is made of a free number, and that a number has one, of whomever, is what these RPCs tell.
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
            let answer = ask(&server, &staff, &rpc, &field, &value).await;
            server.nothing_is_to_be_finished().await;
            let mut events = events_besides(&server, &before).await;
            // Of what is done without a session, superusers see the subject, and staff see no events.
            if matches!(
                rpc.as_str(),
                "Register" | "Authenticate" | "SendCode" | "VerifyCode"
            ) {
                events = vec![events.len().to_string()];
            }
            let outcome = (answer, events);
            match &expected {
                None => expected = Some(outcome),
                Some(expected) => assert_eq!(outcome, *expected, "{rpc}.{field}"),
            }
        }
    }
}

/// What staff try on users that they do not find is in the audit log, without a subject.
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
    // A superuser sees all users, so a missing one is a mistyped id.
    let before = event_ids(&server).await;
    let request = v1::DeactivateUserRequest {
        user_id: Uuid::new_v4().to_string(),
    };
    admin.deactivate_user(superuser.asks(request)).await.unwrap_err();
    assert!(events_besides(&server, &before).await.is_empty());
}
