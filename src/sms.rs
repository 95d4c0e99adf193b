//! SMS: what is sent, and who sends it.

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

/// The names of those who send messages, as in the setting.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ProviderName {
    /// Nobody: the text is in the log of this process, for development
    Log,
    /// Twilio, by its Messages API
    Twilio,
    /// Playmobile of Uzbekistan, by its broker API
    Playmobile,
    /// A gateway of your own, which is told by a signed POST
    Webhook,
}

impl ProviderName {
    /// The name, as in the setting.
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

/// Somebody who sends messages.
pub trait Provider: Send + Sync {
    /// Who it is, for the log.
    fn name(&self) -> ProviderName;

    /// Whether they send to such numbers at all. Who does not is not asked, as long as there is another who does.
    fn serves(&self, _number: &PhoneNumber) -> bool {
        true
    }

    /// Gives them a message. OK: they have taken it.
    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a>;
}

/// What [`Provider::send`] does.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>>;

/// Why a message was not taken. Nothing of what the provider said is in it but numbers: it might repeat number or text.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SendError {
    /// They will not take it later either. A status of success belongs to a response that reports a failed message.
    #[error("refused: status {status}, code {}", .code.map_or("none".to_owned(), |code| code.to_string()))]
    Refused {
        /// Of HTTP.
        status: u16,
        /// Of the provider.
        code: Option<i64>,
    },
    /// They do not send to such numbers.
    #[error("the provider does not send to such numbers")]
    NotTheirs,
    /// They were not asked, since they have failed several times in a row.
    #[error("left out for now")]
    LeftOut,
    /// They may take it later.
    #[error("failed: status {0}")]
    Failed(u16),
    /// There was no answer in time.
    #[error("no answer in time")]
    Timeout,
    /// There was no connection, or no response of HTTP.
    #[error("not reached: {0}")]
    NotReached(#[from] ConnectError),
    /// The request cannot be written.
    #[error("the request cannot be written")]
    Unwritable,
}

impl SendError {
    /// Whether there is any use in trying the same again.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        match self {
            Self::Refused { .. } | Self::NotTheirs => false,
            Self::LeftOut | Self::Failed(_) | Self::Timeout | Self::NotReached(_) | Self::Unwritable => true,
        }
    }
}
