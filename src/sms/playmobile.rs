//! SMS provider Playmobile, which serves phone numbers of Uzbekistan, by its broker API.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Uri};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::http::Report;
use super::twilio::basic;
use super::{BaseUrl, Http, Message, Provider, ProviderName, SendError, Sending};
use crate::domain::phone::PhoneNumber;

/// Client of a Playmobile account.
#[derive(Debug)]
pub struct Playmobile {
    http: Http,
    uri: Uri,
    authorization: HeaderValue,
    originator: String,
}

#[derive(Serialize)]
struct PlaymobileRequest<'a> {
    messages: [OneMessage<'a>; 1],
}

#[derive(Serialize)]
struct OneMessage<'a> {
    recipient: &'a str,
    #[serde(rename = "message-id")]
    message_id: String,
    sms: Sms<'a>,
}

#[derive(Serialize)]
struct Sms<'a> {
    originator: &'a str,
    content: PlaymobileContent<'a>,
}

#[derive(Serialize)]
struct PlaymobileContent<'a> {
    text: &'a str,
}

/// The fields of an error response that are read.
#[derive(Deserialize)]
struct PlaymobileResponse {
    #[serde(rename = "error-code")]
    code: PlaymobileCode,
}

/// An error code, which the API sends as a number or as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum PlaymobileCode {
    Number(i64),
    Text(String),
}

impl Report for PlaymobileResponse {
    fn code(&self) -> Option<i64> {
        match &self.code {
            PlaymobileCode::Number(code) => Some(*code),
            PlaymobileCode::Text(text) => text.parse().ok(),
        }
    }
}

impl Playmobile {
    /// Returns the client of an account. `url` is the base URL of the API.
    ///
    /// # Errors
    /// When the URL with the path is not a URI, or the password is not valid in a header.
    pub fn new(
        http: Http,
        url: &BaseUrl,
        login: &str,
        password: &SecretString,
        originator: String,
    ) -> Result<Self, http::Error> {
        Ok(Self {
            http,
            uri: url.join("/broker-api/send")?,
            authorization: basic(login, password)?,
            originator,
        })
    }

    async fn try_send(&self, message: &Message) -> Result<(), SendError> {
        let recipient = recipient(message.to.as_str()).ok_or(SendError::NotServed)?;
        let request = PlaymobileRequest {
            messages: [OneMessage {
                recipient,
                message_id: message.id.to_string(),
                sms: Sms {
                    originator: &self.originator,
                    content: PlaymobileContent {
                        text: message.expose_text(),
                    },
                },
            }],
        };
        // Serializing a struct of strings does not fail.
        let body = serde_json::to_vec(&request).map_err(|_| SendError::Unwritable)?;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.http
            .post::<PlaymobileResponse>(&self.uri, headers, body)
            .await
    }
}

impl Provider for Playmobile {
    fn name(&self) -> ProviderName {
        ProviderName::Playmobile
    }

    fn serves(&self, number: &PhoneNumber) -> bool {
        recipient(number.as_str()).is_some()
    }

    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        Box::pin(self.try_send(message))
    }
}

/// Returns a phone number of Uzbekistan in the form of the API: 998 and nine digits, without a plus.
fn recipient(number: &str) -> Option<&str> {
    let digits = number.strip_prefix('+')?;
    (digits.starts_with("998") && digits.len() == 12).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_phone_numbers_of_uzbekistan_are_served() {
        for (number, expected) in [
            ("+998901234567", Some("998901234567")),
            ("+99890123456", None),
            ("+9989012345678", None),
            ("+79161234567", None),
            ("998901234567", None),
        ] {
            assert_eq!(recipient(number), expected, "{number}");
        }
    }
}
