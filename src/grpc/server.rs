//! HTTP/2 server with limits: the number of connections, how long each may be idle, slow or open, and the memory that
//! all connections together may use.
//!
//! It serves connections with hyper, as tonic's own server does. tonic's server has no limit of connections, waits
//! without a timeout for a client that does not start the handshake, does not close idle connections, and resets the
//! calls of a connection that reaches its maximum age without a GOAWAY before. Its graceful shutdown has no timeout.
//! This server can be removed when tonic has these limits and a timeout of its graceful shutdown.

mod admission;
mod body;
mod connection;
mod handshake;
mod in_flight;
mod lazy_poll;
pub(super) mod quota;
pub(super) mod stream;
pub(super) mod tls;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::transport::server::Connected;
use tower::Service;

use super::metrics::Metrics;
use crate::i18n::Language;
use connection::ConnectionServer;

/// Pause after a connection could not be accepted. The usual reason is a lack of file descriptors, so an immediate
/// retry would fail, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Minimum time between two log lines about refused connections.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The limits of the server, and the fallback language of its errors.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Maximum number of connections. Further ones are closed immediately.
    pub connections: usize,
    /// Maximum number of concurrent calls and streams per connection.
    pub concurrent_streams: u32,
    /// Maximum number of concurrent calls of all connections together. A few calls of each connection do not count.
    pub concurrent_calls: usize,
    /// Maximum size of the headers of a call in bytes, as RFC 9113 section 6.5.2 counts it: names, values, and 32 for
    /// each field.
    pub header_bytes: u32,
    /// Maximum size of a message in bytes.
    pub message_bytes: usize,
    /// Maximum number of bytes of large messages and headers of all calls together.
    pub receive_bytes: usize,
    /// Timeout of TLS and of the start of HTTP/2.
    pub handshake_timeout: Duration,
    /// Interval of HTTP/2 pings to a silent client. They find clients that lost power or network.
    pub keepalive_interval: Duration,
    /// Timeout of the response to a ping.
    pub keepalive_timeout: Duration,
    /// Idle timeout of a connection without calls. Checks are periodic, so a connection can stay a little longer.
    pub idle: Duration,
    /// Maximum age of a connection.
    pub age: Duration,
    /// Time that the calls of a connection have to finish after its maximum age.
    pub age_grace: Duration,
    /// Maximum timeout of a call.
    pub request_timeout: Duration,
    /// Fallback language when the requested one is not available.
    pub default_language: Language,
}

/// The signals that end the server.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Graceful shutdown: connections are no longer accepted, clients get a GOAWAY, and calls in flight finish.
    pub graceful: CancellationToken,
    /// All connections are closed immediately.
    pub immediate: CancellationToken,
}

/// Serves connections until `shutdown` is triggered and all connections have ended.
///
/// An item of `incoming` becomes a connection when it is awaited, for example after its TLS handshake. It counts as a
/// connection from when it was accepted, and the timeout of the handshake includes that step.
pub(super) async fn serve<A, IO, S>(
    incoming: impl Stream<Item = io::Result<A>>,
    service: S,
    limits: ServerSettings,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) where
    A: Future<Output = io::Result<IO>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Unpin + Send + 'static,
{
    // A client that gets a GOAWAY reconnects at once. So the listener is closed before any GOAWAY is sent: a new
    // connection that was still in the accept queue would be reset, which looks like an interrupted call.
    let Shutdown { graceful, immediate } = shutdown;
    let listener_closed = CancellationToken::new();
    let shutdown = Shutdown {
        graceful: listener_closed.clone(),
        immediate,
    };
    let server = Arc::new(ConnectionServer::new(service, limits, metrics.clone(), shutdown));
    let connections = TaskTracker::new();
    let mut refused = RefusedConnections::default();
    {
        let mut incoming = pin!(incoming);
        loop {
            let accepted = tokio::select! {
                biased;
                () = graceful.cancelled() => break,
                accepted = incoming.next() => accepted,
            };
            match accepted {
                None => break,
                Some(Err(error)) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
                // A connection beyond the limit is closed immediately, so that its client can use another replica.
                Some(Ok(accepted)) => match server.connections().acquire(1) {
                    None => {
                        metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
                        refused.log(server.connections().in_use());
                    }
                    Some(permit) => {
                        let server = server.clone();
                        let counted = metrics.connections().acquire(1);
                        connections.spawn(async move {
                            server.serve(accepted).await;
                            drop((permit, counted));
                        });
                    }
                },
            }
        }
        // The listener is closed here. From now on the kernel refuses connections.
    }
    listener_closed.cancel();
    connections.close();
    connections.wait().await;
}

/// Logs refused connections, at most one line per [`REFUSAL_LOG_INTERVAL`].
#[derive(Default)]
struct RefusedConnections {
    count: u64,
    logged_at: Option<Instant>,
}

impl RefusedConnections {
    fn log(&mut self, open: usize) {
        self.count += 1;
        let is_recent = |at: Instant| at.elapsed() < REFUSAL_LOG_INTERVAL;
        if self.logged_at.is_some_and(is_recent) {
            return;
        }
        self.logged_at = Some(Instant::now());
        tracing::warn!(
            open,
            refused = self.count,
            "connections are refused: there are too many"
        );
    }
}

#[cfg(test)]
mod tests;
