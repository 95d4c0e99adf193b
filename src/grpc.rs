//! The gRPC side: from messages to the domain and back.
//!
//! `connections` serves them within bounds, `incoming` accepts them and `tls` protects them; `edge` is what all calls
//! pass, and `gate` says who may call what; `parse` reads messages, collecting every violation; the handlers call one
//! service method each; `convert` builds the answers; `status` makes every error; `health` is the health protocol;
//! `checks` is the short way of ValidateSession; `refusal_log` samples the lines of refused calls.

mod authorization;
mod call;
mod convert;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod health;
mod metadata;
mod metrics;
mod middleware;
mod page_token;
mod parse;
mod phone_identity;
mod phone_identity_admin;
mod phone_verification;
mod refusal_log;
mod server;
mod status;
mod validate_session;

use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::Layer as _;

pub use authorization::{AuthorizationError, Callers};
pub use health::health_server;
pub use metrics::{CODES, Calls, Metrics};
pub use server::tls::{Tls, TlsError, TlsFiles};
pub use server::{ServerSettings, Stop};
pub use status::ERROR_DOMAIN;
pub(crate) use status::violation_text;

use crate::clock::Clock;
use crate::domain::access::OperatorKey;
use crate::domain::registration::RegistrationMode;
use crate::domain::rules::Rules;
use crate::proto::DESCRIPTORS;
use crate::proto::v1::phone_identity_admin_server::PhoneIdentityAdminServer;
use crate::proto::v1::phone_identity_server::PhoneIdentityServer;
use crate::proto::v1::phone_verification_server::PhoneVerificationServer;
use crate::service::accounts::Accounts;
use crate::service::admin::Admin;
use crate::service::codes::Codes;
use crate::service::sessions::Sessions;
use crate::telemetry::tracing::Tracer;
use authorization::CallerAuthorizer;
use middleware::EdgeLayer;
use phone_identity::PhoneIdentityHandlers;
use phone_identity_admin::PhoneIdentityAdminHandlers;
use phone_verification::PhoneVerificationHandlers;
use refusal_log::RefusalLog;
use validate_session::ValidateSessionService;

/// The most bytes of a message to health or reflection, which ask with a name.
const MAX_NAME_MESSAGE_BYTES: usize = 4 * 1024;

/// The most connections of the listener of health: those who ask are few.
const HEALTH_CONNECTIONS: usize = 64;

/// What the handlers stand on.
pub struct Services {
    /// The accounts.
    pub accounts: Accounts,
    /// Administration.
    pub admin: Admin,
    /// One-time codes. `None`: there is no SMS provider.
    pub codes: Option<Codes>,
    /// The sessions.
    pub sessions: Sessions,
    /// How phone numbers and passwords are read.
    pub rules: Rules,
    /// Whom calls are taken from.
    pub callers: Callers,
    /// By what the operator makes superusers. `None`: not over the network.
    pub operator_key: Option<OperatorKey>,
    /// Who can register.
    pub registration: RegistrationMode,
    /// What counts connections and calls.
    pub metrics: Arc<Metrics>,
    /// What begins traces, if there are any.
    pub tracer: Option<Tracer>,
    /// Source of the time.
    pub clock: Arc<dyn Clock>,
}

/// Where calls come in.
pub struct Listeners {
    /// Of all services.
    pub calls: TcpListener,
    /// What that one is protected with. `None`: nothing.
    pub tls: Option<Tls>,
    /// Of health only, without TLS. `None`: there is none.
    pub health: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(calls: TcpListener) -> Self {
        Self {
            calls,
            tls: None,
            health: None,
        }
    }
}

/// The name of service `PhoneIdentity`, under which its health is told.
pub const PHONE_IDENTITY: &str = <PhoneIdentityServer<PhoneIdentityHandlers> as NamedService>::NAME;

/// The name of service `PhoneIdentityAdmin`, under which its health is told.
pub const PHONE_IDENTITY_ADMIN: &str =
    <PhoneIdentityAdminServer<PhoneIdentityAdminHandlers> as NamedService>::NAME;

/// The name of service `PhoneVerification`, under which its health is told.
pub const PHONE_VERIFICATION: &str =
    <PhoneVerificationServer<PhoneVerificationHandlers> as NamedService>::NAME;

/// Serves all services on `listeners` until `stop` says so, and then until the calls in flight have finished.
///
/// # Errors
/// When the compiled-in descriptors of the contract cannot be read or reflected, or have an RPC that takes no right.
pub async fn serve(
    services: Services,
    health: HealthServer<impl Health>,
    limits: ServerSettings,
    listeners: Listeners,
    stop: Stop,
) -> Result<(), GrpcServeError> {
    let Services {
        accounts,
        admin,
        codes,
        sessions,
        rules,
        callers,
        operator_key,
        registration,
        metrics,
        tracer,
        clock,
    } = services;
    let health = health.max_decoding_message_size(MAX_NAME_MESSAGE_BYTES);
    let admin_handlers = PhoneIdentityAdminHandlers {
        admin,
        sessions: sessions.clone(),
        rules,
    };
    let verification_handlers = PhoneVerificationHandlers {
        codes: codes.clone(),
        sessions: sessions.clone(),
        rules,
    };
    let handlers = Arc::new(PhoneIdentityHandlers {
        accounts,
        sessions,
        codes,
        rules,
        operator_key: operator_key.clone(),
        registration,
    });
    let checks = ValidateSessionService::new(handlers.clone(), limits.message_bytes);
    let phone_identity =
        PhoneIdentityServer::from_arc(handlers).max_decoding_message_size(limits.message_bytes);
    let phone_identity_admin =
        PhoneIdentityAdminServer::new(admin_handlers).max_decoding_message_size(limits.message_bytes);
    let phone_verification =
        PhoneVerificationServer::new(verification_handlers).max_decoding_message_size(limits.message_bytes);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl can show the details of errors.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(phone_identity)
        .add_service(phone_identity_admin)
        .add_service(phone_verification)
        .add_service(health.clone())
        .add_service(
            reflection()
                .build_v1()?
                .max_decoding_message_size(MAX_NAME_MESSAGE_BYTES),
        )
        // Today's grpcurl and Python's grpcio-reflection still ask for this one.
        .add_service(
            reflection()
                .build_v1alpha()?
                .max_decoding_message_size(MAX_NAME_MESSAGE_BYTES),
        );
    let refusals = RefusalLog::new(clock);
    let _summaries = AbortOnDropHandle::new(tokio::spawn(refusals.clone().run()));
    let edge = EdgeLayer::new(
        limits.request_timeout,
        limits.message_bytes,
        metrics.clone(),
        tracer,
        checks,
        CallerAuthorizer::new(callers)?,
        refusals.clone(),
    )
    .with_operator_key(operator_key);
    let Listeners {
        calls,
        tls,
        health: health_only,
    } = listeners;
    let _up_to_date = tls
        .clone()
        .map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.keep_up_to_date())));
    let health_only = async {
        if let Some(listener) = health_only {
            let routes = Routes::new(health).prepare();
            let incoming = server::stream::incoming(listener, None);
            let few = ServerSettings {
                connections: limits.connections.min(HEALTH_CONNECTIONS),
                ..limits.clone()
            };
            server::serve(incoming, routes, few, metrics.clone(), stop.clone()).await;
        }
    };
    let calls = server::serve(
        server::stream::incoming(calls, tls),
        edge.layer(routes.prepare()),
        limits.clone(),
        metrics.clone(),
        stop.clone(),
    );
    tokio::join!(calls, health_only);
    refusals.end_windows(None);
    Ok(())
}

/// Why serving ended before it was told to.
#[derive(Debug, Error)]
pub enum GrpcServeError {
    /// It is not known who may call what.
    #[error(transparent)]
    Authorization(#[from] AuthorizationError),
    /// The compiled-in contract cannot be reflected.
    #[error("the contract cannot be reflected: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}
