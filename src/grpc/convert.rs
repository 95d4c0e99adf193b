//! Conversion of the domain to messages.

pub(super) mod audit;

use std::time::SystemTime;

use prost_types::Timestamp as ProtoTimestamp;

use crate::clock::Timestamp;
use crate::domain::code::Sent;
use crate::domain::session::{AuthMethod, ClientInfo, Lifetimes, Session};
use crate::domain::token::PlainToken;
use crate::domain::user::{User, UserStatus};
use crate::proto::v1;
use crate::service::admin::{ManagedUser, Unverified, Verification};

pub(super) fn user(user: &User) -> v1::User {
    v1::User {
        user_id: user.id.to_string(),
        phone_number: user.phone_number.as_str().to_owned(),
        status: user_status(user.status).into(),
        is_staff: user.is_staff,
        is_superuser: user.is_superuser,
        has_password: user.has_password,
        phone_verified_at: user.phone_verified_at.map(timestamp),
        locale: user.locale.as_ref().map(|locale| locale.as_str().to_owned()),
        created_at: Some(timestamp(user.created_at)),
        updated_at: Some(timestamp(user.updated_at)),
        last_login_at: user.last_login_at.map(timestamp),
    }
}

/// Returns the text of a device token. It is empty if there is no token.
pub(super) fn device_token(token: Option<&PlainToken>) -> String {
    token.map(|token| token.expose().to_owned()).unwrap_or_default()
}

pub(super) fn sent(sent: &Sent) -> v1::SendCodeResponse {
    v1::SendCodeResponse {
        challenge_id: sent.challenge.to_string(),
        resend_after: Some(timestamp(sent.resend_after)),
        expires_at: Some(timestamp(sent.expires_at)),
        code_length: i32::from(sent.code_length),
    }
}

pub(super) fn managed_user(managed: &ManagedUser) -> v1::ManagedUser {
    v1::ManagedUser {
        user: Some(user(&managed.user)),
        etag: managed.etag.to_string(),
        deactivated_by_admin: managed.deactivated_by_admin,
    }
}

pub(super) fn verifications(verifications: &[Verification]) -> v1::VerifyPhoneResponse {
    let mut response = v1::VerifyPhoneResponse::default();
    for verification in verifications {
        match &verification.outcome {
            Ok(verified) => response.users.push(managed_user(verified)),
            Err(refused) => response.refusals.push(v1::VerifyPhoneRefusal {
                user_id: verification.user.to_string(),
                reason: unverified(*refused).into(),
            }),
        }
    }
    response
}

fn unverified(refused: Unverified) -> v1::ErrorReason {
    match refused {
        Unverified::UserNotFound => v1::ErrorReason::UserNotFound,
        Unverified::EtagMismatch => v1::ErrorReason::EtagMismatch,
    }
}

pub(super) fn user_status(status: UserStatus) -> v1::UserStatus {
    match status {
        UserStatus::Active => v1::UserStatus::Active,
        UserStatus::Deactivated => v1::UserStatus::Deactivated,
    }
}

/// `last_seen_at` is the time of the last use of the session. It may be later than in `session`.
pub(super) fn session(session: &Session, last_seen_at: Timestamp, lifetimes: &Lifetimes) -> v1::Session {
    let idle_expires_at = session.idle_expires_at_if_seen(last_seen_at, lifetimes);
    let auth_methods = session
        .auth_methods
        .iter()
        .map(|method| auth_method(*method).into());
    v1::Session {
        session_id: session.id.to_string(),
        user_id: session.user_id.to_string(),
        created_at: Some(timestamp(session.created_at)),
        last_seen_at: Some(timestamp(last_seen_at)),
        expires_at: Some(timestamp(session.expires_at)),
        idle_expires_at: Some(timestamp(idle_expires_at)),
        auth_methods: auth_methods.collect(),
        client: client(&session.client),
    }
}

pub(super) fn auth_method(method: AuthMethod) -> v1::AuthMethod {
    match method {
        AuthMethod::Password => v1::AuthMethod::Password,
        AuthMethod::SmsCode => v1::AuthMethod::SmsCode,
    }
}

/// Returns `None` if nothing is known of the client.
fn client(client: &ClientInfo) -> Option<v1::ClientInfo> {
    if *client == ClientInfo::default() {
        return None;
    }
    Some(v1::ClientInfo {
        ip_address: client
            .ip_address
            .map(|address| address.to_string())
            .unwrap_or_default(),
        user_agent: client.user_agent.as_deref().unwrap_or_default().to_owned(),
    })
}

pub(super) fn timestamp(time: Timestamp) -> ProtoTimestamp {
    SystemTime::from(time).into()
}
