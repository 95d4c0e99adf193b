//! The settings of what operators look at: metrics and traces.

use std::net::SocketAddr;

use clap::Args;

use super::values::listen_address;

/// What operators look at.
#[derive(Args, Clone, Debug)]
pub struct OperationsSettings {
    /// Address to serve /metrics, /livez and /readyz on, over HTTP/1.1 and to everybody who reaches it. Port 0 picks a
    /// free one and prints it
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_METRICS_LISTEN",
        value_name = "ADDRESS",
        value_parser = listen_address
    )]
    pub metrics_listen: Option<SocketAddr>,

    /// Collector that traces are sent to by OTLP over gRPC, such as http://localhost:4317
    #[arg(global = true, long, env = "PHONE_IDENTITY_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub otlp_endpoint: Option<String>,

    /// Which part of the calls is traced whose callers do not say whether they are, from 0 to 1
    #[arg(global = true, long, env = "PHONE_IDENTITY_TRACE_SAMPLING", value_name = "RATIO", default_value = "0.01",
        value_parser = ratio)]
    pub trace_sampling: f64,
}

fn endpoint(text: &str) -> Result<String, String> {
    let wrong = || "not of the form http://HOST:PORT or https://HOST:PORT".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    match uri.scheme_str() {
        // What is before an @ would be a secret, and is not sent.
        Some("http" | "https") if uri.authority().is_some_and(|it| !it.as_str().contains('@')) => {
            Ok(text.to_owned())
        }
        _ => Err(wrong()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("not a number from 0 to 1".to_owned()),
    }
}
