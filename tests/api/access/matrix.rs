//! The access matrix: the response of every RPC to every kind of caller. The RPCs come from the compiled descriptors:
//! an RPC without a row fails.

use std::collections::{BTreeSet, HashMap};

use phone_identity::proto::{DESCRIPTORS, v1};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_reflection::pb::{v1 as reflection, v1alpha as reflection_alpha};

use super::{REQUIRE_KEY, make_key};
use crate::rpcs::{RequestScene, classes};
use crate::support::any_rpc::call;
use crate::support::refusal::refusal;
use crate::support::{Person, TestServer, channel};

/// The caller of an RPC. All but the first two call through a service that has only the right of the RPC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Actor {
    /// A superuser, through a service without a key.
    NoKey,
    /// A superuser, through a service that has all rights but that of the RPC.
    NoRight,
    /// No session.
    NoBearer,
    Person,
    Staff,
    Superuser,
    /// A superuser that administration deactivated.
    Deactivated,
    /// A superuser with an expired session.
    Expired,
    /// A superuser with a revoked session.
    Revoked,
}

use Actor::{Deactivated, Expired, NoBearer, NoKey, NoRight, Revoked, Staff, Superuser};

const ACTORS: [Actor; 9] = [
    NoKey,
    NoRight,
    NoBearer,
    Actor::Person,
    Staff,
    Superuser,
    Deactivated,
    Expired,
    Revoked,
];

pub(crate) const OK: &str = "OK";
pub(crate) const UNKNOWN: &str = "SERVICE_UNKNOWN";
pub(crate) const NO_RIGHT: &str = "SERVICE_NOT_ALLOWED";
pub(crate) const INVALID: &str = "SESSION_INVALID";
pub(crate) const EXPIRED: &str = "SESSION_EXPIRED";
pub(crate) const NOT_STAFF: &str = "NOT_STAFF";
pub(crate) const NOT_SUPER: &str = "NOT_SUPERUSER";
pub(crate) const ACCOUNT: &str = "ACCOUNT_DEACTIVATED";
pub(crate) const CODE: &str = "CODE_INVALID";

pub(crate) const BEARER: [&str; 9] = [UNKNOWN, NO_RIGHT, INVALID, OK, OK, OK, INVALID, EXPIRED, INVALID];
pub(crate) const FOR_STAFF: [&str; 9] = [
    UNKNOWN, NO_RIGHT, INVALID, NOT_STAFF, OK, OK, INVALID, EXPIRED, INVALID,
];
pub(crate) const FOR_SUPERUSERS: [&str; 9] = [
    UNKNOWN, NO_RIGHT, INVALID, NOT_STAFF, NOT_SUPER, OK, INVALID, EXPIRED, INVALID,
];
const EVERY_CALLER: [&str; 9] = [OK; 9];
const EVERY_SERVICE: [&str; 9] = [UNKNOWN, OK, OK, OK, OK, OK, OK, OK, OK];

type EncodeRequest = Box<dyn Fn(&RequestScene) -> Vec<u8>>;

/// A row of the matrix.
struct Row {
    /// `package.Service/Method`.
    rpc: String,
    /// The right that the calling service needs. Empty: none.
    right: &'static str,
    answers: [&'static str; 9],
    request: EncodeRequest,
}

/// Returns the matrix: the RPCs of the contract, health checking and reflection.
fn rows() -> Vec<Row> {
    let contract = classes().iter().map(|class| Row {
        rpc: class.path(),
        right: class.right,
        answers: class.answers,
        request: Box::new(class.request),
    });
    let standard = |rpc: &str, answers, message: Vec<u8>| Row {
        rpc: rpc.to_owned(),
        right: "",
        answers,
        request: Box::new(move |_| message.clone()),
    };
    let check = HealthCheckRequest::default().encode_to_vec();
    let list = reflection::server_reflection_request::MessageRequest::ListServices(String::new());
    // Both versions of reflection have the same message.
    let list = reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(list),
    }
    .encode_to_vec();
    contract
        .chain([
            standard("grpc.health.v1.Health/Check", EVERY_CALLER, check.clone()),
            standard("grpc.health.v1.Health/Watch", EVERY_CALLER, check),
            standard(
                "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                EVERY_SERVICE,
                list.clone(),
            ),
            standard(
                "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                EVERY_SERVICE,
                list,
            ),
        ])
        .collect()
}

/// Returns every RPC of the server, by the compiled descriptors.
fn rpcs() -> BTreeSet<String> {
    let sets = [
        DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        reflection::FILE_DESCRIPTOR_SET,
        reflection_alpha::FILE_DESCRIPTOR_SET,
    ];
    let files = sets
        .into_iter()
        .flat_map(|set| FileDescriptorSet::decode(set).unwrap().file);
    files
        .flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().flat_map(move |service| {
                let name = format!("{package}.{}", service.name());
                let methods = service.method.into_iter();
                methods
                    .map(move |method| format!("{name}/{}", method.name()))
                    .collect::<Vec<_>>()
            })
        })
        .collect()
}

/// The caller and the target of a call.
struct Cell {
    actor: Option<Person>,
    target: Person,
    etag: String,
}

impl Cell {
    fn scene(&self) -> RequestScene {
        let actor = self.actor.as_ref();
        RequestScene {
            token: actor.map(|actor| actor.token.clone()).unwrap_or_default(),
            phone_number: actor.unwrap_or(&self.target).phone_number.clone(),
            user_id: self.target.user.user_id.clone(),
            etag: self.etag.clone(),
        }
    }
}

/// Returns the status code of a reason.
fn code(reason: &str) -> Code {
    match reason {
        OK => Code::Ok,
        UNKNOWN | NO_RIGHT | NOT_STAFF | NOT_SUPER => Code::PermissionDenied,
        INVALID | EXPIRED => Code::Unauthenticated,
        ACCOUNT => Code::FailedPrecondition,
        CODE => Code::InvalidArgument,
        other => panic!("no code for {other}"),
    }
}

async fn prepare(server: &TestServer, root: &Person, actor: Actor) -> Cell {
    let target = server.person().await;
    let get = v1::GetUserRequest {
        user_id: target.user.user_id.clone(),
        ..Default::default()
    };
    let found = server.admin().await.get_user(root.asks(get)).await.unwrap();
    let wanted = actor;
    let actor = match wanted {
        NoBearer => None,
        Actor::Person => Some(server.person().await),
        Staff => Some(server.staff().await),
        _ => Some(server.superuser().await),
    };
    if let Some(actor) = &actor {
        match wanted {
            Deactivated => {
                let user_id = actor.user.user_id.clone();
                let request = root.asks(v1::DeactivateUserRequest { user_id });
                server.admin().await.deactivate_user(request).await.unwrap();
            }
            Expired => {
                let expire = "UPDATE sessions SET expires_at = created_at WHERE user_id = ?";
                server.database.execute(expire, actor).await;
            }
            Revoked => {
                let session_token = actor.token.clone();
                let request = v1::RevokeSessionRequest { session_token };
                server.client().await.revoke_session(request).await.unwrap();
            }
            _ => {}
        }
    }
    Cell {
        actor,
        target,
        etag: found.into_inner().user.unwrap().etag,
    }
}

#[test]
fn every_rpc_has_a_row() {
    let rows = rows();
    let names: BTreeSet<_> = rows.iter().map(|row| row.rpc.clone()).collect();
    assert_eq!(names.len(), rows.len(), "two rows of one RPC");
    assert_eq!(names, rpcs());
}

#[tokio::test]
async fn every_rpc_responds_to_each_caller_as_the_matrix_says() {
    let server = TestServer::start().await;
    let root = server.superuser().await;
    let mut cells = Vec::new();
    let rows = rows();
    for row in &rows {
        for (actor, expected) in ACTORS.into_iter().zip(row.answers) {
            cells.push((row, actor, expected, prepare(&server, &root, actor).await));
        }
    }
    let rights: BTreeSet<_> = rows.iter().map(|row| row.right).collect();
    let mut keys = HashMap::new();
    for right in &rights {
        let others = rights.iter().filter(|other| *other != right && !other.is_empty());
        let others = others.copied().collect::<Vec<_>>().join(",");
        let own = if right.is_empty() { "validate" } else { right };
        let (_, with) = make_key(&server.place, "with", own).await;
        let (_, without) = make_key(&server.place, "without", &others).await;
        keys.insert(*right, (with, without));
    }
    // From now on, services need a key.
    let server = server.restart_with(&[REQUIRE_KEY, "--sms-providers=log"]).await;
    let channel = channel(server.address).await;
    let mut wrong = Vec::new();
    for (row, actor, expected, cell) in cells {
        let rpc = &row.rpc;
        let (with, without) = &keys[row.right];
        let key = match actor {
            NoKey => None,
            NoRight => Some(without.as_str()),
            _ => Some(with.as_str()),
        };
        let bearer = cell.actor.as_ref().map(|actor| actor.token.as_str());
        let outcome = call(&channel, rpc, (row.request)(&cell.scene()), bearer, key).await;
        let (found_code, found) = match outcome {
            Ok(_) => (Code::Ok, OK.to_owned()),
            Err(status) => (status.code(), refusal(&status).reason),
        };
        if (found_code, found.as_str()) != (code(expected), expected) {
            wrong.push(format!(
                "{rpc} by {actor:?}: {found_code:?} {found}, expected {expected}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
