//! One-time codes by SMS: requests, checks, and the operations that a right code allows.
//!
//! SendCode does the same for a number with an account as for one without: it runs the same statements before it
//! answers, and the [`outbox`](super::outbox) sends the message afterwards. Only whether there is a message to send
//! differs.

mod change_phone;
mod counters;
mod limits;
mod metrics;
mod redeem;
mod register;
mod reset_password;
mod send;
mod sign_in;
mod verify_phone;

use std::sync::Arc;
use std::time::Duration;

pub use change_phone::PhoneChange;
pub use metrics::Metrics;
pub use redeem::CodeSubmission;
pub use register::CodeRegistration;
pub use reset_password::Reset;
pub use send::{CodeRequest, CodeToRegister};
pub use sign_in::CodeSignIn;

use super::outbox::Wake;
use super::passwords::Passwords;
use super::reauthentication::Reauthentication;
use super::session_issuer::SessionIssuer;
use super::shared::Shared;
use super::unit_of_work::UnitOfWork;
use crate::clock::Timestamp;
use crate::domain::code::{Challenge, Coder, Sent};
use crate::domain::phone::LineTypes;
use crate::domain::sms_limits::SmsLimits;
use metrics::Fate;

/// The settings of codes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Lifetime of a code.
    pub lifetime: Duration,
    /// Maximum number of attempts for a challenge.
    pub max_attempts: u32,
    /// Minimum time between two messages for a challenge.
    pub resend_interval: Duration,
    /// The line types of numbers without an account for which a sign-in creates a user. `None`: it creates no user.
    pub sign_up: Option<LineTypes>,
}

/// One-time codes. Cheap to clone.
#[derive(Clone)]
pub struct Codes {
    work: UnitOfWork,
    passwords: Passwords,
    reauthentication: Reauthentication,
    issuer: SessionIssuer,
    coder: Arc<Coder>,
    options: Options,
    limits: Arc<SmsLimits>,
    wake: Wake,
    metrics: Arc<Metrics>,
}

impl Codes {
    /// Codes over the shared parts. `wake` makes the outbox send a message at once.
    #[must_use]
    pub fn new(
        shared: &Shared,
        coder: Arc<Coder>,
        options: Options,
        limits: SmsLimits,
        wake: Wake,
        metrics: Arc<Metrics>,
    ) -> Self {
        let Shared {
            work,
            passwords,
            reauthentication,
            issuer,
            policy: _,
        } = shared.clone();
        Self {
            work,
            passwords,
            reauthentication,
            issuer,
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

    /// Counts a requested code.
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
