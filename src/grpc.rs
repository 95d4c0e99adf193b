//! The gRPC side: from messages to the domain and back.
//!
//! `parse` reads messages, collecting every violation; the handlers call one service method each; `convert` builds the
//! answers; `status` makes every error; `edge` is what all calls pass; `checks` is the short way of ValidateSession;
//! `incoming` accepts connections.

mod checks;
mod convert;
mod edge;
mod incoming;
mod metadata;
mod page_token;
mod parse;
mod phone_identity;
mod phone_identity_admin;
mod status;

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic_health::pb::health_server::{Health, HealthServer};

pub use status::ERROR_DOMAIN;

use crate::domain::rules::Rules;
use crate::proto::DESCRIPTORS;
use crate::proto::v1::phone_identity_admin_server::PhoneIdentityAdminServer;
use crate::proto::v1::phone_identity_server::PhoneIdentityServer;
use crate::service::accounts::Accounts;
use crate::service::admin::Admin;
use crate::service::sessions::Sessions;
use checks::Checks;
use edge::EdgeLayer;
use phone_identity::PhoneIdentityHandlers;
use phone_identity_admin::PhoneIdentityAdminHandlers;

/// The most bytes of a request message.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The most bytes of the headers of a request: a session token, a user agent and a trace fit many times.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// How much of a request may be on its way before we ask for more: the largest message, so that none waits.
const STREAM_WINDOW_BYTES: u32 = 2 * 64 * 1024;

/// The same for all requests of a connection together. It bounds what one connection makes us hold.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// The most calls in flight on one connection. A service that has more opens a second connection.
const MAX_CONCURRENT_STREAMS: u32 = 1024;

/// How often a silent peer is asked whether it is still there, and how long it may take to say so. Else a peer that lost its
/// power would keep its connection for ever.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

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
}

/// The name of service `PhoneIdentity`, under which its health is told.
pub const PHONE_IDENTITY: &str = <PhoneIdentityServer<PhoneIdentityHandlers> as NamedService>::NAME;

/// The name of service `PhoneIdentityAdmin`, under which its health is told.
pub const PHONE_IDENTITY_ADMIN: &str =
    <PhoneIdentityAdminServer<PhoneIdentityAdminHandlers> as NamedService>::NAME;

/// Serves all services on `listener` until `shutdown` is there, and then until the calls in flight have finished.
/// `timeout` is how long a call may take if its caller does not ask for less.
///
/// # Errors
/// When the listener fails, or the compiled-in descriptors of the contract cannot be read.
pub async fn serve(
    services: Services,
    health: HealthServer<impl Health>,
    timeout: Duration,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let Services {
        accounts,
        admin,
        sessions,
        rules,
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
    let checks = Checks::new(handlers.clone());
    let phone_identity = PhoneIdentityServer::from_arc(handlers).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let phone_identity_admin =
        PhoneIdentityAdminServer::new(admin_handlers).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl can show the details of errors.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    Server::builder()
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .layer(EdgeLayer::new(timeout, checks)?)
        .add_service(phone_identity)
        .add_service(phone_identity_admin)
        .add_service(health.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(
            reflection()
                .build_v1()?
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        // Today's grpcurl and Python's grpcio-reflection still ask for this one.
        .add_service(
            reflection()
                .build_v1alpha()?
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .serve_with_incoming_shutdown(incoming::incoming(listener), shutdown)
        .await?;
    Ok(())
}

/// Why serving ended before it was told to.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The listener failed.
    #[error("the server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The compiled-in contract cannot be read.
    #[error("the contract cannot be read: {0}")]
    Descriptors(#[from] prost::DecodeError),
    /// The compiled-in contract cannot be reflected.
    #[error("the contract cannot be reflected: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}
