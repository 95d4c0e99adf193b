//! A gateway of one's own, which is told by a POST that is signed, so that it can tell who asks it to send.

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

/// When it was signed, in seconds since 1970.
const TIMESTAMP: HeaderName = HeaderName::from_static("x-phone-identity-timestamp");

/// Of W3C.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// `v1=` and HMAC-SHA256 in hexadecimal, of the timestamp, a dot and the body.
const SIGNATURE: HeaderName = HeaderName::from_static("x-phone-identity-signature");

/// A gateway.
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

/// The body of a response, which is not read: a gateway of one's own logs its errors.
#[derive(Deserialize)]
struct NoReport {}

impl Report for NoReport {
    fn code(&self) -> Option<i64> {
        None
    }
}

impl Webhook {
    /// The fewest characters of the secret that requests are signed with.
    pub const MIN_SECRET_LENGTH: usize = 32;

    /// The gateway at this URL.
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
        // A struct of strings is always written.
        let body = serde_json::to_vec(&request).map_err(|_| SendError::Unwritable)?;
        let timestamp = self.clock.now().timestamp();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
        headers.insert(SIGNATURE, self.signature(timestamp, &body)?);
        // It is one's own, and may be traced, too.
        let traceparent = TraceContext::current().traceparent();
        if let Some(value) = traceparent.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(TRACEPARENT, value);
        }
        self.http.post::<NoReport>(&self.uri, headers, body).await
    }

    fn signature(&self, timestamp: i64, body: &[u8]) -> Result<HeaderValue, SendError> {
        let secret = self.secret.expose_secret().as_bytes();
        // HMAC takes keys of any length.
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
