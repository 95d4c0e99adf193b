//! Serving connections, with a bound on everything that one can take: how many there are, how long each may do nothing,
//! be slow, or live, and how much all of them together may have in memory.
//!
//! tonic's own server has some of these bounds, and not the others: it waits for ever for a client that does not begin,
//! never closes one that does nothing, and cuts calls off at the end of a connection's age without having said that it
//! comes. So the connections of hyper, on which it stands as well, are served here.

mod admission;
mod body;
mod handshake;
mod in_flight;
mod lazy_poll;
pub(super) mod quota;
pub(super) mod stream;
pub(super) mod tls;

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Interval, interval_at, sleep, sleep_until, timeout_at};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::transport::server::Connected;
use tower::Service;

use super::metrics::Metrics;
use crate::i18n::Language;
use admission::CallAdmission;
use handshake::HandshakeStream;
use in_flight::{InFlight, ServerLimits};
use lazy_poll::LazyPoll;
pub(in crate::grpc) use quota::Quota;

/// How much of a request may be on its way before we ask for more: most requests fit into it many times, and a larger
/// one waits once.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// The same for all requests of a connection together. It bounds what nobody has read yet.
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// How much of the answers of a stream may wait for a client to read it.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// h2 answers headers above its own limit with HTTP 431, which gRPC clients report as UNKNOWN. Its limit is this many
/// times that of a call, so that most calls whose metadata is too large get a status of ours.
const HEADER_LIMIT_FACTOR: u32 = 4;

/// How many streams a client may begin and reset before we have looked at them, until the connection is closed, and how
/// many may end by its faults. The bounds are for floods; nobody comes near them by cancelling calls.
const MAX_PENDING_RESETS: usize = 64;
const MAX_FAULTY_STREAMS: usize = 1024;

/// How long to wait when a connection could not be accepted, which has no better chance at once: there are no
/// descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often it is told, at most, that connections are refused.
const TELLING_INTERVAL: Duration = Duration::from_secs(60);

/// How long a client without a call may take to say that it has understood that the process ends; and any client, to
/// close its side of a connection on which everything was said.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// The bounds, and in which language they are told where a caller wants none that there is.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// How many connections there may be. More are closed at once.
    pub connections: usize,
    /// How many calls and streams a connection may have at a time.
    pub concurrent_streams: u32,
    /// How many calls all connections may have together, beyond the few that each always may.
    pub concurrent_calls: usize,
    /// Maximum size of the headers of a call in bytes, as RFC 9113 section 6.5.2 counts it: names, values, and 32 for
    /// each field.
    pub header_bytes: u32,
    /// The most bytes of a message.
    pub message_bytes: usize,
    /// The most bytes of large messages and headers of all calls together.
    pub receive_bytes: usize,
    /// How long a connection may take to begin.
    pub handshake_timeout: Duration,
    /// How often a client that says nothing is asked whether it is there, and how long it may take to say so. Else a
    /// client that lost its power would keep its connection.
    pub keepalive_interval: Duration,
    /// See above.
    pub keepalive_timeout: Duration,
    /// How long a connection is kept that has no call, or a little longer.
    pub idle: Duration,
    /// How long a connection is kept.
    pub age: Duration,
    /// How long calls may take to finish after that.
    pub age_grace: Duration,
    /// How long a call may take.
    pub request_timeout: Duration,
    /// The language of callers who want none that there is.
    pub default_language: Language,
}

/// How serving comes to its end.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// No more connections are accepted, clients are told to go, and calls in flight finish.
    pub orderly: CancellationToken,
    /// Everything is cut off.
    pub at_once: CancellationToken,
}

/// Serves connections until `stop` says so, and until they have ended.
///
/// What comes out of `incoming` becomes a connection by being awaited, as one with TLS does. It counts from when it was
/// accepted, and has to become one within the time that all have to begin.
pub(super) async fn serve<A, IO, S>(
    incoming: impl Stream<Item = io::Result<A>>,
    service: S,
    limits: ServerSettings,
    metrics: Arc<Metrics>,
    stop: Stop,
) where
    A: Future<Output = io::Result<IO>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Unpin + Send + 'static,
{
    // Whoever is told to go comes back at once. So nobody is told before the listener is closed: a new connection that
    // still found a place in its queue would be reset, which looks like a call cut off.
    let Stop { orderly, at_once } = stop;
    let nobody_comes = CancellationToken::new();
    let stop = Stop {
        orderly: nobody_comes.clone(),
        at_once,
    };
    let server = Arc::new(ConnectionServer::new(service, limits, metrics.clone(), stop));
    let connections = TaskTracker::new();
    let mut refused = Refused::default();
    {
        let mut incoming = pin!(incoming);
        loop {
            let accepted = tokio::select! {
                biased;
                () = orderly.cancelled() => break,
                accepted = incoming.next() => accepted,
            };
            match accepted {
                None => break,
                Some(Err(error)) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
                // Closed at once, so that its client can go to another replica instead of waiting here for nothing.
                Some(Ok(accepted)) => match server.places.take(1) {
                    None => {
                        metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
                        refused.tell(server.places.taken());
                    }
                    Some(place) => {
                        let server = server.clone();
                        let counted = metrics.connections().take(1);
                        connections.spawn(async move {
                            server.connection(accepted).await;
                            drop((place, counted));
                        });
                    }
                },
            }
        }
        // The listener is closed here: who comes now is refused by the kernel.
    }
    nobody_comes.cancel();
    connections.close();
    connections.wait().await;
}

/// Tells of refused connections, and not of each.
#[derive(Default)]
struct Refused {
    count: u64,
    told: Option<Instant>,
}

impl Refused {
    fn tell(&mut self, open: usize) {
        self.count += 1;
        if self.told.is_some_and(|told| told.elapsed() < TELLING_INTERVAL) {
            return;
        }
        self.told = Some(Instant::now());
        tracing::warn!(
            open,
            refused = self.count,
            "connections are refused: there are too many"
        );
    }
}

/// What all connections are served with.
struct ConnectionServer<S> {
    /// Each connection takes one.
    places: Quota,
    service: S,
    http: http2::Builder<TokioExecutor>,
    shared: ServerLimits,
    limits: ServerSettings,
    stop: Stop,
}

/// Why a connection comes to its end.
#[derive(Clone, Copy, Debug)]
enum Closing {
    Idle,
    Old,
    Stopping,
}

impl<S> ConnectionServer<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Unpin + Send + 'static,
{
    fn new(service: S, limits: ServerSettings, metrics: Arc<Metrics>, stop: Stop) -> Self {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .max_header_list_size(limits.header_bytes.saturating_mul(HEADER_LIMIT_FACTOR))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_concurrent_streams(limits.concurrent_streams)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_FAULTY_STREAMS)
            .keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_timeout);
        let shared = ServerLimits {
            calls: Quota::new(limits.concurrent_calls),
            bytes: Quota::new(limits.receive_bytes),
            max_message_bytes: limits.message_bytes,
            max_header_bytes: limits.header_bytes,
            default_language: limits.default_language,
            metrics,
        };
        Self {
            places: Quota::new(limits.connections),
            service,
            http,
            shared,
            limits,
            stop,
        }
    }

    /// Serves one connection to its end.
    async fn connection<IO>(&self, accepted: impl Future<Output = io::Result<IO>>)
    where
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let limits = &self.limits;
        let begun = Instant::now();
        let deadline = begun + limits.handshake_timeout;
        let opened = tokio::select! {
            biased;
            opened = timeout_at(deadline, accepted) => opened,
            () = self.stop.orderly.cancelled() => return,
        };
        let io = match opened {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return tracing::debug!(%error, "connection failed"),
            Err(_) => return tracing::debug!("connection closed: it did not begin"),
        };
        let in_flight = Arc::new(InFlight::default());
        let closing = CancellationToken::new();
        let connect_info = io.connect_info();
        let no_longer = closing.clone();
        let io = HandshakeStream::new(io, async move {
            tokio::select! {
                () = sleep_until(deadline) => {}
                () = no_longer.cancelled() => {}
            }
        });
        let calls = CallAdmission {
            service: self.service.clone(),
            connect_info,
            in_flight: in_flight.clone(),
            shared: self.shared.clone(),
            closing: closing.clone(),
        };
        let mut http = pin!(self.http.serve_connection(TokioIo::new(io), calls));
        // A call has its time, and then its client has the time to read the answer that it has to say it lives.
        let late = limits.request_timeout + limits.keepalive_timeout;
        let mut turns = interval_at(begun + late, late);
        let why = tokio::select! {
            biased;
            ended = http.as_mut() => return tell_end(ended),
            why = LazyPoll::new(self.closing(begun, &in_flight, &mut turns)) => why,
        };
        let Some(why) = why else {
            return;
        };
        tracing::debug!(?why, "connection closing");
        // New calls of this client go elsewhere, those in flight finish, and streams end.
        http.as_mut().graceful_shutdown();
        closing.cancel();
        tokio::select! {
            biased;
            ended = http.as_mut() => tell_end(ended),
            () = LazyPoll::new(self.cut_off(why, &in_flight, &mut turns)) => {
                tracing::debug!("connection closed: its client did not go");
            }
        }
    }

    /// Waits until a connection has to close, and says why. `None`: at once.
    async fn closing(&self, begun: Instant, in_flight: &InFlight, turns: &mut Interval) -> Option<Closing> {
        let limits = &self.limits;
        let mut old = pin!(sleep_until(begun + jittered(limits.age)));
        let look = limits.idle.min(limits.handshake_timeout);
        let mut looks = interval_at(begun + look, look);
        let (mut calls_seen, mut idle_since) = (0, begun);
        loop {
            let now = tokio::select! {
                () = self.stop.at_once.cancelled() => return None,
                () = self.stop.orderly.cancelled() => return Some(Closing::Stopping),
                () = old.as_mut() => return Some(Closing::Old),
                () = late_call(in_flight, turns) => return None,
                now = looks.tick() => now,
            };
            let calls = in_flight.begun();
            if calls != calls_seen || !in_flight.is_empty() {
                (calls_seen, idle_since) = (calls, now);
                continue;
            }
            // When others are about to find no place, a client that asks nothing gives way.
            let patience = if self.places.is_nearly_used_up() {
                look
            } else {
                limits.idle
            };
            if now.duration_since(idle_since) >= patience {
                return Some(Closing::Idle);
            }
        }
    }

    /// Waits until a connection that is closing is waited for no longer.
    async fn cut_off(&self, why: Closing, in_flight: &InFlight, turns: &mut Interval) {
        let stopping = async {
            match why {
                Closing::Stopping => {}
                Closing::Idle | Closing::Old => self.stop.orderly.cancelled().await,
            }
            // How long calls have then, is said by `stop`.
            sleep(GOODBYE_TIME).await;
            while in_flight.count() > 0 {
                sleep(GOODBYE_TIME).await;
            }
        };
        let grace = async {
            match why {
                Closing::Stopping => pending().await,
                Closing::Idle | Closing::Old => sleep(self.limits.age_grace).await,
            }
        };
        tokio::select! {
            () = self.stop.at_once.cancelled() => {}
            () = late_call(in_flight, turns) => {}
            () = stopping => {}
            () = grace => {}
        }
    }
}

/// Waits until a call is in flight that should long have ended: its client does not read the answer.
async fn late_call(in_flight: &InFlight, turns: &mut Interval) {
    loop {
        turns.tick().await;
        if in_flight.turn() {
            return tracing::debug!("connection closed: its client does not read");
        }
    }
}

fn tell_end(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(error = crate::service::error::chain(&error), "connection failed");
    }
}

/// A tenth more or less, so that connections that began together do not all end together.
fn jittered(time: Duration) -> Duration {
    let random = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    time.mul_f64(0.9 + 0.2 * random)
}

#[cfg(test)]
mod tests;
