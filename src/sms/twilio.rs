//! SMS provider Twilio, by its Messages API: <https://www.twilio.com/docs/messaging/api/message-resource>.

use base64ct::{Base64, Encoding as _};
use form_urlencoded::Serializer;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::http::Report;
use super::{BaseUrl, Http, Message, Provider, ProviderName, SendError, Sending};

/// Sender of messages.
#[derive(Clone, Debug)]
pub enum Sender {
    /// A phone number or an alphanumeric name of the account.
    From(String),
    /// The SID of a messaging service, `MG...`, which selects one of several senders.
    Service(String),
}

/// Client of a Twilio account.
#[derive(Debug)]
pub struct Twilio {
    http: Http,
    uri: Uri,
    authorization: HeaderValue,
    sender: Sender,
}

/// The fields of a response that are read: of an error, or of a message.
#[derive(Deserialize)]
struct TwilioResponse {
    /// The code of an error.
    code: Option<i64>,
    /// The code of a failed message.
    error_code: Option<i64>,
    /// A word for a message; the number of the HTTP status for an error.
    status: Option<Value>,
}

/// The values of Twilio's `message_enum_status` for messages that will not be delivered.
const FAILED_STATUSES: [&str; 3] = ["failed", "undelivered", "canceled"];

impl Report for TwilioResponse {
    const IS_READ_ON_SUCCESS: bool = true;

    fn code(&self) -> Option<i64> {
        self.code.or(self.error_code)
    }

    fn is_failure(&self) -> bool {
        let status = self.status.as_ref().and_then(Value::as_str);
        status.is_some_and(|status| FAILED_STATUSES.contains(&status))
    }
}

impl Twilio {
    /// Returns the client of the account with this SID, `AC...`. `url` is the base URL of the API.
    ///
    /// # Errors
    /// When the URL with the SID is not a URI, or the token is not valid in a header.
    pub fn new(
        http: Http,
        url: &BaseUrl,
        account_sid: &str,
        auth_token: &SecretString,
        sender: Sender,
    ) -> Result<Self, http::Error> {
        Ok(Self {
            http,
            uri: url.join(&format!("/2010-04-01/Accounts/{account_sid}/Messages.json"))?,
            authorization: basic(account_sid, auth_token)?,
            sender,
        })
    }

    fn form(&self, message: &Message) -> String {
        let (name, sender) = match &self.sender {
            Sender::From(number) => ("From", number),
            Sender::Service(id) => ("MessagingServiceSid", id),
        };
        Serializer::new(String::new())
            .append_pair("To", message.to.as_str())
            .append_pair(name, sender)
            .append_pair("Body", message.expose_text())
            .finish()
    }

    async fn try_send(&self, message: &Message) -> Result<(), SendError> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let body = self.form(message).into_bytes();
        self.http.post::<TwilioResponse>(&self.uri, headers, body).await
    }
}

impl Provider for Twilio {
    fn name(&self) -> ProviderName {
        ProviderName::Twilio
    }

    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(self.try_send(message))
    }
}

/// Returns the header value of HTTP Basic authentication (RFC 7617).
pub(super) fn basic(name: &str, password: &SecretString) -> Result<HeaderValue, http::Error> {
    let both = SecretString::from(format!("{name}:{}", password.expose_secret()));
    let encoded = Base64::encode_string(both.expose_secret().as_bytes());
    let mut value = HeaderValue::try_from(format!("Basic {encoded}"))?;
    value.set_sensitive(true);
    Ok(value)
}
