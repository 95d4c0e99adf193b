//! `healthcheck`: gRPC health client, for the HEALTHCHECK of a container image.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::time::timeout;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::Failure;
use super::messages::Messages;
use crate::config::{Settings, positive_duration};
use crate::service::error::chain;

/// Address, service and TLS of the request.
#[derive(Args, Clone, Debug)]
pub(super) struct HealthcheckArguments {
    /// Address of the server [default: --health-listen, otherwise --listen, on this machine]
    ///
    /// With TLS the default is --listen.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,

    /// Service to query: liveness, readiness, or the name of a service [default: the whole server]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,

    /// Use TLS, and trust the public certificate authorities
    #[arg(long)]
    tls: bool,

    /// Use TLS, and trust only the certificates of this PEM file
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Use TLS, and expect a certificate with this name [default: the host of the address]
    #[arg(long, value_name = "NAME")]
    tls_domain: Option<String>,

    /// Timeout of the whole command
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = positive_duration)]
    timeout: Duration,
}

impl HealthcheckArguments {
    /// Returns the endpoint to query. `health_listen` is the address of the health listener without TLS, if any.
    fn endpoint(&self, listen: SocketAddr, health_listen: Option<SocketAddr>) -> Result<Endpoint, Failure> {
        let with_tls = self.tls || self.tls_ca.is_some() || self.tls_domain.is_some();
        let listening = health_listen.filter(|_| !with_tls).unwrap_or(listen);
        let address = self
            .address
            .clone()
            .unwrap_or_else(|| reachable(listening).to_string());
        let scheme = if with_tls { "https" } else { "http" };
        let unusable = |error: tonic::transport::Error| {
            Failure::Unusable(format!("cannot query {address}: {}", chain(&error)))
        };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(unusable)?;
        if !with_tls {
            return Ok(endpoint);
        }
        let mut tls = ClientTlsConfig::new();
        tls = match &self.tls_ca {
            Some(file) => {
                let pem = fs::read(file).map_err(|error| {
                    Failure::Unusable(format!("the file of --tls-ca cannot be read: {error}"))
                })?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
            None => tls.with_webpki_roots(),
        };
        if let Some(name) = &self.tls_domain {
            tls = tls.domain_name(name);
        }
        endpoint.tls_config(tls).map_err(unusable)
    }
}

/// Returns the address by which this machine reaches a listener: loopback for an unspecified address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Writes the status of the server to `out`.
///
/// # Errors
/// When the status is not SERVING, or the server does not respond in time.
pub(super) async fn healthcheck(
    settings: &Settings,
    arguments: HealthcheckArguments,
    messages: Messages,
    mut out: impl Write,
) -> Result<(), Failure> {
    let endpoint = arguments.endpoint(settings.listen, settings.access.health_listen)?;
    let queried = timeout(arguments.timeout, query(&endpoint, arguments.service, messages)).await;
    let status = queried.unwrap_or_else(|_| Err(messages.failed("cli-no-answer", &[])))?;
    if status != ServingStatus::Serving {
        return Err(Failure::Failed(status.as_str_name().to_owned()));
    }
    writeln!(out, "{}", status.as_str_name()).map_err(|error: io::Error| Failure::Failed(error.to_string()))
}

async fn query(endpoint: &Endpoint, service: String, messages: Messages) -> Result<ServingStatus, Failure> {
    let channel: Channel = endpoint.connect().await.map_err(|error| {
        let problem = chain(&error);
        messages.failed("cli-no-connection", &[("problem", problem.as_str().into())])
    })?;
    let response = HealthClient::new(channel)
        .check(HealthCheckRequest { service })
        .await
        .map_err(|status| Failure::Failed(format!("{:?}: {}", status.code(), status.message())))?;
    Ok(response.into_inner().status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_queried_by_loopback() {
        for (listen, queried) in [
            ("0.0.0.0:50051", "127.0.0.1:50051"),
            ("[::]:1", "[::1]:1"),
            ("10.1.2.3:50051", "10.1.2.3:50051"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), queried.parse().unwrap());
        }
    }

    #[test]
    fn the_health_listener_is_queried_unless_tls_is_requested() {
        let mut arguments = HealthcheckArguments {
            address: None,
            service: String::new(),
            tls: false,
            tls_ca: None,
            tls_domain: None,
            timeout: Duration::from_secs(3),
        };
        let (listen, health) = ("0.0.0.0:1".parse().unwrap(), "0.0.0.0:2".parse().unwrap());
        let queried = |arguments: &HealthcheckArguments, health| {
            let endpoint = arguments.endpoint(listen, health);
            endpoint.unwrap_or_else(|_| panic!("unusable")).uri().to_string()
        };
        assert_eq!(queried(&arguments, None), "http://127.0.0.1:1/");
        assert_eq!(queried(&arguments, Some(health)), "http://127.0.0.1:2/");
        arguments.tls_domain = Some("example.com".to_owned());
        assert_eq!(queried(&arguments, Some(health)), "https://127.0.0.1:1/");
    }
}
