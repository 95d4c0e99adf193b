//! What becomes of codes and of their messages, by country. Never by number.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::code::Purpose;
use crate::domain::phone::PhoneNumber;
use crate::domain::sms_limits::{self, SmsRefusal};
use crate::sms::{ProviderName, SendError};

/// What becomes of a code.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// It is to be sent.
    Sent,
    /// It was asked for, and nobody is sent it.
    NotSent,
    /// Somebody had the right one.
    Verified,
    /// Somebody had another one.
    Refused,
}

impl Fate {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::NotSent => "not_sent",
            Self::Verified => "verified",
            Self::Refused => "refused",
        }
    }
}

/// Values of labels. There are as many of the last as countries, and few of the others.
type Labels<const N: usize> = [String; N];

type Counts<const N: usize> = Mutex<BTreeMap<Labels<N>, u64>>;

/// What is to be sent, by all processes together.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// How many messages.
    pub messages: u64,
    /// Of the one that was written first. None: 0.
    pub age: Duration,
}

/// Counts what becomes of codes and messages.
#[derive(Debug, Default)]
pub struct Metrics {
    codes: Counts<3>,
    messages: Counts<3>,
    refusals: Counts<2>,
    backlog: Mutex<Option<Backlog>>,
}

impl Metrics {
    /// `number`: for which it is. `None`: nobody knows, since there is no such challenge.
    pub(super) fn code(&self, purpose: Purpose, fate: Fate, number: Option<&PhoneNumber>) {
        count(&self.codes, [purpose.as_str(), fate.as_str(), &country(number)]);
    }

    /// A provider was asked to send a message.
    pub(in crate::service) fn message(
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
        let labels = [provider.as_str(), outcome, &country(Some(number))];
        count(&self.messages, labels);
    }

    /// A message was refused.
    pub(super) fn refusal(&self, why: SmsRefusal, number: &PhoneNumber) {
        count(&self.refusals, [why.as_str(), &country(Some(number))]);
    }

    /// It was looked how much there is to send.
    pub(in crate::service) fn set_backlog(&self, backlog: Backlog) {
        *self.backlog.lock().unwrap_or_else(PoisonError::into_inner) = Some(backlog);
    }

    /// How much there was to send when it was last looked at. `None`: it was not.
    #[must_use]
    pub fn backlog(&self) -> Option<Backlog> {
        *self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many codes there were, with purpose, fate and country.
    #[must_use]
    pub fn codes(&self) -> Vec<(Labels<3>, u64)> {
        counts(&self.codes)
    }

    /// How many messages were refused, with the reason and the country.
    #[must_use]
    pub fn refusals(&self) -> Vec<(Labels<2>, u64)> {
        counts(&self.refusals)
    }

    /// How often a provider was asked to send a message, with its name, the outcome and the country.
    #[must_use]
    pub fn messages(&self) -> Vec<(Labels<3>, u64)> {
        counts(&self.messages)
    }
}

fn count<const N: usize>(counts: &Counts<N>, labels: [&str; N]) {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    *counts.entry(labels.map(str::to_owned)).or_default() += 1;
}

fn counts<const N: usize>(counts: &Counts<N>) -> Vec<(Labels<N>, u64)> {
    let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    counts
        .iter()
        .map(|(labels, count)| (labels.clone(), *count))
        .collect()
}

fn country(number: Option<&PhoneNumber>) -> String {
    number.map_or_else(|| "unknown".to_owned(), sms_limits::country)
}
