//! Handshake timeout and lingering close of a connection.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Time that a client without calls has to react to a GOAWAY of a shutdown, and that any client has to close its side
/// of a connection after the server has sent everything.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Minimum size of what a client sends first, in bytes: the preface of HTTP/2 (24) and the header of a SETTINGS frame
/// (9) (RFC 9113 section 3.4). After that, hyper detects an absent client with pings.
const HANDSHAKE_BYTES: usize = 24 + 9;

/// Maximum number of bytes that are read and discarded after the server has sent everything.
const LINGER_BYTES: usize = 256 * 1024;

/// A byte stream with a handshake timeout and a lingering close.
///
/// It fails if the client has not started HTTP/2 by the deadline.
///
/// After the server has closed its side, the stream reads and discards bytes until the client closes its side, for up
/// to [`CLOSE_TIMEOUT`] and [`LINGER_BYTES`]. If a socket is closed with unread bytes, or receives bytes after that,
/// the kernel sends a reset, and the client then loses responses that it has received and not yet read.
pub(super) struct HandshakeStream<IO> {
    io: IO,
    /// `None`: the handshake is complete.
    handshake: Option<Handshake>,
    /// `None`: the server has not closed its side.
    linger: Option<Linger>,
}

/// The remaining limits of a lingering close.
struct Linger {
    bytes: usize,
    deadline: Pin<Box<Sleep>>,
}

/// A handshake in progress.
struct Handshake {
    missing_bytes: usize,
    /// Ready when the handshake has failed.
    deadline: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<IO> HandshakeStream<IO> {
    pub(super) fn new(io: IO, deadline: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            io,
            handshake: Some(Handshake {
                missing_bytes: HANDSHAKE_BYTES,
                deadline: Box::pin(deadline),
            }),
            linger: None,
        }
    }
}

impl<IO> fmt::Debug for HandshakeStream<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self
            .handshake
            .as_ref()
            .map_or(0, |handshake| handshake.missing_bytes);
        f.debug_struct("HandshakeStream")
            .field("missing", &missing)
            .finish()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for HandshakeStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        let Some(handshake) = &mut self.handshake else {
            return polled;
        };
        let read = buffer.filled().len() - before;
        handshake.missing_bytes = handshake.missing_bytes.saturating_sub(read);
        if handshake.missing_bytes == 0 {
            self.handshake = None;
        } else if polled.is_pending() && handshake.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HandshakeStream<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, linger, .. } = &mut *self;
        let mut io = Pin::new(io);
        let linger = match linger {
            Some(linger) => linger,
            None => {
                ready!(io.as_mut().poll_shutdown(cx))?;
                linger.insert(Linger {
                    bytes: LINGER_BYTES,
                    deadline: Box::pin(sleep(CLOSE_TIMEOUT)),
                })
            }
        };
        let mut discarded = [0; 1024];
        while linger.bytes > 0 {
            let mut buffer = ReadBuf::new(&mut discarded);
            match io.as_mut().poll_read(cx, &mut buffer) {
                Poll::Pending => return linger.deadline.as_mut().poll(cx).map(Ok),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    linger.bytes = linger.bytes.saturating_sub(buffer.filled().len());
                }
                // The client has closed its side, or the connection has failed.
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
