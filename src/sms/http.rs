//! HTTP/1.1 client of SMS providers, with a timeout and a maximum size of responses. It follows no redirects.

use std::io;
use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use tower::ServiceExt as _;
use tower::util::MapErr;

use super::connect_error::ResolveError;
use super::{ConnectError, SendError};
use crate::telemetry::tracing::{SpanKind, TraceContext};

/// Maximum number of bytes that are read of a response. Only a code and a status are needed.
const MAX_RESPONSE_BYTES: usize = 16 * 1024;

/// Timeout of an idle connection.
const IDLE: Duration = Duration::from_secs(30);

type Resolver = MapErr<GaiResolver, fn(io::Error) -> ResolveError>;

/// HTTP client of providers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    timeout: Duration,
}

/// The fields of a provider's response body that are read.
pub(super) trait Report: DeserializeOwned {
    /// Whether the body of a successful response can report a failure.
    const IS_READ_ON_SUCCESS: bool = false;

    /// Returns the error code of the provider.
    fn code(&self) -> Option<i64>;

    /// Returns whether a successful response reports a message that will not be delivered.
    fn is_failure(&self) -> bool {
        false
    }
}

impl Http {
    /// Returns a client with a timeout per request, connection included. It trusts the roots of Mozilla and
    /// `authorities`.
    ///
    /// # Errors
    /// When the TLS client cannot be created, or an authority is invalid.
    pub fn new(timeout: Duration, authorities: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        for authority in authorities {
            roots.add(authority.clone())?;
        }
        let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let resolver = GaiResolver::new().map_err(ResolveError as fn(io::Error) -> ResolveError);
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        // The TLS connector checks the scheme.
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self { client, timeout })
    }

    /// Sends a POST request. `Ok`: the response was 2xx, and its body reports no failure.
    ///
    /// # Errors
    /// The reason why the message was not accepted.
    pub(super) async fn post<R: Report>(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<(), SendError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        let span = TraceContext::current().child("POST", SpanKind::Request);
        if let (Some(span), Some(host)) = (&span, uri.host()) {
            span.set_server_address(host);
        }
        let deadline = Instant::now() + self.timeout;
        let exchange = async {
            let response = timeout_at(deadline, self.client.request(request)).await;
            let response = response
                .map_err(|_| SendError::Timeout)?
                .map_err(|error| ConnectError::of(&error))?;
            let status = response.status();
            if let Some(span) = &span {
                span.set_status_code(status.as_u16());
            }
            if status.is_server_error()
                || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
            {
                return Err(SendError::Failed(status.as_u16()));
            }
            let is_success = status.is_success();
            if is_success && !R::IS_READ_ON_SUCCESS {
                return Ok(());
            }
            // A body that is late, too long or unreadable is ignored; the status decides.
            let report: Option<R> = timeout_at(deadline, report(response.into_body()))
                .await
                .ok()
                .flatten();
            if is_success && !report.as_ref().is_some_and(R::is_failure) {
                return Ok(());
            }
            Err(SendError::Refused {
                status: status.as_u16(),
                code: report.and_then(|report| report.code()),
            })
        };
        let outcome = exchange.await;
        if let (Some(span), Err(_)) = (&span, &outcome) {
            span.fail();
        }
        outcome
    }
}

async fn report<R: Report>(body: Incoming) -> Option<R> {
    let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await.ok()?;
    serde_json::from_slice(&body.to_bytes()).ok()
}
