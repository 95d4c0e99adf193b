//! The settings of what comes over the wire: how much, how slowly and for how long.

use std::time::Duration;

use clap::Args;

use super::values::{duration, positive_duration};
use super::{ConfigError, Settings};
use crate::grpc::ServerSettings;

/// Bounds on connections and calls.
#[derive(Args, Clone, Debug)]
pub struct WireSettings {
    /// Most connections of clients; more are closed at once. Each needs a file descriptor
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_CONNECTIONS", value_name = "NUMBER", default_value = "10000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,

    /// Most calls and streams that a connection may have at a time; more wait at the client
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_CONCURRENT_STREAMS", value_name = "NUMBER",
        default_value = "1024", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub max_concurrent_streams: u32,

    /// Most calls that all connections may have at a time together, beyond the 8 that each always may; more are refused
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_CONCURRENT_CALLS", value_name = "NUMBER",
        default_value = "4096", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_concurrent_calls: u32,

    /// Most bytes of the headers of a call
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_HEADER_BYTES", value_name = "BYTES", default_value = "16384",
        value_parser = clap::value_parser!(u32).range(4096..=1_048_576))]
    pub max_header_bytes: u32,

    /// Most bytes of a message
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_MESSAGE_BYTES", value_name = "BYTES", default_value = "65536",
        value_parser = clap::value_parser!(u32).range(8192..=4_194_304))]
    pub max_message_bytes: u32,

    /// Most memory for what is received, of all calls together, in MiB; 4 KiB of each call are not counted. More are
    /// refused
    #[arg(global = true, long, env = "PHONE_IDENTITY_RECEIVE_MEMORY_MIB", value_name = "NUMBER", default_value = "64",
        value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    pub receive_memory_mib: u32,

    /// How long a client may take to begin with HTTP/2
    #[arg(global = true, long, env = "PHONE_IDENTITY_HANDSHAKE_TIMEOUT", value_name = "DURATION",
        default_value = "10s", value_parser = positive_duration)]
    pub handshake_timeout: Duration,

    /// How often a client that says nothing is asked whether it is there
    #[arg(global = true, long, env = "PHONE_IDENTITY_KEEPALIVE_INTERVAL", value_name = "DURATION",
        default_value = "30s", value_parser = positive_duration)]
    pub keepalive_interval: Duration,

    /// How long it may take to answer that, and to read the answer of a call
    #[arg(global = true, long, env = "PHONE_IDENTITY_KEEPALIVE_TIMEOUT", value_name = "DURATION",
        default_value = "20s", value_parser = positive_duration)]
    pub keepalive_timeout: Duration,

    /// How long a connection is kept without a call; while nearly all are taken, no longer than --handshake-timeout
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_CONNECTION_IDLE", value_name = "DURATION",
        default_value = "5m", value_parser = positive_duration)]
    pub max_connection_idle: Duration,

    /// How long a connection is kept, a tenth more or less, so that load balancers can balance anew
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_CONNECTION_AGE", value_name = "DURATION",
        default_value = "30m", value_parser = positive_duration)]
    pub max_connection_age: Duration,

    /// How long calls may take to finish on a connection that is too old
    #[arg(global = true, long, env = "PHONE_IDENTITY_MAX_CONNECTION_AGE_GRACE", value_name = "DURATION",
        default_value = "30s", value_parser = positive_duration)]
    pub max_connection_age_grace: Duration,

    /// How long a call may take, if its caller does not ask for less
    #[arg(global = true, long, env = "PHONE_IDENTITY_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "10s",
        value_parser = positive_duration)]
    pub request_timeout: Duration,

    /// How long to go on accepting after SIGTERM, while health says NOT_SERVING and load balancers turn away
    #[arg(global = true, long, env = "PHONE_IDENTITY_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "5s",
        value_parser = duration)]
    pub shutdown_delay: Duration,

    /// How long calls in flight may take to finish after that
    #[arg(global = true, long, env = "PHONE_IDENTITY_SHUTDOWN_TIMEOUT", value_name = "DURATION", default_value = "15s",
        value_parser = duration)]
    pub shutdown_timeout: Duration,
}

impl Settings {
    /// The bounds on connections and calls.
    ///
    /// # Errors
    /// When failed sign-ins would be answered later than calls may take.
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
