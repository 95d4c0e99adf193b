//! Abuse of a real process while another client checks sessions all the time. The checks succeed, and the memory of the
//! process stays bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use phone_identity::proto::v1;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::binary::ServerProcess;
use crate::support::place::Place;
use crate::support::raw::{
    CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADERS, OPENING, RST_STREAM, RawConnection, SETTINGS,
    call_fields, field, frame, frames,
};
use crate::support::{PASSWORD, connect, registration, validation};

const REGISTER: &str = "/phone_identity.v1.PhoneIdentity/Register";
const PATIENCE: Duration = Duration::from_secs(30);
const MIB: u64 = 1024 * 1024;

/// Idle connections, which other clients must tolerate.
const IDLE_CONNECTIONS: u64 = 10_000;

/// A process under abuse, and a client with a connection of its own that checks sessions all the time.
struct Abused {
    server: ServerProcess,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    asking: JoinHandle<()>,
    at_rest: u64,
    _place: Place,
}

impl Abused {
    async fn start(flags: &[&str]) -> Self {
        let place = Place::new().await;
        let server = ServerProcess::start(&place, flags).await;
        let mut client = connect(server.address).await;
        let registered = client
            .register(registration("+998901234567", PASSWORD))
            .await
            .unwrap();
        let v1::RegisterResponse { session_token, .. } = registered.into_inner();
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let (until, count) = (stop.clone(), answered.clone());
        let asking = tokio::spawn(async move {
            while !until.load(Ordering::Relaxed) {
                let answer = client.validate_session(validation(&session_token));
                let answer = timeout(PATIENCE, answer).await.expect("a check is not answered");
                answer.expect("a check is refused");
                count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let at_rest = resident(&server);
        let abused = Self {
            server,
            stop,
            answered,
            asking,
            at_rest,
            _place: place,
        };
        abused.is_answered().await;
        abused
    }

    /// Waits until a hundred more checks are answered.
    async fn is_answered(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        let answered = async {
            while self.answered.load(Ordering::Relaxed) < before + 100 {
                assert!(!self.asking.is_finished(), "checks are not answered");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, answered)
            .await
            .expect("checks are not answered");
    }

    /// Returns the growth of the memory of the process since the start of the abuse, in bytes.
    fn grown(&self) -> u64 {
        resident(&self.server).saturating_sub(self.at_rest)
    }

    /// Checks were answered to the end, memory has grown by less than `bound`, and the process ends as it should.
    async fn has_borne_it(self, what: &str, bound: u64) {
        self.is_answered().await;
        let grown = self.grown();
        eprintln!("{what}: {} MiB more in memory", grown / MIB);
        assert!(grown < bound, "{what}: {} MiB more in memory", grown / MIB);
        self.stop.store(true, Ordering::Relaxed);
        self.asking.await.unwrap();
        self.server.terminate();
        let (code, log) = self.server.ended().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Returns the resident memory of a process, in bytes.
fn resident(server: &ServerProcess) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Lets this process have as many descriptors as it may, and gives how many that are.
fn raise_descriptors() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    maximum.unwrap_or(u64::MAX)
}

#[tokio::test]
async fn ten_thousand_idle_connections() {
    // The other tests of this process need some, too.
    let count = IDLE_CONNECTIONS.min(raise_descriptors().saturating_sub(1000));
    if count < IDLE_CONNECTIONS {
        eprintln!("NOT RUN: ten thousand idle connections, but {count}; ulimit -Hn is too low");
    }
    let flag = format!("--max-connections={}", count + 1);
    // They are idle for longer than they may be where nearly all places are taken; here they may.
    let abused = Abused::start(&[&flag, "--keepalive-interval=1h", "--handshake-timeout=1h"]).await;
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(RawConnection::open(abused.server.address).await);
    }
    abused.is_answered().await;
    // All of them are connected, and no other connection fits.
    RawConnection::connect(abused.server.address).await.closed().await;
    assert!(idle.last_mut().unwrap().is_open().await);
    assert!(idle.first_mut().unwrap().is_open().await);
    // 16 KiB each were measured, most of it buffers of h2.
    abused.has_borne_it("idle connections", count * 24 * 1024).await;
}

#[tokio::test]
async fn a_thousand_clients_that_send_byte_by_byte() {
    raise_descriptors();
    let abused = Abused::start(&[
        "--handshake-timeout=2s",
        "--keepalive-interval=1s",
        "--keepalive-timeout=1s",
    ])
    .await;
    let headers = frame(HEADERS, END_HEADERS, 1, &call_fields(REGISTER));
    let bytes = [OPENING, &headers].concat();
    let mut slow = Vec::new();
    for number in 0..1000 {
        let mut connection = RawConnection::connect(abused.server.address).await;
        // Some are slow from the start, and some after they have begun.
        let begun = if number % 2 == 0 { 0 } else { OPENING.len() };
        connection.send(&bytes[..begun]).await.unwrap();
        slow.push((connection, begun));
    }
    let mut drops = tokio::time::interval(Duration::from_millis(100));
    // Each is closed in the end, whatever it sends.
    while !slow.is_empty() {
        drops.tick().await;
        let mut still_open = Vec::new();
        for (mut connection, sent) in slow {
            if connection.send(&bytes[sent..=sent]).await.is_ok() {
                still_open.push((connection, (sent + 1) % bytes.len()));
            }
        }
        slow = still_open;
    }
    abused.has_borne_it("slow clients", 100 * MIB).await;
}

#[tokio::test]
async fn headers_without_end() {
    let abused = Abused::start(&[]).await;
    let begin = frame(HEADERS, 0, 1, &call_fields(REGISTER));
    let large = frame(CONTINUATION, 0, 1, &field("x-more", &"x".repeat(16_000)));
    let small = frame(CONTINUATION, 0, 1, &field("x", "y"));
    let empty = frame(CONTINUATION, 0, 1, &[]);
    let mut attackers = tokio::task::JoinSet::new();
    for more in [large, small, empty].into_iter().cycle().take(60) {
        let (address, begin) = (abused.server.address, begin.clone());
        attackers.spawn(async move {
            let mut connection = RawConnection::open(address).await;
            let mut sent = connection.send(&begin).await;
            let mut bytes = 0;
            while sent.is_ok() {
                sent = connection.send(&more).await;
                bytes += more.len();
                assert!(bytes < 64 << 20, "headers have no end");
            }
        });
    }
    while let Some(ended) = attackers.join_next().await {
        ended.unwrap();
    }
    abused.has_borne_it("endless headers", 100 * MIB).await;
}

#[tokio::test]
async fn floods_of_resets() {
    let abused = Abused::start(&[]).await;
    let mut attackers = tokio::task::JoinSet::new();
    for number in 0..20 {
        let address = abused.server.address;
        attackers.spawn(async move {
            let mut connection = RawConnection::open(address).await;
            let fields = call_fields(REGISTER);
            // Calls that are taken back at once; or that have to be ended for a fault of theirs: a window update of 0.
            let (kind, payload) = if number % 2 == 0 {
                (RST_STREAM, [0, 0, 0, 8])
            } else {
                (8, [0, 0, 0, 0])
            };
            let mut stream = 1;
            let mut sent = Ok(());
            while sent.is_ok() {
                let mut burst = Vec::new();
                for _ in 0..500 {
                    burst.extend(frame(HEADERS, END_HEADERS, stream, &fields));
                    burst.extend(frame(kind, 0, stream, &payload));
                    stream += 2;
                }
                sent = connection.send(&burst).await;
                assert!(stream < 2_000_000, "a flood without end");
            }
            connection.closed().await
        });
    }
    while let Some(ended) = attackers.join_next().await {
        ended.unwrap();
    }
    abused.has_borne_it("floods of resets", 100 * MIB).await;
}

#[tokio::test]
async fn floods_of_pings_and_settings() {
    let abused = Abused::start(&[]).await;
    let mut attackers = tokio::task::JoinSet::new();
    for kind in [6, SETTINGS].into_iter().cycle().take(10) {
        let address = abused.server.address;
        attackers.spawn(async move {
            let mut connection = RawConnection::open(address).await;
            let payload: &[u8] = if kind == SETTINGS { &[] } else { b"pingpong" };
            let burst = frame(kind, 0, 0, payload).repeat(1000);
            // It reads no response. When the server stops reading from it, the abuse has had its effect.
            for _ in 0..1000 {
                let sent = timeout(Duration::from_secs(1), connection.send(&burst)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    break;
                }
            }
            connection
        });
    }
    let mut connections = Vec::new();
    while let Some(ended) = attackers.join_next().await {
        connections.push(ended.unwrap());
    }
    abused
        .has_borne_it("floods of pings and settings", 100 * MIB)
        .await;
}

/// A connection with a thousand calls of which each announces a message of this size and sends a part of it.
async fn a_thousand_streams(abused: &Abused, size: u32, part: usize) -> RawConnection {
    let mut connection = RawConnection::open(abused.server.address).await;
    let fields = call_fields(REGISTER);
    let message = [&[0], size.to_be_bytes().as_slice(), &vec![b'x'; part]].concat();
    for number in 0..1000 {
        let stream = 2 * number + 1;
        let mut call = frame(HEADERS, END_HEADERS, stream, &fields);
        for piece in message.chunks(16_384) {
            call.extend(frame(DATA, 0, stream, piece));
        }
        if connection.send(&call).await.is_err() {
            break;
        }
    }
    connection
}

#[tokio::test]
async fn a_thousand_concurrent_streams_of_oversize_messages() {
    let abused = Abused::start(&[]).await;
    let mut connections = Vec::new();
    for _ in 0..4 {
        // Above the bound by far, and just above it.
        for (size, part) in [(1 << 30, 200), (65_537, 200), (u32::MAX, 0)] {
            connections.push(a_thousand_streams(&abused, size, part).await);
            abused.is_answered().await;
        }
    }
    abused.has_borne_it("oversize messages", 100 * MIB).await;
    drop(connections);
}

#[tokio::test]
async fn thousands_of_messages_that_are_announced_and_do_not_come() {
    // Sixty thousand calls of 64 KiB would be 4 GiB. There is room for sixteen MiB of them.
    let abused = Abused::start(&["--receive-memory-mib=16"]).await;
    let mut connections = Vec::new();
    for _ in 0..60 {
        connections.push(a_thousand_streams(&abused, 65_536, 100).await);
    }
    abused.has_borne_it("announced messages", 200 * MIB).await;
    drop(connections);
}

#[tokio::test]
async fn more_is_sent_than_the_windows_let() {
    let abused = Abused::start(&[]).await;
    let connection = a_thousand_streams(&abused, 65_536, 60_000).await;
    let sent = connection.closed().await;
    // FLOW_CONTROL_ERROR, for the connection as a whole.
    let goaway = frames(&sent).into_iter().find(|(kind, ..)| *kind == GOAWAY);
    assert_eq!(
        goaway.map(|(.., payload)| payload[4..8].to_vec()),
        Some(vec![0, 0, 0, 3])
    );
    abused.has_borne_it("more than the windows let", 100 * MIB).await;
}
