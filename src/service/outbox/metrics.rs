//! Metrics of the outbox: attempts by provider, and the backlog.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::phone::PhoneNumber;
use crate::service::label_counts::{LabelCounts, Labels, country};
use crate::sms::{ProviderName, SendError};

/// Unsent messages of all replicas.
#[derive(Clone, Copy, Debug)]
pub struct BacklogSize {
    /// Number of messages.
    pub messages: u64,
    /// Age of the oldest message. Without messages: 0.
    pub age: Duration,
}

/// Counts attempts to send messages.
#[derive(Debug, Default)]
pub struct Metrics {
    messages: LabelCounts<3>,
    backlog: Mutex<Option<BacklogSize>>,
}

impl Metrics {
    /// Records an attempt to send a message through a provider.
    pub(super) fn message(
        &self,
        provider: ProviderName,
        outcome: Result<(), SendError>,
        number: &PhoneNumber,
    ) {
        let outcome = match outcome {
            Ok(()) => "taken",
            Err(error) if error.may_pass() => "failed",
            Err(_) => "refused",
        };
        let country = country(Some(number));
        self.messages.add([provider.as_str(), outcome, &country]);
    }

    /// Sets the backlog.
    pub(super) fn set_backlog(&self, backlog: BacklogSize) {
        *self.backlog.lock().unwrap_or_else(PoisonError::into_inner) = Some(backlog);
    }

    /// The last measured backlog. `None`: not yet measured.
    #[must_use]
    pub fn backlog(&self) -> Option<BacklogSize> {
        *self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of attempts to send a message, by provider, outcome and country.
    #[must_use]
    pub fn messages(&self) -> Vec<(Labels<3>, u64)> {
        self.messages.all()
    }
}
