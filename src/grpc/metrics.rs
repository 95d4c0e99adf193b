//! What is counted about connections and calls.
//!
//! Every call counts, so the counters of an RPC are there several times, for as many threads: each thread adds to its
//! own, on cache lines that no other thread writes to, and they are summed up when somebody asks.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tonic::Code;

use super::server::quota::Quota;
use crate::domain::throttle::SubjectKind;
use crate::proto::{self, Rpc};
use crate::telemetry::histogram::Times;
use crate::telemetry::tracing::CallTrace;

/// The codes of gRPC as its specification spells them, in the order of their numbers.
pub const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The upper bounds of the buckets of calls, in microseconds: a check from memory is in the first ones, a hash in the
/// middle.
const CALL_BOUNDS_MICROSECONDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

const BUCKETS: usize = CALL_BOUNDS_MICROSECONDS.len() + 1;

/// What calls are called that are none of our RPCs: of health and reflection, and of paths that callers made up.
const OTHER: &str = "other";

/// The path of ValidateSession.
pub(super) const VALIDATE_SESSION: &str = "/phone_identity.v1.PhoneIdentity/ValidateSession";

/// How many times each counter is there. More threads share some.
const STRIPES: usize = 16;

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    /// Paths of our RPCs, with their leading slash, and their places.
    places: HashMap<String, usize>,
    /// The names of RPCs in the order of their places, and [`OTHER`].
    names: Vec<String>,
    validate_session: RpcIndex,
    stripes: Box<[Vec<Counters>]>,
    /// Of each place and kind of subject.
    throttled: Vec<[AtomicU64; SubjectKind::ALL.len()]>,
    connections: Quota,
    pub(super) connections_refused: AtomicU64,
}

/// Which RPC a call is of: a place in [`proto::rpcs`], or the one after the last for what is no RPC of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct RpcIndex(usize);

impl RpcIndex {
    pub(super) const fn index(self) -> usize {
        self.0
    }
}

/// What one stripe counts of one RPC.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counters {
    begun: AtomicU64,
    ended: [AtomicU64; CODES.len()],
    buckets: [AtomicU64; BUCKETS],
    microseconds: AtomicU64,
}

/// What was counted of one RPC.
#[derive(Clone, Debug)]
pub struct Calls<'a> {
    /// Its name, `package.Service/Method`, or `other`.
    pub rpc: &'a str,
    /// How many calls ended with each of [`CODES`].
    pub ended: [u64; CODES.len()],
    /// How long they took, from their headers to those of the answer.
    pub times: Times,
    /// How many are in flight.
    pub in_flight: u64,
    /// How many were refused because of too many attempts, for each of [`SubjectKind::ALL`].
    pub throttled: [u64; SubjectKind::ALL.len()],
}

impl Metrics {
    /// Nothing is counted yet.
    ///
    /// # Errors
    /// When the compiled-in descriptors cannot be read.
    pub fn new() -> Result<Self, prost::DecodeError> {
        let names = proto::rpcs()?.iter().map(Rpc::full_name).collect();
        Ok(Self::of(names))
    }

    fn of(mut names: Vec<String>) -> Self {
        let path = |(place, name)| (format!("/{name}"), place);
        let places: HashMap<String, usize> = (0..).zip(&names).map(path).collect();
        names.push(OTHER.to_owned());
        let other = names.len() - 1;
        let counters = || names.iter().map(|_| Counters::default()).collect();
        Self {
            validate_session: RpcIndex(places.get(VALIDATE_SESSION).copied().unwrap_or(other)),
            stripes: (0..STRIPES).map(|_| counters()).collect(),
            throttled: names.iter().map(|_| Default::default()).collect(),
            connections: Quota::new(usize::MAX),
            connections_refused: AtomicU64::new(0),
            places,
            names,
        }
    }

    /// Counters for no RPCs.
    #[cfg(test)]
    pub(super) fn of_nothing() -> Self {
        Self::of(Vec::new())
    }

    /// Which RPC has this path.
    pub(super) fn place(&self, path: &str) -> RpcIndex {
        if path == VALIDATE_SESSION {
            return self.validate_session;
        }
        RpcIndex(self.places.get(path).copied().unwrap_or(self.names.len() - 1))
    }

    /// Whether it is an RPC of ours. The path of any other is the caller's own text.
    pub(super) fn is_ours(&self, place: RpcIndex) -> bool {
        place.0 < self.names.len() - 1
    }

    fn counters(&self, place: RpcIndex) -> &Counters {
        &self.stripes[stripe()][place.0]
    }

    /// Counts a call that began at this time.
    pub(super) fn begin(self: &Arc<Self>, place: RpcIndex, begun: Instant) -> CountedCall {
        self.counters(place).begun.fetch_add(1, Ordering::Relaxed);
        CountedCall {
            metrics: self.clone(),
            place,
            begun,
            code: Code::Cancelled,
            trace: None,
        }
    }

    /// Counts a call that was refused before it began.
    pub(super) fn refused(self: &Arc<Self>, path: &str, code: Code) {
        self.begin(self.place(path), Instant::now()).end(code);
    }

    /// The connections that are open. Each takes one.
    pub(super) fn connections(&self) -> &Quota {
        &self.connections
    }

    /// How many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.connections.taken()
    }

    /// How many connections were closed at once, since there were too many.
    #[must_use]
    pub fn refused_connections(&self) -> u64 {
        self.connections_refused.load(Ordering::Relaxed)
    }

    /// What was counted of each RPC.
    pub fn calls(&self) -> impl Iterator<Item = Calls<'_>> {
        self.names.iter().enumerate().map(|(place, name)| {
            let mut calls = Calls {
                rpc: name,
                ended: [0; CODES.len()],
                times: Times {
                    bounds: &CALL_BOUNDS_MICROSECONDS,
                    counts: vec![0; BUCKETS],
                    microseconds: 0,
                },
                in_flight: 0,
                throttled: std::array::from_fn(|kind| read(&self.throttled[place][kind])),
            };
            let mut begun: u64 = 0;
            for counters in self.stripes.iter().map(|stripe| &stripe[place]) {
                add_all(&mut calls.ended, &counters.ended);
                add_all(&mut calls.times.counts, &counters.buckets);
                calls.times.microseconds += read(&counters.microseconds);
                begun += read(&counters.begun);
            }
            // One that began after its stripe was read may have ended on one that was not.
            calls.in_flight = begun.saturating_sub(calls.ended.iter().sum());
            calls
        })
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add_all(sums: &mut [u64], counters: &[AtomicU64]) {
    for (sum, counter) in sums.iter_mut().zip(counters) {
        *sum += read(counter);
    }
}

/// The stripe of this thread.
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<Option<usize>> = const { Cell::new(None) };
    }
    STRIPE.get().unwrap_or_else(|| {
        let stripe = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
        STRIPE.set(Some(stripe));
        stripe
    })
}

/// A call that was counted. If it is dropped before it has ended, its caller has gone: CANCELLED.
#[derive(Debug)]
pub(super) struct CountedCall {
    metrics: Arc<Metrics>,
    place: RpcIndex,
    begun: Instant,
    code: Code,
    trace: Option<CallTrace>,
}

impl CountedCall {
    /// The call has this span, which ends with it.
    pub(super) fn with_trace(mut self, trace: Option<&CallTrace>) -> Self {
        self.trace = trace.cloned();
        self
    }

    /// The call has ended so.
    pub(super) fn end(mut self, code: Code) {
        self.code = code;
    }

    /// The call is refused because of too many attempts of this kind.
    pub(super) fn throttled(&self, kind: SubjectKind) {
        self.metrics.throttled[self.place.0][kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How long it has taken up to now.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for CountedCall {
    fn drop(&mut self) {
        let counters = self.metrics.counters(self.place);
        let microseconds = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let bucket = CALL_BOUNDS_MICROSECONDS.partition_point(|bound| *bound < microseconds);
        let code = usize::try_from(i32::from(self.code)).unwrap_or_default();
        counters.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        counters.microseconds.fetch_add(microseconds, Ordering::Relaxed);
        counters.ended[code].fetch_add(1, Ordering::Relaxed);
        if let Some(trace) = &self.trace {
            trace.end(self.code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(metrics: &Metrics, rpc: &str) -> ([u64; CODES.len()], u64, u64) {
        let calls = metrics.calls().find(|calls| calls.rpc == rpc).unwrap();
        (calls.ended, calls.times.counts.iter().sum(), calls.in_flight)
    }

    #[test]
    fn codes_are_named_as_tonic_numbers_them() {
        for (number, name) in (0..).zip(CODES) {
            let code = format!("{:?}", Code::from_i32(number)).to_uppercase();
            assert_eq!(code, name.replace('_', ""));
        }
    }

    #[test]
    fn a_call_is_in_flight_until_it_ends() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let register = &VALIDATE_SESSION.replace("ValidateSession", "Register");
        let call = metrics.begin(metrics.place(register), Instant::now());
        assert_eq!(of(&metrics, &register[1..]).2, 1);
        call.end(Code::AlreadyExists);
        let (ended, times, in_flight) = of(&metrics, &register[1..]);
        assert_eq!((ended[6], times, in_flight), (1, 1, 0));
        assert_eq!(ended.iter().sum::<u64>(), 1);
    }

    #[test]
    fn a_call_whose_caller_goes_is_cancelled() {
        let metrics = Arc::new(Metrics::new().unwrap());
        drop(metrics.begin(metrics.place(VALIDATE_SESSION), Instant::now()));
        assert_eq!(of(&metrics, &VALIDATE_SESSION[1..]).0[1], 1);
    }

    #[test]
    fn what_callers_make_up_has_one_name() {
        let metrics = Arc::new(Metrics::new().unwrap());
        metrics.refused("/+998901234567", Code::Unavailable);
        metrics.refused("/grpc.health.v1.Health/Check", Code::Ok);
        let (ended, ..) = of(&metrics, OTHER);
        assert_eq!((ended[14], ended[0]), (1, 1));
        let is_ours = |path| metrics.is_ours(metrics.place(path));
        assert!(is_ours(VALIDATE_SESSION) && !is_ours("/other"));
    }

    #[test]
    fn threads_count_together() {
        let metrics = Arc::new(Metrics::new().unwrap());
        std::thread::scope(|scope| {
            for _ in 0..2 * STRIPES {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let place = metrics.place(VALIDATE_SESSION);
                        metrics.begin(place, Instant::now()).end(Code::Ok);
                    }
                });
            }
        });
        let (ended, times, in_flight) = of(&metrics, &VALIDATE_SESSION[1..]);
        assert_eq!((ended[0], times, in_flight), (3_200, 3_200, 0));
    }
}
