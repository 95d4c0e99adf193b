//! The beginning of a connection, which is not waited for without an end.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// With what every client begins: the preface of HTTP/2, 24 bytes, and a SETTINGS frame, whose header has 9
/// (RFC 9113 section 3.4). From then on hyper asks with pings whether the client is there.
const OPENING_BYTES: usize = 24 + 9;

/// A stream of bytes that fails if its client has not begun with HTTP/2 by a certain time.
pub(super) struct Opening<IO> {
    io: IO,
    until_begun: Option<Missing>,
}

/// What is missing of the beginning.
struct Missing {
    bytes: usize,
    /// Ready when it is not waited for any longer.
    deadline: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<IO> Opening<IO> {
    pub(super) fn new(io: IO, deadline: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            io,
            until_begun: Some(Missing {
                bytes: OPENING_BYTES,
                deadline: Box::pin(deadline),
            }),
        }
    }
}

impl<IO> fmt::Debug for Opening<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.until_begun.as_ref().map_or(0, |missing| missing.bytes);
        f.debug_struct("Opening").field("missing", &missing).finish()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Opening<IO> {
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

impl<IO: AsyncWrite + Unpin> AsyncWrite for Opening<IO> {
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
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
