//! Circuit breakers of the providers: a provider that has failed several times in a row would delay every message by
//! its timeout, while another provider accepts them at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Number of failures in a row that opens the circuit.
const FAILURES: u32 = 5;

/// Duration for which the circuit stays open. After it, one message tries the provider; if that fails, the circuit is
/// open for as long again.
const PAUSE: Duration = Duration::from_secs(30);

/// State of the circuit breaker of each provider, in this process.
#[derive(Debug)]
pub struct Breakers(Mutex<Vec<Breaker>>);

#[derive(Clone, Copy, Debug, Default)]
struct Breaker {
    failures: u32,
    /// Time since boot.
    open_until: Option<Duration>,
}

impl Breakers {
    /// Closed circuits of this number of providers.
    #[must_use]
    pub fn new(providers: usize) -> Self {
        Self(Mutex::new(vec![Breaker::default(); providers]))
    }

    /// Returns whether a provider may be called now. Call it right before the provider is called: this message becomes
    /// the trial of a provider after its pause. `now` is the time since boot: a change of the wall clock must not
    /// change the pause.
    pub(super) fn may_ask(&self, provider: usize, now: Duration) -> bool {
        let mut breakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(breaker) = breakers.get_mut(provider) else {
            return true;
        };
        match breaker.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                breaker.open_until = Some(now + PAUSE);
                true
            }
            None => true,
        }
    }

    /// Records the outcome of a call: `failed` is true for a temporary failure. `now` is the time since boot.
    pub(super) fn note(&self, provider: usize, failed: bool, now: Duration) {
        let mut breakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(breaker) = breakers.get_mut(provider) else {
            return;
        };
        if !failed {
            *breaker = Breaker::default();
            return;
        }
        breaker.failures = breaker.failures.saturating_add(1);
        if breaker.failures >= FAILURES && breaker.open_until.is_none() {
            breaker.open_until = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Returns which of two providers may be called.
    fn allowed(breakers: &Breakers, now: Duration) -> Vec<usize> {
        [0, 1]
            .into_iter()
            .filter(|provider| breakers.may_ask(*provider, now))
            .collect()
    }

    #[test]
    fn a_failing_provider_is_skipped_and_tried_periodically() {
        let breakers = Breakers::new(2);
        for _ in 0..4 {
            breakers.note(0, true, at(0));
        }
        assert_eq!(allowed(&breakers, at(0)), [0, 1]);
        breakers.note(0, true, at(0));
        assert_eq!(allowed(&breakers, at(1)), [1]);
        assert_eq!(allowed(&breakers, at(29)), [1]);
        // One message tries the provider.
        assert_eq!(allowed(&breakers, at(30)), [0, 1]);
        assert_eq!(allowed(&breakers, at(30)), [1]);
        breakers.note(0, true, at(31));
        assert_eq!(allowed(&breakers, at(59)), [1]);
        assert_eq!(allowed(&breakers, at(60)), [0, 1]);
        breakers.note(0, false, at(61));
        assert_eq!(allowed(&breakers, at(61)), [0, 1]);
        assert_eq!(allowed(&breakers, at(61)), [0, 1]);
    }

    #[test]
    fn a_message_that_does_not_reach_a_provider_is_no_trial() {
        let breakers = Breakers::new(2);
        for _ in 0..5 {
            breakers.note(1, true, at(0));
        }
        for _ in 0..3 {
            assert!(
                breakers.may_ask(0, at(30)),
                "the first provider accepts the message"
            );
        }
        assert!(breakers.may_ask(1, at(30)));
        assert!(!breakers.may_ask(1, at(30)));
    }

    #[test]
    fn a_success_resets_the_failures() {
        let breakers = Breakers::new(2);
        for _ in 0..10 {
            for _ in 0..4 {
                breakers.note(0, true, at(0));
            }
            breakers.note(0, false, at(0));
        }
        breakers.note(1, true, at(0));
        assert_eq!(allowed(&breakers, at(0)), [0, 1]);
    }
}
