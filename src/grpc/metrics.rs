//! Striped counters of connections and calls.
//!
//! Every call updates the counters of its RPC. Each RPC has several copies (stripes) of its counters on separate cache
//! lines, and each thread updates its own stripe, so that threads do not contend. A reading sums the stripes.

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

/// The status codes of gRPC as its specification spells them, in the order of their numbers.
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

/// The upper bounds of the histogram buckets, in microseconds. A session check from memory is in the first buckets, a
/// password hash in the middle.
const CALL_BOUNDS_MICROSECONDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

const BUCKETS: usize = CALL_BOUNDS_MICROSECONDS.len() + 1;

/// The label of all other calls: health, reflection, and unknown paths, which are text of the caller.
const OTHER: &str = "other";

/// The path of ValidateSession.
pub(super) const VALIDATE_SESSION: &str = "/phone_identity.v1.PhoneIdentity/ValidateSession";

/// The number of stripes. If there are more threads, some of them share a stripe.
const STRIPES: usize = 16;

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    /// The index of each of our RPCs by its path, with the leading slash.
    indices: HashMap<String, usize>,
    /// The names of our RPCs in the order of their indices, and then [`OTHER`].
    names: Vec<String>,
    validate_session: RpcIndex,
    stripes: Box<[Vec<Counters>]>,
    /// Throttled calls by RPC and kind of throttle subject.
    throttled: Vec<[AtomicU64; SubjectKind::ALL.len()]>,
    connections: Quota,
    pub(super) connections_refused: AtomicU64,
}

/// The RPC of a call: an index of [`proto::rpcs`], or the number of RPCs for any other call.
#[derive(Clone, Copy, Debug)]
pub(super) struct RpcIndex(usize);

/// The counters of one RPC in one stripe.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counters {
    begun: AtomicU64,
    ended: [AtomicU64; CODES.len()],
    buckets: [AtomicU64; BUCKETS],
    microseconds: AtomicU64,
}

/// A reading of the counters of one RPC.
#[derive(Clone, Debug)]
pub struct Calls<'a> {
    /// Its name, `package.Service/Method`, or `other`.
    pub rpc: &'a str,
    /// The number of calls that ended with each of [`CODES`].
    pub ended: [u64; CODES.len()],
    /// Their durations, from the headers of the request to the headers of the response.
    pub times: Times,
    /// The number of calls in flight.
    pub in_flight: u64,
    /// The number of calls that were refused after too many attempts, for each of [`SubjectKind::ALL`].
    pub throttled: [u64; SubjectKind::ALL.len()],
}

impl Metrics {
    /// Returns counters for all RPCs of the contract, with the value 0.
    ///
    /// # Errors
    /// When the compiled-in descriptors cannot be read.
    pub fn new() -> Result<Self, prost::DecodeError> {
        let names = proto::rpcs()?.iter().map(Rpc::full_name).collect();
        Ok(Self::of(names))
    }

    fn of(mut names: Vec<String>) -> Self {
        let by_path = |(index, name)| (format!("/{name}"), index);
        let indices: HashMap<String, usize> = (0..).zip(&names).map(by_path).collect();
        names.push(OTHER.to_owned());
        let other = names.len() - 1;
        let counters = || names.iter().map(|_| Counters::default()).collect();
        Self {
            validate_session: RpcIndex(indices.get(VALIDATE_SESSION).copied().unwrap_or(other)),
            stripes: (0..STRIPES).map(|_| counters()).collect(),
            throttled: names.iter().map(|_| Default::default()).collect(),
            connections: Quota::new(usize::MAX),
            connections_refused: AtomicU64::new(0),
            indices,
            names,
        }
    }

    /// Returns counters that count every call as [`OTHER`].
    #[cfg(test)]
    pub(super) fn without_rpcs() -> Self {
        Self::of(Vec::new())
    }

    /// Returns the RPC with this path.
    pub(super) fn rpc_index(&self, path: &str) -> RpcIndex {
        if path == VALIDATE_SESSION {
            return self.validate_session;
        }
        RpcIndex(self.indices.get(path).copied().unwrap_or(self.names.len() - 1))
    }

    /// Whether the RPC belongs to our contract. The path of another call is text of the caller.
    pub(super) fn is_ours(&self, rpc: RpcIndex) -> bool {
        rpc.0 < self.names.len() - 1
    }

    /// Returns the name of an RPC, `package.Service/Method`. `None`: it does not belong to our contract.
    pub(super) fn name(&self, rpc: RpcIndex) -> Option<&str> {
        let name = self.names.get(rpc.0).filter(|_| self.is_ours(rpc));
        name.map(String::as_str)
    }

    fn counters(&self, rpc: RpcIndex) -> &Counters {
        &self.stripes[stripe()][rpc.0]
    }

    /// Counts a call that began at this time.
    pub(super) fn begin(self: &Arc<Self>, rpc: RpcIndex, begun: Instant) -> CountedCall {
        self.counters(rpc).begun.fetch_add(1, Ordering::Relaxed);
        CountedCall {
            metrics: self.clone(),
            rpc,
            begun,
            code: Code::Cancelled,
            trace: None,
        }
    }

    /// Counts a call that was refused before it reached the middleware.
    pub(super) fn refused(self: &Arc<Self>, path: &str, code: Code) {
        self.begin(self.rpc_index(path), Instant::now()).end(code);
    }

    /// Returns the quota that counts open connections. It has no limit.
    pub(super) fn connections(&self) -> &Quota {
        &self.connections
    }

    /// Returns the number of open connections.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.connections.in_use()
    }

    /// Returns the number of connections that were refused because the limit was reached.
    #[must_use]
    pub fn refused_connections(&self) -> u64 {
        self.connections_refused.load(Ordering::Relaxed)
    }

    /// Returns a reading for each RPC, and for all other calls.
    pub fn calls(&self) -> impl Iterator<Item = Calls<'_>> {
        self.names.iter().enumerate().map(|(index, name)| {
            let mut calls = Calls {
                rpc: name,
                ended: [0; CODES.len()],
                times: Times {
                    bounds: &CALL_BOUNDS_MICROSECONDS,
                    counts: vec![0; BUCKETS],
                    microseconds: 0,
                },
                in_flight: 0,
                throttled: std::array::from_fn(|kind| read(&self.throttled[index][kind])),
            };
            let mut begun: u64 = 0;
            for counters in self.stripes.iter().map(|stripe| &stripe[index]) {
                add_all(&mut calls.ended, &counters.ended);
                add_all(&mut calls.times.counts, &counters.buckets);
                calls.times.microseconds += read(&counters.microseconds);
                begun += read(&counters.begun);
            }
            // A call can begin in a stripe that was read already and end in one that is read later.
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

/// Returns the stripe of this thread.
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

/// A call in flight. If it is dropped before it ends, the client has cancelled the call: CANCELLED.
#[derive(Debug)]
pub(super) struct CountedCall {
    metrics: Arc<Metrics>,
    rpc: RpcIndex,
    begun: Instant,
    code: Code,
    trace: Option<CallTrace>,
}

impl CountedCall {
    /// Adds the trace of the call. Its span ends when the call ends.
    pub(super) fn with_trace(mut self, trace: Option<CallTrace>) -> Self {
        self.trace = trace;
        self
    }

    /// Returns the RPC of the call.
    pub(super) fn rpc(&self) -> RpcIndex {
        self.rpc
    }

    /// Returns the trace of the call. `None`: the call is not traced.
    pub(super) fn trace(&self) -> Option<&CallTrace> {
        self.trace.as_ref()
    }

    /// Ends the call with this code.
    pub(super) fn end(mut self, code: Code) {
        self.code = code;
    }

    /// Counts that the call is refused after too many attempts of this kind of subject.
    pub(super) fn throttled(&self, kind: SubjectKind) {
        self.metrics.throttled[self.rpc.0][kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the time since the call began.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Drop for CountedCall {
    fn drop(&mut self) {
        let counters = self.metrics.counters(self.rpc);
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

    fn reading(metrics: &Metrics, rpc: &str) -> ([u64; CODES.len()], u64, u64) {
        let calls = metrics.calls().find(|calls| calls.rpc == rpc).unwrap();
        (calls.ended, calls.times.counts.iter().sum(), calls.in_flight)
    }

    #[test]
    fn code_names_match_the_numbers_of_tonic() {
        for (number, name) in (0..).zip(CODES) {
            let code = format!("{:?}", Code::from_i32(number)).to_uppercase();
            assert_eq!(code, name.replace('_', ""));
        }
    }

    #[test]
    fn a_call_is_in_flight_until_it_ends() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let register = &VALIDATE_SESSION.replace("ValidateSession", "Register");
        let call = metrics.begin(metrics.rpc_index(register), Instant::now());
        assert_eq!(reading(&metrics, &register[1..]).2, 1);
        call.end(Code::AlreadyExists);
        let (ended, times, in_flight) = reading(&metrics, &register[1..]);
        assert_eq!((ended[6], times, in_flight), (1, 1, 0));
        assert_eq!(ended.iter().sum::<u64>(), 1);
    }

    #[test]
    fn a_dropped_call_is_cancelled() {
        let metrics = Arc::new(Metrics::new().unwrap());
        drop(metrics.begin(metrics.rpc_index(VALIDATE_SESSION), Instant::now()));
        assert_eq!(reading(&metrics, &VALIDATE_SESSION[1..]).0[1], 1);
    }

    #[test]
    fn unknown_paths_share_one_label() {
        let metrics = Arc::new(Metrics::new().unwrap());
        metrics.refused("/+998901234567", Code::Unavailable);
        metrics.refused("/grpc.health.v1.Health/Check", Code::Ok);
        let (ended, ..) = reading(&metrics, OTHER);
        assert_eq!((ended[14], ended[0]), (1, 1));
        let is_ours = |path| metrics.is_ours(metrics.rpc_index(path));
        assert!(is_ours(VALIDATE_SESSION) && !is_ours("/other"));
    }

    #[test]
    fn the_stripes_of_all_threads_are_summed() {
        let metrics = Arc::new(Metrics::new().unwrap());
        std::thread::scope(|scope| {
            for _ in 0..2 * STRIPES {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let rpc = metrics.rpc_index(VALIDATE_SESSION);
                        metrics.begin(rpc, Instant::now()).end(Code::Ok);
                    }
                });
            }
        });
        let (ended, times, in_flight) = reading(&metrics, &VALIDATE_SESSION[1..]);
        assert_eq!((ended[0], times, in_flight), (3_200, 3_200, 0));
    }
}
