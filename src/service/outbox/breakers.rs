//! Providers that are not asked for now: one that has failed several times in a row would hold up every message until
//! its time is over, while another one takes them at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often in a row a provider has to fail.
const FAILURES: u32 = 5;

/// For how long it is not asked then. After that one message is tried, and if it fails, it is not asked again for as
/// long.
const PAUSE: Duration = Duration::from_secs(30);

/// What is known of each provider, in this process.
#[derive(Debug)]
pub struct Breakers(Mutex<Vec<Breaker>>);

#[derive(Clone, Copy, Debug, Default)]
struct Breaker {
    failures: u32,
    /// Time since boot.
    open_until: Option<Duration>,
}

impl Breakers {
    /// Of so many providers, of which nothing is known.
    #[must_use]
    pub fn new(providers: usize) -> Self {
        Self(Mutex::new(vec![Breaker::default(); providers]))
    }

    /// Whether a provider may be asked now. To be called right before it is: of those that are left out, it is this
    /// message that tries it. `now` is the time since boot: a wall clock that is set must not change the pause.
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

    /// Notes how a provider has answered: whether it has failed in a way that may pass. `now` is the time since boot.
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

    /// Which of two providers may be asked.
    fn asked(breakers: &Breakers, now: Duration) -> Vec<usize> {
        [0, 1]
            .into_iter()
            .filter(|provider| breakers.may_ask(*provider, now))
            .collect()
    }

    #[test]
    fn who_fails_is_left_out_and_tried_now_and_then() {
        let breakers = Breakers::new(2);
        for _ in 0..4 {
            breakers.note(0, true, at(0));
        }
        assert_eq!(asked(&breakers, at(0)), [0, 1]);
        breakers.note(0, true, at(0));
        assert_eq!(asked(&breakers, at(1)), [1]);
        assert_eq!(asked(&breakers, at(29)), [1]);
        // One message tries it.
        assert_eq!(asked(&breakers, at(30)), [0, 1]);
        assert_eq!(asked(&breakers, at(30)), [1]);
        breakers.note(0, true, at(31));
        assert_eq!(asked(&breakers, at(59)), [1]);
        assert_eq!(asked(&breakers, at(60)), [0, 1]);
        breakers.note(0, false, at(61));
        assert_eq!(asked(&breakers, at(61)), [0, 1]);
        assert_eq!(asked(&breakers, at(61)), [0, 1]);
    }

    #[test]
    fn a_message_that_does_not_come_to_a_provider_does_not_try_it() {
        let breakers = Breakers::new(2);
        for _ in 0..5 {
            breakers.note(1, true, at(0));
        }
        for _ in 0..3 {
            assert!(breakers.may_ask(0, at(30)), "it takes the message");
        }
        assert!(breakers.may_ask(1, at(30)));
        assert!(!breakers.may_ask(1, at(30)));
    }

    #[test]
    fn a_success_in_between_begins_anew() {
        let breakers = Breakers::new(2);
        for _ in 0..10 {
            for _ in 0..4 {
                breakers.note(0, true, at(0));
            }
            breakers.note(0, false, at(0));
        }
        breakers.note(1, true, at(0));
        assert_eq!(asked(&breakers, at(0)), [0, 1]);
    }
}
