//! Lifecycle of one connection: handshake, calls, and the reasons to close it.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Interval, interval_at, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::server::Connected;
use tower::Service;

use super::admission::CallAdmission;
use super::handshake::{CLOSE_TIMEOUT, HandshakeStream};
use super::in_flight::{InFlight, ServerLimits};
use super::lazy_poll::LazyPoll;
use super::quota::Quota;
use super::{ServerSettings, Shutdown};
use crate::grpc::metrics::Metrics;
use crate::service::error::chain;

/// Flow-control window of a request, in bytes. Most requests are much smaller, and a larger one waits once.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// Flow-control window of all requests of a connection together, in bytes. It limits what is received and not yet read.
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// Maximum size of the part of a response that waits for its client, in bytes.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Factor from the header limit of a call to that of h2. h2 answers larger headers with HTTP 431, which gRPC clients
/// report as UNKNOWN. With this factor, most calls with too large metadata get a status of the contract instead.
const HEADER_LIMIT_FACTOR: u32 = 4;

/// Maximum number of streams that a client has started and reset before the server has accepted them. A client that
/// exceeds it loses its connection. Cancelled calls do not come near this limit, which is for floods.
const MAX_PENDING_RESETS: usize = 64;

/// Maximum number of streams that the server has reset because of protocol errors of the client. As above.
const MAX_FAULTY_STREAMS: usize = 1024;

/// Serves connections with the same service and limits.
pub(super) struct ConnectionServer<S> {
    /// Each connection acquires one.
    connections: Quota,
    service: S,
    http: http2::Builder<TokioExecutor>,
    shared: ServerLimits,
    limits: ServerSettings,
    shutdown: Shutdown,
}

/// Why a connection is closed gracefully.
#[derive(Clone, Copy, Debug)]
enum CloseReason {
    Idle,
    MaxAge,
    Shutdown,
}

impl<S> ConnectionServer<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Unpin + Send + 'static,
{
    pub(super) fn new(service: S, limits: ServerSettings, metrics: Arc<Metrics>, shutdown: Shutdown) -> Self {
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
            connections: Quota::new(limits.connections),
            service,
            http,
            shared,
            limits,
            shutdown,
        }
    }

    /// Returns the quota of connections.
    pub(super) fn connections(&self) -> &Quota {
        &self.connections
    }

    /// Serves one connection until it is closed.
    pub(super) async fn serve<IO>(&self, accepted: impl Future<Output = io::Result<IO>>)
    where
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let limits = &self.limits;
        let begun = Instant::now();
        let deadline = begun + limits.handshake_timeout;
        let opened = tokio::select! {
            biased;
            opened = timeout_at(deadline, accepted) => opened,
            () = self.shutdown.graceful.cancelled() => return,
        };
        let io = match opened {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return tracing::debug!(%error, "connection failed"),
            Err(_) => return tracing::debug!("connection closed: handshake timeout"),
        };
        let in_flight = Arc::new(InFlight::default());
        let closing = CancellationToken::new();
        let connect_info = io.connect_info();
        let is_closing = closing.clone();
        let io = HandshakeStream::new(io, async move {
            tokio::select! {
                () = sleep_until(deadline) => {}
                () = is_closing.cancelled() => {}
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
        // A call has its timeout, and its client then has the keep-alive timeout to read the response.
        let overdue = limits.request_timeout + limits.keepalive_timeout;
        let mut rotations = interval_at(begun + overdue, overdue);
        let reason = tokio::select! {
            biased;
            result = http.as_mut() => return log_result(result),
            reason = LazyPoll::new(self.close_reason(begun, &in_flight, &mut rotations)) => reason,
        };
        let Some(reason) = reason else {
            return;
        };
        tracing::debug!(?reason, "connection closing");
        // The client gets a GOAWAY. Calls in flight finish, and streams end.
        http.as_mut().graceful_shutdown();
        closing.cancel();
        tokio::select! {
            biased;
            result = http.as_mut() => log_result(result),
            () = LazyPoll::new(self.force_close(reason, &in_flight, &mut rotations)) => {
                tracing::debug!("connection closed: its client did not close it in time");
            }
        }
    }

    /// Waits until the connection has to be closed. `None`: immediately, without a GOAWAY.
    async fn close_reason(
        &self,
        begun: Instant,
        in_flight: &InFlight,
        rotations: &mut Interval,
    ) -> Option<CloseReason> {
        let limits = &self.limits;
        let mut max_age = pin!(sleep_until(begun + jittered(limits.age)));
        let check_interval = limits.idle.min(limits.handshake_timeout);
        let mut checks = interval_at(begun + check_interval, check_interval);
        let (mut calls_seen, mut idle_since) = (0, begun);
        loop {
            let now = tokio::select! {
                () = self.shutdown.immediate.cancelled() => return None,
                () = self.shutdown.graceful.cancelled() => return Some(CloseReason::Shutdown),
                () = max_age.as_mut() => return Some(CloseReason::MaxAge),
                () = overdue_call(in_flight, rotations) => return None,
                now = checks.tick() => now,
            };
            let calls = in_flight.begun();
            if calls != calls_seen || !in_flight.is_empty() {
                (calls_seen, idle_since) = (calls, now);
                continue;
            }
            // When the limit of connections is near, an idle connection is closed early.
            let idle_timeout = if self.connections.is_nearly_exhausted() {
                check_interval
            } else {
                limits.idle
            };
            if now.duration_since(idle_since) >= idle_timeout {
                return Some(CloseReason::Idle);
            }
        }
    }

    /// Waits until a connection that is closing gracefully has to be closed by force.
    async fn force_close(&self, reason: CloseReason, in_flight: &InFlight, rotations: &mut Interval) {
        let shutdown = async {
            match reason {
                CloseReason::Shutdown => {}
                CloseReason::Idle | CloseReason::MaxAge => self.shutdown.graceful.cancelled().await,
            }
            // Calls in flight finish: `shutdown.immediate` limits their time.
            sleep(CLOSE_TIMEOUT).await;
            while in_flight.count() > 0 {
                sleep(CLOSE_TIMEOUT).await;
            }
        };
        let grace = async {
            match reason {
                CloseReason::Shutdown => pending().await,
                CloseReason::Idle | CloseReason::MaxAge => sleep(self.limits.age_grace).await,
            }
        };
        tokio::select! {
            () = self.shutdown.immediate.cancelled() => {}
            () = overdue_call(in_flight, rotations) => {}
            () = shutdown => {}
            () = grace => {}
        }
    }
}

/// Waits until a call is overdue. Its timeout has passed, so its client does not read the response.
async fn overdue_call(in_flight: &InFlight, rotations: &mut Interval) {
    loop {
        rotations.tick().await;
        if in_flight.rotate() {
            return tracing::debug!("connection closed: its client does not read");
        }
    }
}

fn log_result(result: Result<(), hyper::Error>) {
    if let Err(error) = result {
        tracing::debug!(error = chain(&error), "connection failed");
    }
}

/// Returns `time` with up to a tenth more or less, so that connections that began together do not end together.
pub(super) fn jittered(time: Duration) -> Duration {
    let random = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    time.mul_f64(0.9 + 0.2 * random)
}
