//! Provider failover: a message goes to the first provider that takes it, past those whose circuit breaker is open.

use super::Outbox;
use crate::sms::{Message, SendError};

impl Outbox {
    /// Asks one provider after another to take a message, of those that send to such numbers. If all of them are left
    /// out, they are asked all the same: a message is not given up for what became of others.
    ///
    /// # Errors
    /// Why nobody has taken it: if one of them may take it later, that.
    pub(super) async fn ask_providers(&self, message: &Message) -> Result<(), SendError> {
        let providers = &self.context.providers;
        let all = 0..providers.len();
        let mut serving: Vec<usize> = all
            .clone()
            .filter(|index| providers[*index].serves(&message.to))
            .collect();
        if serving.is_empty() {
            // So that each of them says so.
            serving.extend(all);
        }
        let mut left_out = Vec::new();
        let open = serving.iter().copied().filter(|index| {
            let may_ask = self.context.breakers.may_ask(*index, self.clock.since_boot());
            if !may_ask {
                left_out.push(*index);
            }
            may_ask
        });
        match self.ask_in_turn(open, message).await {
            Err(_) if left_out.len() == serving.len() => {
                self.ask_in_turn(left_out.into_iter(), message).await
            }
            // They may take what others have refused.
            Err(error) if !left_out.is_empty() && !error.may_pass() => Err(SendError::CircuitOpen),
            outcome => outcome,
        }
    }

    /// Asks these providers, until one takes the message.
    async fn ask_in_turn(
        &self,
        providers: impl Iterator<Item = usize>,
        message: &Message,
    ) -> Result<(), SendError> {
        let mut why = SendError::NotServed;
        for index in providers {
            match self.ask(index, message).await {
                Ok(()) => return Ok(()),
                Err(error) if !why.may_pass() => why = error,
                Err(_) => {}
            }
        }
        Err(why)
    }

    async fn ask(&self, index: usize, message: &Message) -> Result<(), SendError> {
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
