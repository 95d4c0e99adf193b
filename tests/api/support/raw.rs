//! HTTP/2 by hand: what no client library would send.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Timeout for the end of a connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// The preface, and an empty SETTINGS frame.
pub(crate) const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const CONTINUATION: u8 = 0x9;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field as HPACK has it, neither indexed nor compressed (RFC 7541 section 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        match u8::try_from(text.len()) {
            Ok(length @ ..127) => bytes.push(length),
            _ => {
                bytes.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    bytes.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                bytes.push(u8::try_from(rest).unwrap());
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// The fields that every call has.
pub(crate) fn call_fields(path: &str) -> Vec<u8> {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .iter()
    .flat_map(|(name, value)| field(name, value))
    .collect()
}

/// A connection that sends and receives only what a test does.
pub(crate) struct RawConnection(TcpStream);

impl RawConnection {
    /// Connects, and sends nothing.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// A connection that has begun as all do.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let mut connection = Self::connect(address).await;
        connection.send(OPENING).await.unwrap();
        connection
    }

    /// Sends bytes, unless the server has closed the connection.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.0.write_all(bytes))
            .await
            .expect("the server does not read")
    }

    /// Waits until the server has closed the connection, and gives all that it sent before.
    pub(crate) async fn closed(mut self) -> Vec<u8> {
        let mut received = Vec::new();
        // A reset is an end, too.
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut received))
            .await
            .expect("the server does not close the connection");
        received
    }

    /// Reads until the server has sent a frame of this kind, and gives its payload.
    pub(crate) async fn received(&mut self, kind: u8) -> Vec<u8> {
        let mut received = Vec::new();
        let reading = async {
            loop {
                let found = frames(&received).into_iter().find(|frame| frame.0 == kind);
                if let Some((_, _, payload)) = found {
                    return payload;
                }
                assert!(self.0.read_buf(&mut received).await.unwrap() > 0, "{received:?}");
            }
        };
        timeout(PATIENCE, reading)
            .await
            .expect("the server does not send it")
    }

    /// Waits until the server sends no more, and has not reset the connection.
    pub(crate) async fn heard_out(&mut self) {
        let mut received = Vec::new();
        timeout(PATIENCE, self.0.read_to_end(&mut received))
            .await
            .expect("the server does not end")
            .unwrap();
    }

    /// Reads for as long as the server sends without a pause.
    pub(crate) async fn is_open(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match timeout(Duration::from_millis(1), self.0.read(&mut buffer)).await {
                Err(_) => return true,
                Ok(Ok(0) | Err(_)) => return false,
                Ok(Ok(_)) => {}
            }
        }
    }
}

/// Returns the frames that a server sent, each as kind, stream and payload, without an incomplete one at the end.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            break;
        };
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        frames.push((head[3], stream, payload.to_vec()));
        bytes = rest;
    }
    frames
}
