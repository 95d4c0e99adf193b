//! The settings of what operators look at: metrics.

use std::net::SocketAddr;

use clap::Args;

/// What operators look at.
#[derive(Args, Clone, Debug)]
pub struct OperationsSettings {
    /// Address to serve /metrics, /livez and /readyz on, over HTTP/1.1 and to everybody who reaches it. Port 0 picks a free
    /// one and prints it [default: none]
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_METRICS_LISTEN",
        value_name = "ADDRESS"
    )]
    pub metrics_listen: Option<SocketAddr>,
}
