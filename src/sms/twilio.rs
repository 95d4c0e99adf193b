//! Twilio, by its Messages API: <https://www.twilio.com/docs/messaging/api/message-resource>.

use base64ct::{Base64, Encoding as _};
use form_urlencoded::Serializer;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::http::Report;
use super::{BaseUrl, Http, Message, Provider, ProviderName, SendError, Sending};

/// Who messages come from.
#[derive(Clone, Debug)]
pub enum Sender {
    /// A number or name of the account.
    From(String),
    /// The id of a messaging service, `MG...`, which has several.
    Service(String),
}

/// An account of Twilio.
#[derive(Debug)]
pub struct Twilio {
    http: Http,
    uri: Uri,
    authorization: HeaderValue,
    sender: Sender,
}

/// The part of a response that is read: of an error, or of a message.
#[derive(Deserialize)]
struct TwilioResponse {
    /// Of an error.
    code: Option<i64>,
    /// Of a message that failed.
    error_code: Option<i64>,
    /// Of a message, a word; of an error, the number of the HTTP status.
    status: Option<Value>,
}

/// The statuses of a message that will not be delivered, in Twilio's `message_enum_status`.
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
    /// The account of this id, `AC...`. `url` is where their API is, without the path of it.
    ///
    /// # Errors
    /// When id and URL make no URI, or the token no header.
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

/// Name and password of RFC 7617.
pub(super) fn basic(name: &str, password: &SecretString) -> Result<HeaderValue, http::Error> {
    let both = SecretString::from(format!("{name}:{}", password.expose_secret()));
    let encoded = Base64::encode_string(both.expose_secret().as_bytes());
    let mut value = HeaderValue::try_from(format!("Basic {encoded}"))?;
    value.set_sensitive(true);
    Ok(value)
}
