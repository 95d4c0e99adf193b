//! Limits of calls in flight, per connection and for all connections together, with RAII permits.
//!
//! Each connection has a few calls of its own. Further calls use a quota that all connections share. So a connection
//! with many calls does not block one with a call at a time. Endless streams have a limit of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::quota::{Quota, QuotaPermit};
use crate::grpc::metrics::Metrics;
use crate::i18n::Language;

/// Number of calls that each connection can always have in flight, independent of other connections.
const OWN_CALLS: u32 = 8;

/// Maximum number of endless streams of a connection. A client needs one Watch for each name of health, and one stream
/// for reflection.
const OWN_STREAMS: u32 = 16;

/// Size up to which the headers of a call, and its message, use no shared quota, in bytes. Nearly all are smaller.
pub(super) const UNCOUNTED_BYTES: usize = 4 * 1024;

/// The quotas and limits that all connections share.
#[derive(Clone, Debug)]
pub(super) struct ServerLimits {
    /// Calls in flight beyond the [`OWN_CALLS`] of each connection.
    pub(super) calls: Quota,
    /// Bytes of headers and messages above [`UNCOUNTED_BYTES`].
    pub(super) bytes: Quota,
    /// Maximum size of a message in bytes.
    pub(super) max_message_bytes: usize,
    /// Maximum size of the headers of a call in bytes.
    pub(super) max_header_bytes: u32,
    /// Fallback language when the requested one is not available.
    pub(super) default_language: Language,
    /// Counts the calls that are refused before they reach the middleware.
    pub(super) metrics: Arc<Metrics>,
}

/// The calls of one connection.
///
/// Calls are counted in two generations: a call that outlives a whole generation is overdue.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Calls in flight by the generation in which they began: the current and the previous one.
    calls: [AtomicU32; 2],
    generation: AtomicUsize,
    /// Endless streams.
    streams: AtomicU32,
    /// Number of calls and streams that have begun.
    begun: AtomicU32,
}

impl InFlight {
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0 && self.streams.load(Ordering::Relaxed) == 0
    }

    /// Returns the number of calls in flight, without streams.
    pub(super) fn count(&self) -> u32 {
        let [first, second] = &self.calls;
        first
            .load(Ordering::Relaxed)
            .saturating_add(second.load(Ordering::Relaxed))
    }

    /// Returns the number of calls and streams that have begun.
    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Begins a new generation. Returns whether a call of the previous generation is still in flight; if so, no new
    /// generation begins.
    pub(super) fn rotate(&self) -> bool {
        let next = (self.generation.load(Ordering::Relaxed) + 1) % 2;
        let is_overdue = self.calls[next].load(Ordering::Relaxed) > 0;
        if !is_overdue {
            self.generation.store(next, Ordering::Relaxed);
        }
        is_overdue
    }

    /// Returns the permit of a new call with headers of this size. `None`: a limit is reached.
    pub(super) fn begin(
        self: &Arc<Self>,
        shared: &ServerLimits,
        is_stream: bool,
        header_bytes: usize,
    ) -> Option<CallPermit> {
        let counted = header_bytes.saturating_sub(UNCOUNTED_BYTES);
        let headers = match counted {
            0 => None,
            bytes => Some(shared.bytes.acquire(bytes)?),
        };
        let mut call = None;
        let counter = if is_stream {
            CallCounter::Stream
        } else {
            if self.count() >= OWN_CALLS {
                call = Some(shared.calls.acquire(1)?);
            }
            CallCounter::Call(self.generation.load(Ordering::Relaxed) % 2)
        };
        let before = self.counter(counter).fetch_add(1, Ordering::Relaxed);
        // If the limit of streams is reached, the drop of the permit corrects the count.
        let permit = CallPermit {
            in_flight: self.clone(),
            counter,
            _shared: (call, headers),
        };
        self.begun.fetch_add(1, Ordering::Relaxed);
        (!is_stream || before < OWN_STREAMS).then_some(permit)
    }

    fn counter(&self, counter: CallCounter) -> &AtomicU32 {
        match counter {
            CallCounter::Call(generation) => &self.calls[generation],
            CallCounter::Stream => &self.streams,
        }
    }
}

/// The counter of a call.
#[derive(Clone, Copy, Debug)]
enum CallCounter {
    /// Of this generation.
    Call(usize),
    Stream,
}

/// Permit of a call in flight. The call ends when it is dropped.
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
            metrics: Arc::new(Metrics::without_rpcs()),
        }
    }

    #[test]
    fn other_connections_cannot_use_the_own_calls_of_a_connection() {
        let shared = shared(3, 0);
        let greedy = Arc::new(InFlight::default());
        let shared_and_own: Vec<_> = std::iter::from_fn(|| greedy.begin(&shared, false, 0)).collect();
        assert_eq!(shared_and_own.len(), 11);
        let modest = Arc::new(InFlight::default());
        let own: Vec<_> = std::iter::from_fn(|| modest.begin(&shared, false, 0)).collect();
        assert_eq!(own.len(), 8);
        drop(own);
        assert!(modest.is_empty());
    }

    #[test]
    fn streams_have_a_limit_and_do_not_count_as_calls() {
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
    fn large_headers_share_a_limit() {
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
    fn a_call_is_overdue_after_a_whole_generation() {
        let shared = shared(0, 0);
        let in_flight = Arc::new(InFlight::default());
        assert!(!in_flight.rotate());
        let call = in_flight.begin(&shared, false, 0).unwrap();
        // The call may have begun just before.
        assert!(!in_flight.rotate());
        let later = in_flight.begin(&shared, false, 0).unwrap();
        assert!(in_flight.rotate());
        assert!(in_flight.rotate());
        drop(call);
        assert!(!in_flight.rotate());
        assert!(in_flight.rotate());
        drop(later);
        assert!(!in_flight.rotate());
    }
}
