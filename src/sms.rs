//! SMS: messages and the clients of SMS providers.

mod connect_error;
mod endpoint;
mod http;
mod lines;
mod log;
mod message;
mod playmobile;
mod twilio;
mod webhook;

use std::pin::Pin;

use clap::ValueEnum;
use thiserror::Error;

use crate::domain::phone::PhoneNumber;

pub use connect_error::ConnectError;
pub use endpoint::{BaseUrl, BaseUrlError, Endpoint, EndpointError};
pub use http::Http;
pub use lines::{Domain, DomainError, Lines, RetrieverHash, RetrieverHashError};
pub use log::Log;
pub use message::{GSM_LENGTH, Message, UCS2_LENGTH};
pub use playmobile::Playmobile;
pub use twilio::{Sender, Twilio};
pub use webhook::Webhook;

/// Name of an SMS provider, as in the setting.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ProviderName {
    /// None: writes messages with their codes to the log, for development
    Log,
    /// Twilio, Messages API
    Twilio,
    /// Playmobile (Uzbekistan), broker API
    Playmobile,
    /// Your own gateway, by a signed POST
    Webhook,
}

impl ProviderName {
    /// Returns the name, as in the setting.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Twilio => "twilio",
            Self::Playmobile => "playmobile",
            Self::Webhook => "webhook",
        }
    }
}

/// SMS provider.
pub trait Provider: Send + Sync {
    /// Returns the name, for the log.
    fn name(&self) -> ProviderName;

    /// Returns whether the provider serves this phone number. Otherwise the outbox prefers another provider.
    fn serves(&self, _number: &PhoneNumber) -> bool {
        true
    }

    /// Submits a message. `Ok`: the provider accepted it.
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a>;
}

/// Future of [`Provider::send`].
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>>;

/// The reason why a message was not accepted. Of the provider's response it contains numbers only, because the texts
/// may repeat the phone number or the message.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SendError {
    /// The provider rejected the message permanently. The status is 2xx if the response body reports the failure.
    #[error("refused: status {status}, code {}", .code.map_or("none".to_owned(), |code| code.to_string()))]
    Refused {
        /// HTTP status.
        status: u16,
        /// Error code of the provider.
        code: Option<i64>,
    },
    /// The provider does not serve this phone number.
    #[error("the provider does not serve this number")]
    NotServed,
    /// The circuit breaker of the provider is open, after several failures in a row.
    #[error("skipped: the circuit breaker is open")]
    CircuitOpen,
    /// A temporary failure.
    #[error("failed: status {0}")]
    Failed(u16),
    /// The provider did not respond in time.
    #[error("no response in time")]
    Timeout,
    /// No connection, or no HTTP response.
    #[error("unreachable: {0}")]
    NotReached(#[from] ConnectError),
    /// The request cannot be built.
    #[error("the request cannot be built")]
    Unwritable,
}

impl SendError {
    /// Returns whether a retry may succeed.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        match self {
            Self::Refused { .. } | Self::NotServed => false,
            Self::CircuitOpen | Self::Failed(_) | Self::Timeout | Self::NotReached(_) | Self::Unwritable => {
                true
            }
        }
    }
}
