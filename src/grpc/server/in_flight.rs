//! Limits of calls in flight: permits for each connection and for all of them.
//!
//! Each connection has some calls of its own; more calls use what all connections share. So a connection with the
//! maximum number of calls takes nothing from one that makes a call at a time. Streams without an end have a count of
//! their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::quota::{Quota, QuotaPermit};
use crate::grpc::metrics::Metrics;
use crate::i18n::Language;

/// The calls that every connection may have in flight, whatever the others do.
const OWN_CALLS: u32 = 8;

/// The streams that a connection may have open. A client needs one Watch for each name of health, and a stream for
/// reflection while somebody looks.
const OWN_STREAMS: u32 = 16;

/// Of the headers and the message of a call, so many bytes each are not counted: nearly all calls have less.
pub(super) const UNCOUNTED_BYTES: usize = 4 * 1024;

/// What all connections share.
#[derive(Clone, Debug)]
pub(super) struct ServerLimits {
    /// Calls in flight beyond the [`OWN_CALLS`] of each connection.
    pub(super) calls: Quota,
    /// Bytes of headers and messages that are above [`UNCOUNTED_BYTES`].
    pub(super) bytes: Quota,
    /// The most bytes of a message.
    pub(super) max_message_bytes: usize,
    /// Maximum size of the headers of a call in bytes.
    pub(super) max_header_bytes: u32,
    /// The language of callers who want none that there is.
    pub(super) default_language: Language,
    /// What is refused here is counted here: the edge does not see it.
    pub(super) metrics: Arc<Metrics>,
}

/// The calls of one connection.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Those that began in this turn, and those that began in the turn before. See [`Self::turn`].
    calls: [AtomicU32; 2],
    turn: AtomicUsize,
    /// Streams without an end.
    streams: AtomicU32,
    /// How many have begun, up to now.
    begun: AtomicU32,
}

impl InFlight {
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0 && self.streams.load(Ordering::Relaxed) == 0
    }

    /// How many calls are in flight; streams are not counted.
    pub(super) fn count(&self) -> u32 {
        let [one, other] = &self.calls;
        one.load(Ordering::Relaxed)
            .saturating_add(other.load(Ordering::Relaxed))
    }

    /// How many calls and streams have begun, up to now.
    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Begins a new turn. Says whether a call is in flight that was already there when the turn before began; then it
    /// begins none.
    pub(super) fn turn(&self) -> bool {
        let next = (self.turn.load(Ordering::Relaxed) + 1) % 2;
        let is_late = self.calls[next].load(Ordering::Relaxed) > 0;
        if !is_late {
            self.turn.store(next, Ordering::Relaxed);
        }
        is_late
    }

    /// Takes one more call. `None`: there are enough.
    pub(super) fn begin(
        self: &Arc<Self>,
        shared: &ServerLimits,
        is_stream: bool,
        header_bytes: usize,
    ) -> Option<CallPermit> {
        let counted = header_bytes.saturating_sub(UNCOUNTED_BYTES);
        let headers = match counted {
            0 => None,
            bytes => Some(shared.bytes.take(bytes)?),
        };
        let mut call = None;
        let counter = if is_stream {
            CallCounter::Stream
        } else {
            if self.count() >= OWN_CALLS {
                call = Some(shared.calls.take(1)?);
            }
            CallCounter::Call(self.turn.load(Ordering::Relaxed) % 2)
        };
        let before = self.counter(counter).fetch_add(1, Ordering::Relaxed);
        let place = CallPermit {
            in_flight: self.clone(),
            counter,
            _shared: (call, headers),
        };
        self.begun.fetch_add(1, Ordering::Relaxed);
        (!is_stream || before < OWN_STREAMS).then_some(place)
    }

    fn counter(&self, counter: CallCounter) -> &AtomicU32 {
        match counter {
            CallCounter::Call(turn) => &self.calls[turn],
            CallCounter::Stream => &self.streams,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum CallCounter {
    Call(usize),
    Stream,
}

/// A call's place among those in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct CallPermit {
    in_flight: Arc<InFlight>,
    counter: CallCounter,
    _shared: (Option<QuotaPermit>, Option<QuotaPermit>),
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        let counter = self.in_flight.counter(self.counter);
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(calls: usize, bytes: usize) -> ServerLimits {
        ServerLimits {
            calls: Quota::new(calls),
            bytes: Quota::new(bytes),
            max_message_bytes: 64 * 1024,
            max_header_bytes: 16 * 1024,
            default_language: Language::English,
            metrics: Arc::new(Metrics::of_nothing()),
        }
    }

    #[test]
    fn a_connection_has_calls_of_its_own_that_no_other_can_take() {
        let shared = shared(3, 0);
        let greedy = Arc::new(InFlight::default());
        let taken: Vec<_> = std::iter::from_fn(|| greedy.begin(&shared, false, 0)).collect();
        assert_eq!(taken.len(), 11);
        let modest = Arc::new(InFlight::default());
        let taken: Vec<_> = std::iter::from_fn(|| modest.begin(&shared, false, 0)).collect();
        assert_eq!(taken.len(), 8);
        drop(taken);
        assert!(modest.is_empty());
    }

    #[test]
    fn streams_are_few_and_take_nothing_from_calls() {
        let shared = shared(0, 0);
        let in_flight = Arc::new(InFlight::default());
        let streams: Vec<_> = std::iter::from_fn(|| in_flight.begin(&shared, true, 0)).collect();
        assert_eq!((streams.len(), in_flight.count()), (16, 0));
        assert!(!in_flight.is_empty());
        assert!(in_flight.begin(&shared, false, 0).is_some());
        drop(streams);
        assert!(in_flight.is_empty());
        assert!(in_flight.begin(&shared, true, 0).is_some());
    }

    #[test]
    fn large_headers_are_bounded_together() {
        let shared = shared(100, 10_000);
        let in_flight = Arc::new(InFlight::default());
        let small = in_flight.begin(&shared, false, UNCOUNTED_BYTES);
        assert!(small.is_some());
        let large = in_flight.begin(&shared, false, UNCOUNTED_BYTES + 10_000);
        assert!(large.is_some());
        assert!(in_flight.begin(&shared, false, UNCOUNTED_BYTES + 1).is_none());
        drop(large);
        assert!(in_flight.begin(&shared, false, UNCOUNTED_BYTES + 1).is_some());
    }

    #[test]
    fn a_call_is_late_after_one_whole_turn() {
        let shared = shared(0, 0);
        let in_flight = Arc::new(InFlight::default());
        assert!(!in_flight.turn());
        let call = in_flight.begin(&shared, false, 0).unwrap();
        // It may have begun a moment ago.
        assert!(!in_flight.turn());
        let later = in_flight.begin(&shared, false, 0).unwrap();
        assert!(in_flight.turn());
        assert!(in_flight.turn());
        drop(call);
        assert!(!in_flight.turn());
        assert!(in_flight.turn());
        drop(later);
        assert!(!in_flight.turn());
    }
}
