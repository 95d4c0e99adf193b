//! The beginning and the end of a connection, neither of which is waited for without an end.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::grpc::server::GOODBYE_TIME;

/// With what every client begins: the preface of HTTP/2, 24 bytes, and a SETTINGS frame, whose header has 9
/// (RFC 9113 section 3.4). From then on hyper asks with pings whether the client is there.
const OPENING_BYTES: usize = 24 + 9;

/// How much of a client is read, and thrown away, after everything was said to it.
const PARTING_BYTES: usize = 256 * 1024;

/// A stream of bytes that fails if its client has not begun with HTTP/2 by a certain time.
///
/// When everything has been said, the client is listened to until it closes its side, too, for a while. What a closed
/// socket has not read, or gets then, the kernel answers by a reset, which takes from the client even answers that have
/// reached it.
pub(super) struct HandshakeStream<IO> {
    io: IO,
    until_begun: Option<Missing>,
    parting: Option<Parting>,
}

/// What a client may still send.
struct Parting {
    bytes: usize,
    deadline: Pin<Box<Sleep>>,
}

/// What is missing of the beginning.
struct Missing {
    bytes: usize,
    /// Ready when it is not waited for any longer.
    deadline: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<IO> HandshakeStream<IO> {
    pub(super) fn new(io: IO, deadline: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            io,
            until_begun: Some(Missing {
                bytes: OPENING_BYTES,
                deadline: Box::pin(deadline),
            }),
            parting: None,
        }
    }
}

impl<IO> fmt::Debug for HandshakeStream<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.until_begun.as_ref().map_or(0, |missing| missing.bytes);
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
        let Some(missing) = &mut self.until_begun else {
            return polled;
        };
        missing.bytes = missing.bytes.saturating_sub(buffer.filled().len() - before);
        if missing.bytes == 0 {
            self.until_begun = None;
        } else if polled.is_pending() && missing.deadline.as_mut().poll(cx).is_ready() {
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
        let Self { io, parting, .. } = &mut *self;
        let mut io = Pin::new(io);
        let parting = match parting {
            Some(parting) => parting,
            None => {
                ready!(io.as_mut().poll_shutdown(cx))?;
                parting.insert(Parting {
                    bytes: PARTING_BYTES,
                    deadline: Box::pin(sleep(GOODBYE_TIME)),
                })
            }
        };
        let mut thrown_away = [0; 1024];
        while parting.bytes > 0 {
            let mut buffer = ReadBuf::new(&mut thrown_away);
            match io.as_mut().poll_read(cx, &mut buffer) {
                Poll::Pending => return parting.deadline.as_mut().poll(cx).map(Ok),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    parting.bytes = parting.bytes.saturating_sub(buffer.filled().len());
                }
                // It has closed its side, or is gone.
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
