//! SMS provider for development: writes messages to the log and sends none.

use super::{Message, Provider, ProviderName, Sending};

/// Provider that writes messages to the log of this process.
#[derive(Debug)]
pub struct Log;

impl Provider for Log {
    fn name(&self) -> ProviderName {
        ProviderName::Log
    }

    fn send<'a>(&'a self, message: &'a Message) -> Sending<'a> {
        tracing::info!(
            message_id = %message.id,
            to = message.to.masked(),
            text = message.expose_text(),
            "SMS logged, not sent"
        );
        Box::pin(async { Ok(()) })
    }
}
