//! Provider failover: a message goes to the first provider that accepts it, past those with an open circuit breaker.

use super::Outbox;
use crate::sms::{Message, SendError};

impl Outbox {
    /// Tries the providers that serve the number of a message, one after another. If the circuits of all of them are
    /// open, they are tried all the same: a message is not dropped because of earlier messages.
    ///
    /// # Errors
    /// No provider accepted the message. A temporary failure of any of them takes precedence.
    pub(super) async fn try_providers(&self, message: &Message) -> Result<(), SendError> {
        let providers = &self.context.providers;
        let all = 0..providers.len();
        let mut serving: Vec<usize> = all
            .clone()
            .filter(|index| providers[*index].serves(&message.to))
            .collect();
        if serving.is_empty() {
            // Each provider then returns the reason.
            serving.extend(all);
        }
        let mut skipped = Vec::new();
        let open = serving.iter().copied().filter(|index| {
            let may_ask = self.context.breakers.may_ask(*index, self.clock.since_boot());
            if !may_ask {
                skipped.push(*index);
            }
            may_ask
        });
        match self.try_in_order(open, message).await {
            Err(_) if skipped.len() == serving.len() => self.try_in_order(skipped.into_iter(), message).await,
            // The skipped providers may accept a message that the others rejected.
            Err(error) if !skipped.is_empty() && !error.may_pass() => Err(SendError::CircuitOpen),
            outcome => outcome,
        }
    }

    /// Tries these providers until one accepts the message.
    async fn try_in_order(
        &self,
        providers: impl Iterator<Item = usize>,
        message: &Message,
    ) -> Result<(), SendError> {
        let mut reason = SendError::NotServed;
        for index in providers {
            match self.try_one(index, message).await {
                Ok(()) => return Ok(()),
                Err(error) if !reason.may_pass() => reason = error,
                Err(_) => {}
            }
        }
        Err(reason)
    }

    async fn try_one(&self, index: usize, message: &Message) -> Result<(), SendError> {
        let provider = &self.context.providers[index];
        let name = provider.name();
        let outcome = provider.send(message).await;
        let failed = outcome.err().is_some_and(SendError::may_pass);
        self.context.breakers.note(index, failed, self.clock.since_boot());
        self.context.metrics.message(name, outcome, &message.to);
        match outcome {
            Ok(()) => {
                tracing::info!(message_id = %message.id, provider = name.as_str(), "message taken");
            }
            Err(error) => {
                tracing::warn!(message_id = %message.id, provider = name.as_str(), %error, "message not taken");
            }
        }
        outcome
    }
}
