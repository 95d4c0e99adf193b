//! A proxy for PostgreSQL that deallocates the prepared statements of its connections, as a pooler that lends a server
//! connection for a transaction does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::eventually;

/// A simple query: its type, the length of what follows with itself, the statement, and a zero byte.
const DEALLOCATE: &[u8] = b"Q\0\0\0\x13DEALLOCATE ALL\0";

/// The type of the message ReadyForQuery: the server waits for the next query.
const READY_FOR_QUERY: u8 = b'Z';

pub(super) struct DeallocatingProxy {
    pub(super) address: SocketAddr,
    /// Number of times that the statements are deallocated.
    times: watch::Sender<u64>,
    /// The number of times for each open connection.
    connections: Arc<Mutex<Vec<Weak<AtomicU64>>>>,
}

impl DeallocatingProxy {
    pub(super) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let times = watch::Sender::new(0);
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (subscribed, opened) = (times.clone(), connections.clone());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&target).await.unwrap();
                let mut wanted = subscribed.subscribe();
                let done = Arc::new(AtomicU64::new(*wanted.borrow_and_update()));
                opened.lock().unwrap().push(Arc::downgrade(&done));
                tokio::spawn(forward(client, server, wanted, done));
            }
        });
        Self {
            address,
            times,
            connections,
        }
    }

    /// Deallocates the statements of all open connections, of each when it is idle. Returns when that is done.
    pub(super) async fn deallocate_all(&self) {
        self.times.send_modify(|times| *times += 1);
        let wanted = *self.times.borrow();
        eventually(|| {
            let connections = self.connections.lock().unwrap();
            let mut open = connections.iter().filter_map(Weak::upgrade);
            open.all(|done| done.load(Ordering::SeqCst) >= wanted)
        })
        .await;
    }
}

async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    mut wanted: watch::Receiver<u64>,
    done: Arc<AtomicU64>,
) {
    let (mut sent, mut received) = ([0; 16 * 1024], [0; 16 * 1024]);
    let mut messages = Messages::default();
    let mut is_idle = false;
    loop {
        tokio::select! {
            read = client.read(&mut sent) => {
                let Ok(count @ 1..) = read else { return };
                is_idle = false;
                if server.write_all(&sent[..count]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut received) => {
                let Ok(count @ 1..) = read else { return };
                is_idle = messages.end_ready(&received[..count]);
                if client.write_all(&received[..count]).await.is_err() {
                    return;
                }
            }
            changed = wanted.changed(), if is_idle => {
                if changed.is_err() || server.write_all(DEALLOCATE).await.is_err() {
                    return;
                }
                loop {
                    let Ok(count @ 1..) = server.read(&mut received).await else { return };
                    if messages.end_ready(&received[..count]) {
                        break;
                    }
                }
                done.store(*wanted.borrow_and_update(), Ordering::SeqCst);
            }
        }
    }
}

/// A parser that finds the ends of server messages: each has a type, the length of what follows with itself, and the
/// rest.
#[derive(Default)]
struct Messages {
    head: Vec<u8>,
    /// Bytes of the message that have not arrived yet.
    rest: usize,
}

impl Messages {
    /// Returns whether these bytes end with a complete [`READY_FOR_QUERY`].
    fn end_ready(&mut self, mut bytes: &[u8]) -> bool {
        let mut is_ready = false;
        while let [byte, others @ ..] = bytes {
            if self.rest > 0 {
                let skipped = self.rest.min(bytes.len());
                self.rest -= skipped;
                bytes = &bytes[skipped..];
            } else {
                self.head.push(*byte);
                bytes = others;
                if let [kind, a, b, c, d] = self.head[..] {
                    is_ready = kind == READY_FOR_QUERY;
                    self.rest = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap() - 4;
                    self.head.clear();
                }
            }
        }
        is_ready && self.rest == 0 && self.head.is_empty()
    }
}
