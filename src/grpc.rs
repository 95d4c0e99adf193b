//! The gRPC side: from messages to the domain and back.
//!
//! `connections` serves them within bounds, and `incoming` accepts them; `edge` is what all calls pass; `parse` reads
//! messages, collecting every violation; the handlers call one service method each; `convert` builds the answers; `status`
//! makes every error; `checks` is the short way of ValidateSession.

mod checks;
mod connections;
mod convert;
mod edge;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod incoming;
mod metadata;
mod metrics;
mod page_token;
mod parse;
mod phone_identity;
mod phone_identity_admin;
mod status;

use std::future::ready;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::Layer as _;

pub use connections::{Limits, Stop};
pub use metrics::{CODES, Calls, Metrics};
pub use status::ERROR_DOMAIN;

use crate::domain::rules::Rules;
use crate::proto::DESCRIPTORS;
use crate::proto::v1::phone_identity_admin_server::PhoneIdentityAdminServer;
use crate::proto::v1::phone_identity_server::PhoneIdentityServer;
use crate::service::accounts::Accounts;
use crate::service::admin::Admin;
use crate::service::sessions::Sessions;
use crate::trace::Tracer;
use checks::Checks;
use edge::EdgeLayer;
use phone_identity::PhoneIdentityHandlers;
use phone_identity_admin::PhoneIdentityAdminHandlers;

/// The most bytes of a message to health or reflection, which ask with a name.
const MAX_NAME_MESSAGE_BYTES: usize = 4 * 1024;

/// What the handlers stand on.
pub struct Services {
    /// The accounts.
    pub accounts: Accounts,
    /// Administration.
    pub admin: Admin,
    /// The sessions.
    pub sessions: Sessions,
    /// How phone numbers and passwords are read.
    pub rules: Rules,
    /// What counts connections and calls.
    pub metrics: Arc<Metrics>,
    /// What begins traces, if there are any.
    pub tracer: Option<Tracer>,
}

/// The name of service `PhoneIdentity`, under which its health is told.
pub const PHONE_IDENTITY: &str = <PhoneIdentityServer<PhoneIdentityHandlers> as NamedService>::NAME;

/// The name of service `PhoneIdentityAdmin`, under which its health is told.
pub const PHONE_IDENTITY_ADMIN: &str =
    <PhoneIdentityAdminServer<PhoneIdentityAdminHandlers> as NamedService>::NAME;

/// Serves all services on `listener` until `stop` says so, and then until the calls in flight have finished.
///
/// # Errors
/// When the compiled-in descriptors of the contract cannot be reflected.
pub async fn serve(
    services: Services,
    health: HealthServer<impl Health>,
    limits: Limits,
    listener: TcpListener,
    stop: Stop,
) -> Result<(), ServeError> {
    let Services {
        accounts,
        admin,
        sessions,
        rules,
        metrics,
        tracer,
    } = services;
    let admin_handlers = PhoneIdentityAdminHandlers {
        admin,
        accounts: accounts.clone(),
        sessions: sessions.clone(),
        rules,
    };
    let handlers = Arc::new(PhoneIdentityHandlers {
        accounts,
        sessions,
        rules,
    });
    let checks = Checks::new(handlers.clone(), limits.message_bytes);
    let phone_identity =
        PhoneIdentityServer::from_arc(handlers).max_decoding_message_size(limits.message_bytes);
    let phone_identity_admin =
        PhoneIdentityAdminServer::new(admin_handlers).max_decoding_message_size(limits.message_bytes);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl can show the details of errors.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Routes::new(phone_identity)
        .add_service(phone_identity_admin)
        .add_service(health.max_decoding_message_size(MAX_NAME_MESSAGE_BYTES))
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
    let edge = EdgeLayer::new(
        limits.request_timeout,
        limits.message_bytes,
        metrics.clone(),
        tracer,
        checks,
    );
    let incoming =
        incoming::incoming(listener).map(|accepted| accepted.map(|connection| ready(Ok(connection))));
    connections::serve(incoming, edge.layer(routes.prepare()), limits, metrics, stop).await;
    Ok(())
}

/// Why serving ended before it was told to.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The compiled-in contract cannot be reflected.
    #[error("the contract cannot be reflected: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}
