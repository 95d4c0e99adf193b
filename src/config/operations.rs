//! Settings of metrics and traces.

use std::net::SocketAddr;

use clap::Args;

use super::values::listen_address;

/// Metrics and traces.
#[derive(Args, Clone, Debug)]
pub struct OperationsSettings {
    /// Address of an HTTP/1.1 listener for /metrics, /livez and /readyz, without authentication
    ///
    /// Port 0 picks a free port and prints the address to standard output.
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_METRICS_LISTEN",
        value_name = "ADDRESS",
        value_parser = listen_address
    )]
    pub metrics_listen: Option<SocketAddr>,

    /// Collector of traces by OTLP over gRPC, such as http://localhost:4317
    #[arg(global = true, long, env = "PHONE_IDENTITY_OTLP_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub otlp_endpoint: Option<String>,

    /// Ratio of calls without a traceparent that are traced, from 0 to 1
    #[arg(global = true, long, env = "PHONE_IDENTITY_TRACE_SAMPLING", value_name = "RATIO", default_value = "0.01",
        value_parser = ratio)]
    pub trace_sampling: f64,
}

fn endpoint(text: &str) -> Result<String, String> {
    let wrong = || "not of the form http://HOST:PORT or https://HOST:PORT".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    match uri.scheme_str() {
        // The exporter would not send credentials before an @.
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
