//! RPCs of administration that need a fresh sign-in: column `fresh` of [`classes`].

use std::time::Duration;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use prost::Message as _;
use tonic::Code;

use super::{get, update_of};
use crate::codes::Challenge;
use crate::rpcs::{RequestScene, RpcClass, classes};
use crate::support::any_rpc::call;
use crate::support::codes::{code_of, codes, start_with_codes, wanted};
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{
    OTHER_PASSWORD, PASSWORD, Person, TestServer, channel, credentials, next_phone_number, with_bearer,
};

/// The target of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// A user without flags, or a new one.
    User,
    Staff,
    Superuser,
    Oneself,
}

use Target::{Oneself, Staff, Superuser, User};

pub(crate) const ALL: &[Target] = &[User, Staff, Superuser, Oneself];
pub(crate) const PRIVILEGED: &[Target] = &[Staff, Superuser, Oneself];
pub(crate) const NONE: &[Target] = &[];

#[test]
fn every_rpc_of_administration_has_a_row() {
    for class in classes() {
        // Other RPCs change the account of the bearer, and need the current password or a fresh sign-in there.
        let is_administration =
            class.rpc.starts_with("PhoneIdentityAdmin/") || class.rpc == "PhoneIdentity/CreateSuperuser";
        assert_eq!(!class.fresh.is_empty(), is_administration, "{}", class.rpc);
    }
}

/// One call of the table.
struct Cell {
    class: &'static RpcClass,
    /// The fields of the request that matter.
    fields: &'static str,
    needs_fresh_sign_in: bool,
    target: Target,
    actor: Person,
    user: Person,
    etag: String,
}

impl Cell {
    async fn new(
        server: &TestServer,
        root: &Person,
        class: &'static RpcClass,
        (fields, needs_fresh_sign_in): (&'static str, bool),
        target: Target,
    ) -> Self {
        let actor = server.superuser().await;
        let user = match target {
            User => server.person().await,
            Staff => server.staff().await,
            Superuser => server.superuser().await,
            Oneself => actor.clone(),
        };
        let etag = get(server, root, &user).await.etag;
        Self {
            class,
            fields,
            needs_fresh_sign_in,
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
        match self.fields {
            "phone_number" => request.phone_number = Some(next_phone_number()),
            "is_staff" => request.is_staff = Some(self.target == User),
            "is_superuser" => request.is_superuser = Some(!is_superuser),
            fields => {
                request.status = v1::UserStatus::Deactivated.into();
                if fields != "status" {
                    (request.is_staff, request.is_superuser) = (Some(false), Some(false));
                }
            }
        }
        request
    }

    /// Calls the RPC, and returns the reason of the response.
    async fn call(&self, server: &TestServer) -> String {
        let scene = RequestScene {
            token: self.actor.token.clone(),
            phone_number: self.actor.phone_number.clone(),
            user_id: self.user.user.user_id.clone(),
            etag: self.etag.clone(),
        };
        let request = match self.class.rpc {
            "PhoneIdentityAdmin/CreateUser" => v1::CreateUserRequest {
                phone_number: next_phone_number(),
                password: (self.fields == "password").then(|| OTHER_PASSWORD.to_owned()),
                is_staff: self.fields == "is_staff",
                is_superuser: self.fields == "is_superuser",
                ..v1::CreateUserRequest::default()
            }
            .encode_to_vec(),
            "PhoneIdentityAdmin/UpdateUser" => self.update().encode_to_vec(),
            _ => (self.class.request)(&scene),
        };
        let channel = channel(server.address).await;
        match call(&channel, &self.class.path(), request, Some(&scene.token), None).await {
            Ok(_) => "OK".to_owned(),
            Err(status) => refusal(&status).reason,
        }
    }
}

/// Returns the stored users and sessions, sorted, and the number of users that have each flag. The time of last use is
/// left out, since session checks change it.
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
    for class in classes() {
        for (fields, targets, fresh) in class.fresh {
            for target in *targets {
                let case = (*fields, fresh.contains(target));
                cells.push(Cell::new(&server, &root, class, case, *target).await);
            }
        }
    }
    server.clock.advance(Duration::from_secs(301));
    for cell in &mut cells {
        let case = format!("{} {} to {:?}", cell.class.rpc, cell.fields, cell.target);
        let needs = cell.needs_fresh_sign_in;
        let expected = if needs { "REAUTHENTICATION_REQUIRED" } else { "OK" };
        let before = stored(&server).await;
        let refusals = "audit_events WHERE outcome = 'refused' AND reason = 'REAUTHENTICATION_REQUIRED' \
                        AND actor_id IS NOT NULL";
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

/// A thief of an older session changes the number of the superuser and signs in by a code to the new number. While the
/// number is on hold, that sign-in does not count as fresh.
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
    // A sign-in by the password counts, and so does one by a code after the hold.
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
