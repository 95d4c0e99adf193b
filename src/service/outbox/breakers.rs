//! Providers that are not asked for now: one that has failed several times in a row would hold up every message until its time is
//! over, while another one takes them at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;

/// How often in a row a provider has to fail.
const FAILURES: u32 = 5;

/// For how long it is not asked then. After that one message is tried, and if it fails, it is not asked again for as long.
const PAUSE: Duration = Duration::from_secs(30);

/// What is known of each provider, in this process.
#[derive(Debug)]
pub struct Breakers(Mutex<Vec<Breaker>>);

#[derive(Clone, Copy, Debug, Default)]
struct Breaker {
    failures: u32,
    open_until: Option<Timestamp>,
}

impl Breakers {
    /// Of so many providers, of which nothing is known.
    #[must_use]
    pub fn new(providers: usize) -> Self {
        Self(Mutex::new(vec![Breaker::default(); providers]))
    }

    /// Which providers to ask for a message, in their order. If none is left, all of them: a message is not given up for what became
    /// of others.
    pub(super) fn asked(&self, now: Timestamp) -> Vec<usize> {
        let mut breakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut asked = Vec::with_capacity(breakers.len());
        for (index, breaker) in breakers.iter_mut().enumerate() {
            match breaker.open_until {
                // A clock that was set back must not keep it closed.
                Some(until) if now < until && until <= now + PAUSE => {}
                Some(_) => {
                    breaker.open_until = Some(now + PAUSE);
                    asked.push(index);
                }
                None => asked.push(index),
            }
        }
        if asked.is_empty() {
            asked.extend(0..breakers.len());
        }
        asked
    }

    /// Notes how a provider has answered: whether it has failed in a way that may pass.
    pub(super) fn note(&self, provider: usize, failed: bool, now: Timestamp) {
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

    fn at(seconds: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn who_fails_is_left_out_and_tried_now_and_then() {
        let breakers = Breakers::new(2);
        for _ in 0..4 {
            breakers.note(0, true, at(0));
        }
        assert_eq!(breakers.asked(at(0)), [0, 1]);
        breakers.note(0, true, at(0));
        assert_eq!(breakers.asked(at(1)), [1]);
        assert_eq!(breakers.asked(at(29)), [1]);
        // One message tries it.
        assert_eq!(breakers.asked(at(30)), [0, 1]);
        assert_eq!(breakers.asked(at(30)), [1]);
        breakers.note(0, true, at(31));
        assert_eq!(breakers.asked(at(59)), [1]);
        assert_eq!(breakers.asked(at(60)), [0, 1]);
        breakers.note(0, false, at(61));
        assert_eq!(breakers.asked(at(61)), [0, 1]);
        assert_eq!(breakers.asked(at(61)), [0, 1]);
    }

    #[test]
    fn if_all_have_failed_all_are_asked() {
        let breakers = Breakers::new(2);
        for provider in [0, 1] {
            for _ in 0..5 {
                breakers.note(provider, true, at(0));
            }
        }
        assert_eq!(breakers.asked(at(1)), [0, 1]);
    }

    #[test]
    fn a_success_in_between_begins_anew() {
        let breakers = Breakers::new(1);
        for _ in 0..10 {
            for _ in 0..4 {
                breakers.note(0, true, at(0));
            }
            breakers.note(0, false, at(0));
        }
        let other = Breakers::new(2);
        other.note(0, true, at(0));
        assert_eq!(other.asked(at(0)), [0, 1]);
        assert_eq!(breakers.asked(at(0)), [0]);
    }
}
