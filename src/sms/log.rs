//! Nobody sends: the text is in the log, for development.

use super::{Message, Provider, ProviderName, Sending};

/// Writes messages into the log of this process.
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
            "SMS, which is sent to nobody"
        );
        Box::pin(async { Ok(()) })
    }
}
