//! Settings of the gRPC transport: limits of size, rate and time.

use std::time::Duration;

use clap::Args;

use super::values::{duration, positive_duration};
use super::{ConfigError, Settings};
use crate::grpc::ServerSettings;

/// Limits of connections and calls.
#[derive(Args, Clone, Debug)]
pub struct WireSettings {
    /// Maximum number of client connections; more are closed at once
    ///
    /// Each needs a file descriptor. Range: 1 to 1000000.
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_CONNECTIONS", value_name = "NUMBER", default_value = "10000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,

    /// Maximum number of concurrent calls and streams per connection; more wait at the client
    ///
    /// Range: 1 to 65535.
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_CONCURRENT_STREAMS", value_name = "NUMBER",
        default_value = "1024", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub max_concurrent_streams: u32,

    /// Maximum number of concurrent calls of all connections, besides 8 per connection; more are rejected
    ///
    /// Range: 0 to 1000000. 0 leaves 8 calls per connection.
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_CONCURRENT_CALLS", value_name = "NUMBER",
        default_value = "4096", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_concurrent_calls: u32,

    /// Maximum size of the metadata of a call, in bytes
    ///
    /// Range: 4096 to 1048576.
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_HEADER_BYTES", value_name = "BYTES", default_value = "16384",
        value_parser = clap::value_parser!(u32).range(4096..=1_048_576))]
    pub max_header_bytes: u32,

    /// Maximum size of a request message, in bytes
    ///
    /// Range: 8192 to 4194304.
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_MESSAGE_BYTES", value_name = "BYTES", default_value = "65536",
        value_parser = clap::value_parser!(u32).range(8192..=4_194_304))]
    pub max_message_bytes: u32,

    /// Maximum memory of received messages of all calls, in MiB; more calls are rejected
    ///
    /// The first 4 KiB of each call are not counted. Range: 8 to 1048576.
    #[arg(global = true, long, env = "PHONE_IDENTITY_RECEIVE_MEMORY_MIB", value_name = "NUMBER", default_value = "64",
        value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    pub receive_memory_mib: u32,

    /// Timeout of a new connection until it has completed TLS and begun HTTP/2
    #[arg(global = true, long, env = "PHONE_IDENTITY_HANDSHAKE_TIMEOUT", value_name = "DURATION",
        default_value = "10s", value_parser = positive_duration)]
    pub handshake_timeout: Duration,

    /// Time without data from a client after which the server sends an HTTP/2 ping
    #[arg(global = true, long, env = "PHONE_IDENTITY_KEEPALIVE_INTERVAL", value_name = "DURATION",
        default_value = "30s", value_parser = positive_duration)]
    pub keepalive_interval: Duration,

    /// Timeout of the response to an HTTP/2 ping, and of a client that does not read the response of a call
    #[arg(global = true, long, env = "PHONE_IDENTITY_KEEPALIVE_TIMEOUT", value_name = "DURATION",
        default_value = "20s", value_parser = positive_duration)]
    pub keepalive_timeout: Duration,

    /// Timeout of a connection without calls; at most --handshake-timeout while nearly all connections are in use
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_CONNECTION_IDLE", value_name = "DURATION",
        default_value = "5m", value_parser = positive_duration)]
    pub max_connection_idle: Duration,

    /// Maximum age of a connection, with a jitter of 10 percent, so that load balancers can rebalance
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_CONNECTION_AGE", value_name = "DURATION",
        default_value = "30m", value_parser = positive_duration)]
    pub max_connection_age: Duration,

    /// Timeout of calls in flight on a connection that has reached its maximum age
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_CONNECTION_AGE_GRACE", value_name = "DURATION",
        default_value = "30s", value_parser = positive_duration)]
    pub max_connection_age_grace: Duration,

    /// Maximum duration of a call, unless its caller sets a shorter deadline
    #[arg(global = true, long, env = "PHONE_IDENTITY_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "10s",
        value_parser = positive_duration)]
    pub request_timeout: Duration,

    /// How long the server accepts calls after SIGTERM, while health reports NOT_SERVING to load balancers
    #[arg(global = true, long, env = "PHONE_IDENTITY_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "5s",
        value_parser = duration)]
    pub shutdown_delay: Duration,

    /// Timeout of calls in flight after the shutdown delay
    #[arg(global = true, long, env = "PHONE_IDENTITY_SHUTDOWN_TIMEOUT", value_name = "DURATION", default_value = "15s",
        value_parser = duration)]
    pub shutdown_timeout: Duration,
}

impl Settings {
    /// Returns the limits of connections and calls.
    ///
    /// # Errors
    /// When --min-failed-sign-in-duration is not less than --request-timeout.
    pub fn limits(&self) -> Result<ServerSettings, ConfigError> {
        let wire = &self.wire;
        if self.min_failed_sign_in_duration >= wire.request_timeout {
            return Err(ConfigError::FailedSignInTime);
        }
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(ServerSettings {
            connections: size(wire.max_connections),
            concurrent_streams: wire.max_concurrent_streams,
            concurrent_calls: size(wire.max_concurrent_calls),
            header_bytes: wire.max_header_bytes,
            message_bytes: size(wire.max_message_bytes),
            receive_bytes: size(wire.receive_memory_mib).saturating_mul(1024 * 1024),
            handshake_timeout: wire.handshake_timeout,
            keepalive_interval: wire.keepalive_interval,
            keepalive_timeout: wire.keepalive_timeout,
            idle: wire.max_connection_idle,
            age: wire.max_connection_age,
            age_grace: wire.max_connection_age_grace,
            request_timeout: wire.request_timeout,
            default_language: self.default_language,
        })
    }
}
