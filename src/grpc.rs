//! gRPC API: converts messages to the domain and back.
//!
//! - `server` accepts connections, with TLS, and limits what each connection and all of them can use.
//! - `middleware` has the tower layers of every call, and `authorization` the innermost one. `router` is below them.
//! - `parse` converts requests to the domain and collects every violation. Handlers call one service method each.
//!   `convert` creates responses, and `status` every error.
//! - `validate_session` serves ValidateSession with less overhead than tonic's generated code.
//! - `health` is the health protocol, `metrics` counts calls, and `refusal_log` samples log lines of refused calls.

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
mod router;
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
use tower::ServiceBuilder;

pub use authorization::{AuthorizationError, Callers};
pub use health::health_server;
pub use metrics::{CODES, Calls, Metrics};
pub use server::tls::{Tls, TlsError, TlsFiles};
pub use server::{ServerSettings, Shutdown};
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
use middleware::{access_log, deadline, error_mapping, request_id};
use phone_identity::PhoneIdentityHandlers;
use phone_identity_admin::PhoneIdentityAdminHandlers;
use phone_verification::PhoneVerificationHandlers;
use refusal_log::RefusalLog;
use router::Router;

/// Maximum size of a request of health and reflection, in bytes. Such a request consists of a name.
const MAX_NAME_MESSAGE_BYTES: usize = 4 * 1024;

/// Maximum number of connections of the health listener, which has few clients.
const HEALTH_CONNECTIONS: usize = 64;

/// The services behind the handlers, and their settings.
pub struct Services {
    /// The accounts.
    pub accounts: Accounts,
    /// Administration.
    pub admin: Admin,
    /// One-time codes. `None`: there is no SMS provider.
    pub codes: Option<Codes>,
    /// The sessions.
    pub sessions: Sessions,
    /// The rules of phone numbers and passwords.
    pub rules: Rules,
    /// The credentials of calling services.
    pub callers: Callers,
    /// The key with which the operator creates superusers. `None`: the operator cannot do so over the network.
    pub operator_key: Option<OperatorKey>,
    /// Controls who can register.
    pub registration: RegistrationMode,
    /// Counts connections and calls.
    pub metrics: Arc<Metrics>,
    /// Samples traces. `None`: no call is traced.
    pub tracer: Option<Tracer>,
    /// Source of the time.
    pub clock: Arc<dyn Clock>,
}

/// The listeners of the server.
pub struct Listeners {
    /// The listener of all services.
    pub calls: TcpListener,
    /// TLS of `calls`. `None`: its connections are not encrypted.
    pub tls: Option<Tls>,
    /// A listener of health only, without TLS. `None`: health has no listener of its own.
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

/// The name of service `PhoneIdentity`, also in health checks.
pub const PHONE_IDENTITY: &str = <PhoneIdentityServer<PhoneIdentityHandlers> as NamedService>::NAME;

/// The name of service `PhoneIdentityAdmin`, also in health checks.
pub const PHONE_IDENTITY_ADMIN: &str =
    <PhoneIdentityAdminServer<PhoneIdentityAdminHandlers> as NamedService>::NAME;

/// The name of service `PhoneVerification`, also in health checks.
pub const PHONE_VERIFICATION: &str =
    <PhoneVerificationServer<PhoneVerificationHandlers> as NamedService>::NAME;

/// Serves all services on `listeners` until `shutdown` is triggered and the calls in flight have finished.
///
/// # Errors
/// When the compiled-in descriptors cannot be read or reflected, or have an RPC that belongs to no right.
pub async fn serve(
    services: Services,
    health: HealthServer<impl Health>,
    limits: ServerSettings,
    listeners: Listeners,
    shutdown: Shutdown,
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
    let validate_session = validate_session::service(handlers.clone(), limits.message_bytes);
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
            // With these descriptors grpcurl can show the details of errors.
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
        // grpcurl and Python's grpcio-reflection still use this version.
        .add_service(
            reflection()
                .build_v1alpha()?
                .max_decoding_message_size(MAX_NAME_MESSAGE_BYTES),
        );
    let refusals = RefusalLog::new(clock);
    let _summaries = AbortOnDropHandle::new(tokio::spawn(refusals.clone().run()));
    let router = Router {
        validate_session,
        routes: routes.prepare(),
    };
    let service = ServiceBuilder::new()
        .layer(request_id::layer(operator_key))
        .layer(access_log::layer(metrics.clone(), tracer, refusals.clone()))
        .layer(error_mapping::layer(limits.message_bytes))
        .layer(deadline::layer(limits.request_timeout))
        .service(CallerAuthorizer::new(callers)?.protect(router));
    let Listeners {
        calls,
        tls,
        health: health_only,
    } = listeners;
    let _certificate_reload = tls
        .clone()
        .map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.reload_periodically())));
    let health_only = async {
        if let Some(listener) = health_only {
            let routes = Routes::new(health).prepare();
            let incoming = server::stream::incoming(listener, None);
            let limits = ServerSettings {
                connections: limits.connections.min(HEALTH_CONNECTIONS),
                ..limits.clone()
            };
            server::serve(incoming, routes, limits, metrics.clone(), shutdown.clone()).await;
        }
    };
    let calls = server::serve(
        server::stream::incoming(calls, tls),
        service,
        limits.clone(),
        metrics.clone(),
        shutdown.clone(),
    );
    tokio::join!(calls, health_only);
    refusals.end_windows(None);
    Ok(())
}

/// Why serving cannot start.
#[derive(Debug, Error)]
pub enum GrpcServeError {
    /// Calls cannot be authorized.
    #[error(transparent)]
    Authorization(#[from] AuthorizationError),
    /// The compiled-in contract cannot be reflected.
    #[error("the contract cannot be reflected: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}
