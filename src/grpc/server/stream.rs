//! Accepted connections, with TLS if it is configured.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::{Connected, TcpIncoming};

use super::tls::Tls;
use crate::domain::access::Service;

/// Accepts the connections of a listener. An item becomes a connection when it is awaited, which includes the TLS
/// handshake if `tls` is set.
pub(in crate::grpc) fn incoming(
    listener: TcpListener,
    tls: Option<Tls>,
) -> impl Stream<Item = io::Result<impl Future<Output = io::Result<ClientStream>> + Send + 'static>> {
    TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .map(move |accepted| accepted.map(|stream| ClientStream::open(stream, tls.clone())))
}

/// The authenticated client of a connection, an extension of its requests.
#[derive(Clone, Debug, Default)]
pub(in crate::grpc) struct Peer {
    /// The calling service of the verified certificate. `None`: there is no certificate, or it is not listed.
    pub(in crate::grpc) service: Option<Arc<Service>>,
}

/// A TCP connection, optionally with TLS, that sends many small responses with few system calls. System calls are most
/// of the cost of ValidateSession.
///
/// It does not support vectored writes. h2 copies a message of up to 256 bytes into its write buffer, or of up to 1024
/// bytes if writes are not vectored, and writes a longer one separately. A response of ValidateSession is a little
/// longer than 256 bytes.
///
/// It yields to the tasks that are ready before it writes, so that one write includes their responses. grpc-go's
/// `loopyWriter` does the same with `runtime.Gosched`. If no task is ready, it writes at once.
#[derive(Debug)]
pub(in crate::grpc) struct ClientStream {
    stream: ByteStream,
    peer: Peer,
    has_yielded: bool,
}

/// A decrypted byte stream.
#[derive(Debug)]
enum ByteStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl ClientStream {
    async fn open(stream: TcpStream, tls: Option<Tls>) -> io::Result<Self> {
        let (stream, service) = match tls {
            None => (ByteStream::Plain(stream), None),
            Some(tls) => {
                let (stream, service) = tls.accept(stream).await?;
                (ByteStream::Tls(Box::new(stream)), service)
            }
        };
        Ok(Self {
            stream,
            peer: Peer { service },
            has_yielded: false,
        })
    }

    /// Ready at every second poll. The polls in between move the task to the end of the run queue.
    fn poll_yield(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.has_yielded = !self.has_yielded;
        if self.has_yielded {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl Connected for ClientStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            ByteStream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            ByteStream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_yield(cx));
        match &mut self.stream {
            ByteStream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            ByteStream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_yield(cx));
        match &mut self.stream {
            ByteStream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            ByteStream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            ByteStream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            ByteStream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            ByteStream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            ByteStream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
