//! `healthcheck`: asks a server by gRPC whether it serves, as the HEALTHCHECK of an image does.

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

/// Whom to ask, and what.
#[derive(Args, Clone, Debug)]
pub(super) struct HealthcheckArguments {
    /// Server to ask [default: that of --health-listen, or else, and with TLS, of --listen, on this machine]
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,

    /// Service to ask about; liveness, readiness, or the name of a service [default: the whole server]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,

    /// Ask by TLS, and trust the certificate authorities of the web
    #[arg(long)]
    tls: bool,

    /// Ask by TLS, and trust the certificates of this PEM file, and no others
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Ask by TLS, and expect the certificate of this name [default: the host of the address]
    #[arg(long, value_name = "NAME")]
    tls_domain: Option<String>,

    /// How long all of it may take
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = positive_duration)]
    timeout: Duration,
}

impl HealthcheckArguments {
    /// `health_listen` is where health is served without TLS, if there is such a place.
    fn endpoint(&self, listen: SocketAddr, health_listen: Option<SocketAddr>) -> Result<Endpoint, Failure> {
        let with_tls = self.tls || self.tls_ca.is_some() || self.tls_domain.is_some();
        let listening = health_listen.filter(|_| !with_tls).unwrap_or(listen);
        let address = self
            .address
            .clone()
            .unwrap_or_else(|| reachable(listening).to_string());
        let scheme = if with_tls { "https" } else { "http" };
        let unusable = |error: tonic::transport::Error| {
            Failure::Unusable(format!("cannot ask {address}: {}", chain(&error)))
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

/// An address that is listened on, as this machine reaches it.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Says on `out` what the server answers. It fails if that is anything but SERVING, or comes too late.
pub(super) async fn healthcheck(
    settings: &Settings,
    arguments: HealthcheckArguments,
    messages: Messages,
    mut out: impl Write,
) -> Result<(), Failure> {
    let endpoint = arguments.endpoint(settings.listen, settings.access.health_listen)?;
    let asked = timeout(arguments.timeout, ask(&endpoint, arguments.service, messages)).await;
    let status = asked.unwrap_or_else(|_| Err(messages.failed("cli-no-answer", &[])))?;
    if status != ServingStatus::Serving {
        return Err(Failure::Failed(status.as_str_name().to_owned()));
    }
    writeln!(out, "{}", status.as_str_name()).map_err(|error: io::Error| Failure::Failed(error.to_string()))
}

async fn ask(endpoint: &Endpoint, service: String, messages: Messages) -> Result<ServingStatus, Failure> {
    let channel: Channel = endpoint.connect().await.map_err(|error| {
        let problem = chain(&error);
        messages.failed("cli-no-connection", &[("problem", problem.as_str().into())])
    })?;
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest { service })
        .await
        .map_err(|status| Failure::Failed(format!("{:?}: {}", status.code(), status.message())))?;
    Ok(answer.into_inner().status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_on_this_machine() {
        for (listen, asked) in [
            ("0.0.0.0:50051", "127.0.0.1:50051"),
            ("[::]:1", "[::1]:1"),
            ("10.1.2.3:50051", "10.1.2.3:50051"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[test]
    fn health_is_asked_for_where_it_needs_no_certificate_unless_tls_is_asked_for() {
        let mut arguments = HealthcheckArguments {
            address: None,
            service: String::new(),
            tls: false,
            tls_ca: None,
            tls_domain: None,
            timeout: Duration::from_secs(3),
        };
        let (listen, health) = ("0.0.0.0:1".parse().unwrap(), "0.0.0.0:2".parse().unwrap());
        let asked = |arguments: &HealthcheckArguments, health| {
            let endpoint = arguments.endpoint(listen, health);
            endpoint.unwrap_or_else(|_| panic!("unusable")).uri().to_string()
        };
        assert_eq!(asked(&arguments, None), "http://127.0.0.1:1/");
        assert_eq!(asked(&arguments, Some(health)), "http://127.0.0.1:2/");
        arguments.tls_domain = Some("example.com".to_owned());
        assert_eq!(asked(&arguments, Some(health)), "https://127.0.0.1:1/");
    }
}
