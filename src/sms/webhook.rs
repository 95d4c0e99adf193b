//! SMS provider for a gateway of the operator: a POST with an HMAC signature, by which the gateway authenticates it.

use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::http::Report;
use super::{Endpoint, Http, Message, Provider, ProviderName, SendError, Sending};
use crate::clock::Clock;
use crate::telemetry::tracing::TraceContext;

/// Header with the time of the signature, in seconds since 1970.
const TIMESTAMP: HeaderName = HeaderName::from_static("x-phone-identity-timestamp");

/// Header of W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Header with the signature: `v1=` and the HMAC-SHA256 of timestamp, dot and body, in hexadecimal.
const SIGNATURE: HeaderName = HeaderName::from_static("x-phone-identity-signature");

/// Client of a gateway.
pub struct Webhook {
    http: Http,
    clock: Arc<dyn Clock>,
    uri: Uri,
    secret: SecretString,
}

#[derive(Serialize)]
struct WebhookRequest<'a> {
    message_id: String,
    to: &'a str,
    text: &'a str,
}

/// The response body, which is not read: the gateway of the operator logs its own errors.
#[derive(Deserialize)]
struct NoReport {}

impl Report for NoReport {
    fn code(&self) -> Option<i64> {
        None
    }
}

impl Webhook {
    /// Minimum number of characters of the signing secret.
    pub const MIN_SECRET_LENGTH: usize = 32;

    /// Returns the client of the gateway at a URL.
    #[must_use]
    pub fn new(http: Http, clock: Arc<dyn Clock>, url: Endpoint, secret: SecretString) -> Self {
        Self {
            http,
            clock,
            uri: url.into_uri(),
            secret,
        }
    }

    async fn try_send(&self, message: &Message) -> Result<(), SendError> {
        let request = WebhookRequest {
            message_id: message.id.to_string(),
            to: message.to.as_str(),
            text: message.expose_text(),
        };
        // Serializing a struct of strings does not fail.
        let body = serde_json::to_vec(&request).map_err(|_| SendError::Unwritable)?;
        let timestamp = self.clock.now().timestamp();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
        headers.insert(SIGNATURE, self.signature(timestamp, &body)?);
        // The gateway belongs to the operator, so it may continue the trace.
        let traceparent = TraceContext::current().traceparent();
        if let Some(value) = traceparent.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(TRACEPARENT, value);
        }
        self.http.post::<NoReport>(&self.uri, headers, body).await
    }

    fn signature(&self, timestamp: i64, body: &[u8]) -> Result<HeaderValue, SendError> {
        let secret = self.secret.expose_secret().as_bytes();
        // HMAC accepts keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| SendError::Unwritable)?;
        mac.update(format!("{timestamp}.").as_bytes());
        mac.update(body);
        let mut text = "v1=".to_owned();
        for byte in mac.finalize().into_bytes() {
            text.push_str(&format!("{byte:02x}"));
        }
        HeaderValue::try_from(text).map_err(|_| SendError::Unwritable)
    }
}

impl Provider for Webhook {
    fn name(&self) -> ProviderName {
        ProviderName::Webhook
    }

    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(self.try_send(message))
    }
}
