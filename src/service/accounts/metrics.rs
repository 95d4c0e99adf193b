//! Metrics of sign-ins by password, by outcome.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::service::error::Error;

/// The names of the outcomes, in the order of their counters.
const OUTCOMES: [&str; 6] = [
    "success",
    "invalid_credentials",
    "account_deactivated",
    "throttled",
    "overloaded",
    "error",
];

/// Counts sign-ins by outcome.
#[derive(Debug, Default)]
pub(super) struct SignIns([AtomicU64; OUTCOMES.len()]);

impl SignIns {
    pub(super) fn note<T>(&self, outcome: &Result<T, Error>) {
        let outcome = match outcome {
            Ok(_) => 0,
            Err(Error::InvalidCredentials) => 1,
            Err(Error::AccountDeactivated) => 2,
            Err(Error::TooManyAttempts { .. }) => 3,
            Err(Error::Overloaded { .. }) => 4,
            Err(_) => 5,
        };
        self.0[outcome].fetch_add(1, Ordering::Relaxed);
    }

    /// The name and the number of each outcome.
    pub(super) fn counts(&self) -> [(&'static str, u64); OUTCOMES.len()] {
        std::array::from_fn(|outcome| (OUTCOMES[outcome], self.0[outcome].load(Ordering::Relaxed)))
    }
}
