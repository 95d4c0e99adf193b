//! One-time codes by SMS: asking for one, and what it is exchanged for.
//!
//! Whether somebody has a number makes no difference to what SendCode does before it answers: the same statements run,
//! and the message is sent afterwards, from the [`outbox`](super::outbox). What differs is only whether there is one to
//! send.

mod change_phone;
mod counters;
mod limits;
mod metrics;
mod register;
mod send;
mod sign_in;
mod verify;

use std::sync::Arc;
use std::time::Duration;

pub use change_phone::PhoneChange;
pub use metrics::Metrics;
pub use register::CodeRegistration;
pub use send::{CodeRequest, CodeToRegister};
pub use sign_in::CodeSignIn;
pub use verify::{CodeSubmission, Reset};

use super::accounts::Accounts;
use super::outbox::Wake;
use crate::clock::Timestamp;
use crate::domain::code::{Challenge, Coder, Sent};
use crate::domain::phone::LineTypes;
use crate::domain::sms_limits::SmsLimits;
use metrics::Fate;

/// The settings of codes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a code is good.
    pub lifetime: Duration,
    /// How many codes may be tried for one challenge.
    pub max_attempts: u32,
    /// How long after it was sent a code may be sent once more.
    pub resend_interval: Duration,
    /// The line types of numbers that nobody has, with which signing in creates a person. `None`: it creates nobody.
    pub sign_up: Option<LineTypes>,
}

/// Deals with one-time codes. Cheap to clone.
#[derive(Clone)]
pub struct Codes {
    accounts: Accounts,
    coder: Arc<Coder>,
    options: Options,
    limits: Arc<SmsLimits>,
    wake: Wake,
    metrics: Arc<Metrics>,
}

impl Codes {
    /// Codes of these accounts. `wake` has messages sent at once.
    #[must_use]
    pub fn new(
        accounts: Accounts,
        coder: Arc<Coder>,
        options: Options,
        limits: SmsLimits,
        wake: Wake,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            accounts,
            coder,
            options,
            limits: Arc::new(limits),
            wake,
            metrics,
        }
    }

    fn sent(&self, challenge: &Challenge) -> Sent {
        Sent {
            challenge: challenge.id,
            resend_after: challenge.sent_at + self.options.resend_interval,
            expires_at: challenge.expires_at,
            code_length: self.coder.length(),
        }
    }

    /// The code of a challenge was asked for.
    fn note_asked(&self, challenge: &Challenge) {
        let fate = if challenge.is_sent {
            Fate::Sent
        } else {
            Fate::NotSent
        };
        self.metrics
            .code(challenge.purpose, fate, Some(&challenge.phone_number));
    }

    fn expiry(&self, now: Timestamp) -> Timestamp {
        now + self.options.lifetime
    }
}
