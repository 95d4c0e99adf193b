//! What providers are asked by: HTTP/1.1 with bounds on time and answers. No redirect is followed.

use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use serde::Deserialize;
use tokio::time::timeout;

use super::SendError;
use crate::trace::{Current, What};

/// The most bytes of an answer that are read: all that we ask of it is a number.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(30);

/// A client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

impl Http {
    /// A client that waits so long for an answer, from the beginning. Certificates are those of the roots of Mozilla.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(timeout: Duration) -> Result<Self, rustls::Error> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self { client, timeout })
    }

    /// Sends a POST. OK: the answer was 2xx. Of an error, `code` is asked what number the answer has.
    pub(super) async fn post<C: for<'a> Deserialize<'a>>(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        body: Vec<u8>,
        code: impl FnOnce(C) -> Option<i64>,
    ) -> Result<(), SendError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        let span = Current::here().child("POST", What::Request);
        if let (Some(span), Some(host)) = (&span, uri.host()) {
            span.to_server(host);
        }
        let exchange = async {
            let answer = self
                .client
                .request(request)
                .await
                .map_err(|_| SendError::NotReached)?;
            let status = answer.status();
            if let Some(span) = &span {
                span.answered(status.as_u16());
            }
            if status.is_success() {
                return Ok(());
            }
            if status.is_server_error()
                || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
            {
                return Err(SendError::Failed(status.as_u16()));
            }
            let answer = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
            let said = answer
                .ok()
                .and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
            Err(SendError::Refused {
                status: status.as_u16(),
                code: said.and_then(code),
            })
        };
        let outcome = timeout(self.timeout, exchange)
            .await
            .unwrap_or(Err(SendError::Timeout));
        if let (Some(span), Err(_)) = (&span, &outcome) {
            span.fail();
        }
        outcome
    }
}
