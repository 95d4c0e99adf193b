//! What needs a fresh sign-in of the administrator: one table of all RPCs of administration, by the compiled
//! descriptors.

use std::collections::BTreeSet;
use std::time::Duration;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::{Code, Response, Status};

use super::{get, update_of};
use crate::codes::Challenge;
use crate::support::codes::{code_of, codes, start_with_codes, wanted};
use crate::support::refusal::{assert_refused, refusal};
use crate::support::rpcs::rpcs;
use crate::support::{
    OTHER_PASSWORD, PASSWORD, Person, TestServer, credentials, next_phone_number, with_bearer,
};

/// The user that it is done to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Target {
    /// A user without flags, or a new one.
    User,
    Staff,
    Superuser,
    Oneself,
}

use Target::{Oneself, Staff, Superuser, User};

const FRESH: &[Target] = &[User, Staff, Superuser, Oneself];
const PRIVILEGED: &[Target] = &[Staff, Superuser, Oneself];
const NONE: &[Target] = &[];

/// RPC, what of its request matters, the targets that it is called for, and the targets that need a fresh sign-in.
type Row = (&'static str, &'static str, &'static [Target], &'static [Target]);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("PhoneIdentity/CreateSuperuser", "", &[User], &[User]),
    ("PhoneIdentityAdmin/ListUsers", "", &[User], NONE),
    ("PhoneIdentityAdmin/GetUser", "", FRESH, NONE),
    ("PhoneIdentityAdmin/CreateUser", "", &[User], NONE),
    ("PhoneIdentityAdmin/CreateUser", "password", &[User], NONE),
    ("PhoneIdentityAdmin/CreateUser", "is_staff", &[User], &[User]),
    ("PhoneIdentityAdmin/CreateUser", "is_superuser", &[User], &[User]),
    ("PhoneIdentityAdmin/UpdateUser", "status", FRESH, PRIVILEGED),
    ("PhoneIdentityAdmin/UpdateUser", "phone_number", FRESH, FRESH),
    ("PhoneIdentityAdmin/UpdateUser", "is_staff", FRESH, FRESH),
    ("PhoneIdentityAdmin/UpdateUser", "is_superuser", FRESH, FRESH),
    ("PhoneIdentityAdmin/UpdateUser", "status, and flags as they are", &[User], NONE),
    ("PhoneIdentityAdmin/SetPassword", "", FRESH, FRESH),
    ("PhoneIdentityAdmin/VerifyPhone", "", FRESH, NONE),
    ("PhoneIdentityAdmin/RevokeUserSessions", "", FRESH, PRIVILEGED),
    ("PhoneIdentityAdmin/DeactivateUser", "", FRESH, PRIVILEGED),
    ("PhoneIdentityAdmin/ReactivateUser", "", FRESH, PRIVILEGED),
    ("PhoneIdentityAdmin/DeleteUser", "", FRESH, FRESH),
    ("PhoneIdentityAdmin/ListAuditEvents", "", &[User], NONE),
];

#[test]
fn every_rpc_of_administration_has_a_row() {
    let rows: BTreeSet<String> = TABLE.iter().map(|(rpc, ..)| (*rpc).to_owned()).collect();
    let mut expected = rpcs();
    // What the others change belongs to the bearer, and is proved there.
    expected.retain(|rpc| rpc.starts_with("PhoneIdentityAdmin/") || rpc == "PhoneIdentity/CreateSuperuser");
    assert_eq!(rows, expected);
}

/// One call of the table.
struct Cell {
    row: Row,
    target: Target,
    actor: Person,
    user: Person,
    etag: String,
}

impl Cell {
    async fn new(server: &TestServer, root: &Person, row: Row, target: Target) -> Self {
        let actor = server.superuser().await;
        let user = match target {
            User => server.person().await,
            Staff => server.staff().await,
            Superuser => server.superuser().await,
            Oneself => actor.clone(),
        };
        let etag = get(server, root, &user).await.etag;
        Self {
            row,
            target,
            actor,
            user,
            etag,
        }
    }

    fn update(&self) -> v1::UpdateUserRequest {
        let is_superuser = matches!(self.target, Superuser | Oneself);
        let mut request = v1::UpdateUserRequest {
            user_id: self.user.user.user_id.clone(),
            etag: self.etag.clone(),
            ..v1::UpdateUserRequest::default()
        };
        match self.row.1 {
            "phone_number" => request.phone_number = Some(next_phone_number()),
            "is_staff" => request.is_staff = Some(self.target == User),
            "is_superuser" => request.is_superuser = Some(!is_superuser),
            what => {
                request.status = v1::UserStatus::Deactivated.into();
                if what != "status" {
                    (request.is_staff, request.is_superuser) = (Some(false), Some(false));
                }
            }
        }
        request
    }

    async fn call(&self, server: &TestServer) -> String {
        let (token, user_id) = (self.actor.token.as_str(), self.user.user.user_id.clone());
        let mut client = server.admin().await;
        let (rpc, what, ..) = self.row;
        let phone_number = next_phone_number();
        match rpc.split_once('/').unwrap().1 {
            "CreateSuperuser" => {
                let request = v1::CreateSuperuserRequest {
                    phone_number,
                    password: OTHER_PASSWORD.to_owned(),
                    ..v1::CreateSuperuserRequest::default()
                };
                let mut client = server.client().await;
                outcome(client.create_superuser(with_bearer(token, request)).await)
            }
            "ListUsers" => outcome(
                client
                    .list_users(with_bearer(token, v1::ListUsersRequest::default()))
                    .await,
            ),
            "GetUser" => {
                let request = v1::GetUserRequest {
                    user_id,
                    ..v1::GetUserRequest::default()
                };
                outcome(client.get_user(with_bearer(token, request)).await)
            }
            "CreateUser" => {
                let request = v1::CreateUserRequest {
                    phone_number,
                    password: (what == "password").then(|| OTHER_PASSWORD.to_owned()),
                    is_staff: what == "is_staff",
                    is_superuser: what == "is_superuser",
                    ..v1::CreateUserRequest::default()
                };
                outcome(client.create_user(with_bearer(token, request)).await)
            }
            "UpdateUser" => outcome(client.update_user(with_bearer(token, self.update())).await),
            "SetPassword" => {
                let new_password = OTHER_PASSWORD.to_owned();
                let request = v1::SetPasswordRequest {
                    user_id,
                    new_password,
                };
                outcome(client.set_password(with_bearer(token, request)).await)
            }
            "VerifyPhone" => {
                let etag = String::new();
                let phones = vec![v1::PhoneToVerify { user_id, etag }];
                let request = v1::VerifyPhoneRequest { phones };
                outcome(client.verify_phone(with_bearer(token, request)).await)
            }
            "RevokeUserSessions" => {
                let request = v1::RevokeUserSessionsRequest { user_id };
                outcome(client.revoke_user_sessions(with_bearer(token, request)).await)
            }
            "DeactivateUser" => {
                let request = v1::DeactivateUserRequest { user_id };
                outcome(client.deactivate_user(with_bearer(token, request)).await)
            }
            "ReactivateUser" => {
                let request = v1::ReactivateUserRequest { user_id };
                outcome(client.reactivate_user(with_bearer(token, request)).await)
            }
            "DeleteUser" => {
                let request = v1::DeleteUserRequest { user_id };
                outcome(client.delete_user(with_bearer(token, request)).await)
            }
            "ListAuditEvents" => {
                let request = with_bearer(token, v1::ListAuditEventsRequest::default());
                outcome(client.list_audit_events(request).await)
            }
            other => panic!("no request for {other}"),
        }
    }
}

fn outcome<T>(answer: Result<Response<T>, Status>) -> String {
    match answer {
        Ok(_) => "OK".to_owned(),
        Err(status) => refusal(&status).reason,
    }
}

/// What is stored of users and sessions but for the time of use, which checks move, in an order of its own; and how
/// many users have each flag.
async fn stored(server: &TestServer) -> (Vec<String>, i64, i64) {
    let database = &server.database;
    let dump = database.dump().await;
    let lines = dump
        .lines()
        .filter(|line| line.starts_with("users.") || line.starts_with("sessions."))
        .filter(|line| !line.starts_with("sessions.last_seen_at"));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort_unstable();
    (
        lines,
        database.count("users WHERE is_staff = TRUE").await,
        database.count("users WHERE is_superuser = TRUE").await,
    )
}

#[tokio::test]
async fn lasting_power_needs_a_fresh_sign_in() {
    let server = TestServer::start().await;
    let root = server.superuser().await;
    let mut cells = Vec::new();
    for row in TABLE {
        for target in row.2 {
            cells.push(Cell::new(&server, &root, *row, *target).await);
        }
    }
    server.clock.advance(Duration::from_secs(301));
    for cell in &mut cells {
        let (rpc, what, _, fresh) = cell.row;
        let case = format!("{rpc} {what} to {:?}", cell.target);
        let needs = fresh.contains(&cell.target);
        let expected = if needs { "REAUTHENTICATION_REQUIRED" } else { "OK" };
        let before = stored(&server).await;
        let refusals = "audit_events WHERE outcome = 'refused' AND reason = 'REAUTHENTICATION_REQUIRED' AND actor_id IS NOT NULL";
        let noted = server.database.count(refusals).await;
        assert_eq!(cell.call(&server).await, expected, "{case}");
        if !needs {
            continue;
        }
        assert_eq!(stored(&server).await, before, "{case}");
        assert_eq!(server.database.count(refusals).await, noted + 1, "{case}");
        cell.actor = cell.actor.sign_in_again(&server).await;
        assert_eq!(cell.call(&server).await, "OK", "{case}, after a fresh sign-in");
    }
}

/// The thief of an earlier session gives the superuser another number, and signs in by a code to it: no fresh sign-in
/// for lasting power while the number is on hold.
#[tokio::test]
async fn a_code_to_a_number_on_hold_gives_no_lasting_power() {
    let server = start_with_codes(&["--phone-change-hold=2h"]).await;
    let (mut root, user) = (server.superuser().await, server.person().await);
    let mut client = codes(&server).await;
    let new = next_phone_number();
    let request = root.asks(wanted(CodePurpose::ChangePhone, &new));
    let id = client.send_code(request).await.unwrap().into_inner().challenge_id;
    let code = code_of(&id, CodePurpose::ChangePhone, &new, Some(&root.user.user_id));
    let request = crate::support::codes::offered(&id, CodePurpose::ChangePhone, &code);
    client.verify_code(root.asks(request)).await.unwrap();
    root.phone_number = new;
    let by_code = async |client: &mut crate::support::codes::CodesClient| {
        let challenge = Challenge::of(client, CodePurpose::SignIn, &root).await;
        let signed_in = client.verify_code(challenge.met()).await.unwrap();
        signed_in.into_inner().session_token
    };
    let create = || v1::CreateSuperuserRequest {
        phone_number: next_phone_number(),
        password: OTHER_PASSWORD.to_owned(),
        ..v1::CreateSuperuserRequest::default()
    };
    let delete = || v1::DeleteUserRequest {
        user_id: user.user.user_id.clone(),
    };
    let (mut users, mut admin) = (server.client().await, server.admin().await);
    let token = by_code(&mut client).await;
    let refused = users.create_superuser(with_bearer(&token, create())).await;
    assert_refused(refused, Code::FailedPrecondition, "REAUTHENTICATION_REQUIRED");
    let refused = admin.delete_user(with_bearer(&token, delete())).await;
    assert_refused(refused, Code::FailedPrecondition, "REAUTHENTICATION_REQUIRED");
    let mut update = update_of(&server, &root, &user).await;
    update.is_staff = Some(true);
    let refused = admin.update_user(with_bearer(&token, update)).await;
    assert_refused(refused, Code::FailedPrecondition, "REAUTHENTICATION_REQUIRED");
    // By the password, and by a code after the hold.
    let by_password = users
        .authenticate(credentials(&root.phone_number, PASSWORD))
        .await
        .unwrap();
    let by_password = by_password.into_inner().session_token;
    users
        .create_superuser(with_bearer(&by_password, create()))
        .await
        .unwrap();
    server.clock.advance(Duration::from_hours(2));
    let token = by_code(&mut client).await;
    users
        .create_superuser(with_bearer(&token, create()))
        .await
        .unwrap();
    admin.delete_user(with_bearer(&token, delete())).await.unwrap();
}
