//! What every RPC answers to whom: one table. The RPCs are those of the compiled descriptors, so one without a row
//! fails.

use std::collections::{BTreeSet, HashMap};

use http::uri::PathAndQuery;
use phone_identity::proto::{DESCRIPTORS, v1};
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use prost_types::FileDescriptorSet;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_reflection::pb::{v1 as reflection, v1alpha as reflection_alpha};

use super::{REQUIRE_KEY, make_key};
use crate::support::codes::{offered, wanted};
use crate::support::refusal::refusal;
use crate::support::{
    OTHER_PASSWORD, PASSWORD, Person, TestServer, channel, credentials, next_phone_number, registration,
    validation,
};

/// Who calls. But for the first two, it is by a service that has the right which the RPC takes and no other one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Who {
    /// A superuser, by a service without a key.
    NoKey,
    /// A superuser, by a service that has all rights but this one.
    NoRight,
    /// Nobody.
    NoBearer,
    Person,
    Staff,
    Superuser,
    /// A superuser whom administration has deactivated.
    Deactivated,
    /// A superuser whose session has expired.
    Expired,
    /// A superuser whose session was revoked.
    Revoked,
}

use Who::{Deactivated, Expired, NoBearer, NoKey, NoRight, Revoked, Staff, Superuser};

const COLUMNS: [Who; 9] = [
    NoKey,
    NoRight,
    NoBearer,
    Who::Person,
    Staff,
    Superuser,
    Deactivated,
    Expired,
    Revoked,
];

const OK: &str = "OK";
const UNKNOWN: &str = "SERVICE_UNKNOWN";
const NO_RIGHT: &str = "SERVICE_NOT_ALLOWED";
const INVALID: &str = "SESSION_INVALID";
const EXPIRED: &str = "SESSION_EXPIRED";
const NOT_STAFF: &str = "NOT_STAFF";
const NOT_SUPER: &str = "NOT_SUPERUSER";
const ACCOUNT: &str = "ACCOUNT_DEACTIVATED";
const CODE: &str = "CODE_INVALID";

/// RPC, the right that it takes, and what it answers in the order of [`COLUMNS`].
type Row = (&'static str, &'static str, [&'static str; 9]);

const BEARER: [&str; 9] = [UNKNOWN, NO_RIGHT, INVALID, OK, OK, OK, INVALID, EXPIRED, INVALID];
const FOR_STAFF: [&str; 9] = [
    UNKNOWN, NO_RIGHT, INVALID, NOT_STAFF, OK, OK, INVALID, EXPIRED, INVALID,
];
const FOR_SUPERUSERS: [&str; 9] = [
    UNKNOWN, NO_RIGHT, INVALID, NOT_STAFF, NOT_SUPER, OK, INVALID, EXPIRED, INVALID,
];
const ANYBODY: [&str; 9] = [OK; 9];
const ANY_SERVICE: [&str; 9] = [UNKNOWN, OK, OK, OK, OK, OK, OK, OK, OK];

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("phone_identity.v1.PhoneIdentity/Register", "register", [UNKNOWN, NO_RIGHT, OK, OK, OK, OK, OK, OK, OK]),
    ("phone_identity.v1.PhoneIdentity/Authenticate", "authenticate",
        [UNKNOWN, NO_RIGHT, OK, OK, OK, OK, ACCOUNT, OK, OK]),
    ("phone_identity.v1.PhoneIdentity/ValidateSession", "validate", BEARER),
    ("phone_identity.v1.PhoneIdentity/RevokeSession", "revoke",
        [UNKNOWN, NO_RIGHT, INVALID, OK, OK, OK, OK, OK, OK]),
    ("phone_identity.v1.PhoneIdentity/ListSessions", "sessions", BEARER),
    ("phone_identity.v1.PhoneIdentity/RevokeSessions", "sessions", BEARER),
    ("phone_identity.v1.PhoneIdentity/UpdateProfile", "profile", BEARER),
    ("phone_identity.v1.PhoneIdentity/DeactivateProfile", "profile", BEARER),
    ("phone_identity.v1.PhoneIdentity/DeleteProfile", "profile", BEARER),
    ("phone_identity.v1.PhoneIdentity/CreateSuperuser", "superuser",
        [UNKNOWN, NO_RIGHT, INVALID, NOT_SUPER, NOT_SUPER, OK, INVALID, EXPIRED, INVALID]),
    ("phone_identity.v1.PhoneIdentityAdmin/ListUsers", "admin", FOR_STAFF),
    ("phone_identity.v1.PhoneIdentityAdmin/GetUser", "admin", FOR_STAFF),
    ("phone_identity.v1.PhoneIdentityAdmin/CreateUser", "admin", FOR_SUPERUSERS),
    ("phone_identity.v1.PhoneIdentityAdmin/UpdateUser", "admin", FOR_SUPERUSERS),
    ("phone_identity.v1.PhoneIdentityAdmin/SetPassword", "admin", FOR_SUPERUSERS),
    ("phone_identity.v1.PhoneIdentityAdmin/VerifyPhone", "admin", FOR_STAFF),
    ("phone_identity.v1.PhoneIdentityAdmin/RevokeUserSessions", "admin", FOR_STAFF),
    ("phone_identity.v1.PhoneIdentityAdmin/DeactivateUser", "admin", FOR_STAFF),
    ("phone_identity.v1.PhoneIdentityAdmin/ReactivateUser", "admin", FOR_SUPERUSERS),
    ("phone_identity.v1.PhoneIdentityAdmin/DeleteUser", "admin", FOR_SUPERUSERS),
    ("phone_identity.v1.PhoneIdentityAdmin/ListAuditEvents", "admin", FOR_SUPERUSERS),
    ("phone_identity.v1.PhoneVerification/SendCode", "codes",
        [UNKNOWN, NO_RIGHT, OK, OK, OK, OK, OK, OK, OK]),
    ("phone_identity.v1.PhoneVerification/VerifyCode", "codes",
        [UNKNOWN, NO_RIGHT, CODE, CODE, CODE, CODE, CODE, CODE, CODE]),
    ("grpc.health.v1.Health/Check", "", ANYBODY),
    ("grpc.health.v1.Health/Watch", "", ANYBODY),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "", ANY_SERVICE),
    ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "", ANY_SERVICE),
];

/// Every RPC that the server has, by the descriptors that are compiled into it.
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

/// Who calls, and who it is about.
struct Cell {
    actor: Option<Person>,
    target: Person,
    etag: String,
}

/// The message with which an RPC succeeds, if its caller may.
fn message(rpc: &str, cell: &Cell) -> Vec<u8> {
    let user_id = cell.target.user.user_id.clone();
    let token = cell.actor.as_ref().map_or("", |actor| actor.token.as_str());
    let actor = cell.actor.as_ref().unwrap_or(&cell.target);
    let password = Some(OTHER_PASSWORD.to_owned());
    let phone_number = next_phone_number();
    match rpc.rsplit_once('.').unwrap().1 {
        "PhoneIdentity/Register" => registration(&phone_number, PASSWORD).encode_to_vec(),
        "PhoneIdentity/Authenticate" => credentials(&actor.phone_number, PASSWORD).encode_to_vec(),
        "PhoneIdentity/ValidateSession" => validation(token).encode_to_vec(),
        "PhoneIdentity/RevokeSession" => v1::RevokeSessionRequest {
            session_token: token.to_owned(),
        }
        .encode_to_vec(),
        "PhoneIdentity/ListSessions" => v1::ListSessionsRequest {}.encode_to_vec(),
        "PhoneIdentity/RevokeSessions" => v1::RevokeSessionsRequest {
            all_others: true,
            ..Default::default()
        }
        .encode_to_vec(),
        "PhoneIdentity/UpdateProfile" => v1::UpdateProfileRequest {
            locale: Some("uz".to_owned()),
            ..Default::default()
        }
        .encode_to_vec(),
        "PhoneIdentity/DeactivateProfile" => v1::DeactivateProfileRequest::default().encode_to_vec(),
        "PhoneIdentity/DeleteProfile" => v1::DeleteProfileRequest::default().encode_to_vec(),
        "PhoneIdentity/CreateSuperuser" => v1::CreateSuperuserRequest {
            phone_number,
            default_region: String::new(),
            password: OTHER_PASSWORD.to_owned(),
        }
        .encode_to_vec(),
        "PhoneIdentityAdmin/ListUsers" => v1::ListUsersRequest::default().encode_to_vec(),
        "PhoneIdentityAdmin/GetUser" => v1::GetUserRequest {
            user_id,
            ..Default::default()
        }
        .encode_to_vec(),
        "PhoneIdentityAdmin/CreateUser" => v1::CreateUserRequest {
            phone_number,
            password,
            ..Default::default()
        }
        .encode_to_vec(),
        "PhoneIdentityAdmin/UpdateUser" => v1::UpdateUserRequest {
            user_id,
            etag: cell.etag.clone(),
            is_staff: Some(true),
            ..Default::default()
        }
        .encode_to_vec(),
        "PhoneIdentityAdmin/SetPassword" => v1::SetPasswordRequest {
            user_id,
            new_password: OTHER_PASSWORD.to_owned(),
        }
        .encode_to_vec(),
        "PhoneIdentityAdmin/VerifyPhone" => v1::VerifyPhoneRequest {
            phones: vec![v1::PhoneToVerify {
                user_id,
                etag: String::new(),
            }],
        }
        .encode_to_vec(),
        "PhoneIdentityAdmin/RevokeUserSessions" => v1::RevokeUserSessionsRequest { user_id }.encode_to_vec(),
        "PhoneIdentityAdmin/DeactivateUser" => v1::DeactivateUserRequest { user_id }.encode_to_vec(),
        "PhoneIdentityAdmin/ReactivateUser" => v1::ReactivateUserRequest { user_id }.encode_to_vec(),
        "PhoneIdentityAdmin/DeleteUser" => v1::DeleteUserRequest { user_id }.encode_to_vec(),
        "PhoneIdentityAdmin/ListAuditEvents" => v1::ListAuditEventsRequest::default().encode_to_vec(),
        "PhoneVerification/SendCode" => wanted(v1::CodePurpose::SignIn, &phone_number).encode_to_vec(),
        // Nobody is told a code here.
        "PhoneVerification/VerifyCode" => offered("x", v1::CodePurpose::SignIn, "123456").encode_to_vec(),
        "Health/Check" | "Health/Watch" => HealthCheckRequest::default().encode_to_vec(),
        // Of both versions: the same message.
        "ServerReflection/ServerReflectionInfo" => reflection::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(
                reflection::server_reflection_request::MessageRequest::ListServices(String::new()),
            ),
        }
        .encode_to_vec(),
        other => panic!("no message for {other}"),
    }
}

/// The code of each reason.
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

async fn prepare(server: &TestServer, root: &Person, who: Who) -> Cell {
    let target = server.person().await;
    let get = v1::GetUserRequest {
        user_id: target.user.user_id.clone(),
        ..Default::default()
    };
    let found = server.admin().await.get_user(root.asks(get)).await.unwrap();
    let actor = match who {
        NoBearer => None,
        Who::Person => Some(server.person().await),
        Staff => Some(server.staff().await),
        _ => Some(server.superuser().await),
    };
    if let Some(actor) = &actor {
        match who {
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

/// Calls an RPC of any kind with bytes, and gives its first answer.
async fn call(
    channel: &Channel,
    rpc: &str,
    message: Vec<u8>,
    bearer: Option<&str>,
    key: Option<&str>,
) -> Result<Vec<u8>, Status> {
    let mut request = Request::new(tokio_stream::once(message));
    let metadata = request.metadata_mut();
    if let Some(token) = bearer {
        metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    if let Some(key) = key {
        metadata.insert("x-service-key", key.parse().unwrap());
    }
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::try_from(format!("/{rpc}")).unwrap();
    let mut answers = client.streaming(request, path, Bytes).await?.into_inner();
    Ok(answers.message().await?.expect("no answer"))
}

struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

#[test]
fn every_rpc_has_a_row() {
    let rows: BTreeSet<_> = TABLE.iter().map(|(rpc, ..)| (*rpc).to_owned()).collect();
    assert_eq!(rows.len(), TABLE.len(), "two rows of one RPC");
    assert_eq!(rows, rpcs());
}

#[tokio::test]
async fn every_rpc_answers_everybody_as_the_table_says() {
    let server = TestServer::start().await;
    let root = server.superuser().await;
    let mut cells = Vec::new();
    for row in TABLE {
        for (who, expected) in COLUMNS.into_iter().zip(row.2) {
            cells.push((row, who, expected, prepare(&server, &root, who).await));
        }
    }
    let rights: BTreeSet<_> = TABLE.iter().map(|(_, right, _)| *right).collect();
    let mut keys = HashMap::new();
    for right in &rights {
        let others = rights.iter().filter(|other| *other != right && !other.is_empty());
        let others = others.copied().collect::<Vec<_>>().join(",");
        let own = if right.is_empty() { "validate" } else { right };
        let (_, with) = make_key(&server.place, "with", own).await;
        let (_, without) = make_key(&server.place, "without", &others).await;
        keys.insert(*right, (with, without));
    }
    // From now on services have to prove who they are.
    let server = server.restart_with(&[REQUIRE_KEY, "--sms-providers=log"]).await;
    let channel = channel(server.address).await;
    let mut wrong = Vec::new();
    for ((rpc, right, _), who, expected, cell) in cells {
        let (with, without) = &keys[right];
        let key = match who {
            NoKey => None,
            NoRight => Some(without.as_str()),
            _ => Some(with.as_str()),
        };
        let bearer = cell.actor.as_ref().map(|actor| actor.token.as_str());
        let outcome = call(&channel, rpc, message(rpc, &cell), bearer, key).await;
        let (found_code, found) = match outcome {
            Ok(_) => (Code::Ok, OK.to_owned()),
            Err(status) => (status.code(), refusal(&status).reason),
        };
        if (found_code, found.as_str()) != (code(expected), expected) {
            wrong.push(format!(
                "{rpc} by {who:?}: {found_code:?} {found}, and not {expected}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
