//! The connections that are accepted.

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

/// Accepts what comes to a listener. What is accepted becomes a connection when it is awaited, with TLS if there is
/// some.
pub(in crate::grpc) fn incoming(
    listener: TcpListener,
    tls: Option<Tls>,
) -> impl Stream<Item = io::Result<impl Future<Output = io::Result<ClientStream>> + Send + 'static>> {
    TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .map(move |accepted| accepted.map(|stream| ClientStream::open(stream, tls.clone())))
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub(in crate::grpc) struct Peer {
    /// The service whose certificate was verified. `None`: there is none, or it is not listed.
    pub(in crate::grpc) service: Option<Arc<Service>>,
}

/// A TCP connection, perhaps with TLS, on which many small answers are sent with few system calls, which is what most
/// of a check costs.
///
/// It does not offer vectored writes. h2 copies a message of up to 256 bytes into its write buffer, and of up to 1024
/// bytes where writes are not vectored; a longer one it sends by itself. What ValidateSession answers is a little
/// longer than 256 bytes.
///
/// And it lets the tasks that are ready run before it writes, so that what they answer goes with it: grpc-go's
/// `loopyWriter` does the same by `runtime.Gosched`. Where no task is ready, it writes at once.
#[derive(Debug)]
pub(in crate::grpc) struct ClientStream {
    stream: Bytes,
    peer: Peer,
    has_let_others_run: bool,
}

/// The bytes of a connection, as they are for us.
#[derive(Debug)]
enum Bytes {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl ClientStream {
    async fn open(stream: TcpStream, tls: Option<Tls>) -> io::Result<Self> {
        let (stream, service) = match tls {
            None => (Bytes::Plain(stream), None),
            Some(tls) => {
                let (stream, service) = tls.accept(stream).await?;
                (Bytes::Tls(Box::new(stream)), service)
            }
        };
        Ok(Self {
            stream,
            peer: Peer { service },
            has_let_others_run: false,
        })
    }

    /// Ready every second time that it is asked. In between, the task goes to the end of the line of those that are
    /// ready.
    fn let_others_run(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.has_let_others_run = !self.has_let_others_run;
        if self.has_let_others_run {
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
            Bytes::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Bytes::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.let_others_run(cx));
        match &mut self.stream {
            Bytes::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Bytes::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.let_others_run(cx));
        match &mut self.stream {
            Bytes::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Bytes::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Bytes::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Bytes::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Bytes::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Bytes::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
