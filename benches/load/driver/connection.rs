//! One HTTP/2 connection: what of RFC 9113 a client needs that sends small requests and reads small answers.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use prost::Message;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of the header of each frame.
const FRAME_HEAD: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

const SETTING_ENABLE_PUSH: u16 = 0x2;
const SETTING_MAX_CONCURRENT_STREAMS: u16 = 0x3;
const SETTING_INITIAL_WINDOW_SIZE: u16 = 0x4;

/// The windows that both sides start with.
const FIRST_WINDOW: u32 = 65_535;

/// The largest window there is: the server never has to wait for us.
const LARGEST_WINDOW: u32 = 0x7fff_ffff;

/// After so many bytes the connection's window is filled up again.
const REPLENISH_AFTER: u32 = LARGEST_WINDOW / 2;

/// No stream id is larger.
const LAST_STREAM: u32 = 0x7fff_ffff;

/// A frame of an answer has at most 16 KiB, since we ask for no more.
const INPUT: usize = 128 * 1024;

/// The HEADERS frame of a gRPC call, with these headers beside those of all calls. Its fields are literals that are not
/// indexed, so that all requests are the same bytes, whatever came before them.
pub(super) fn headers_frame(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![
        0x83, // :method: POST, of the static table
        0x86, // :scheme: http
    ];
    literal(&mut block, &[0x04], path); // :path
    literal(&mut block, &[0x01], "localhost"); // :authority
    literal(&mut block, &[0x0f, 31 - 15], "application/grpc"); // content-type
    named(&mut block, "te", "trailers");
    for (name, value) in headers {
        named(&mut block, name, value);
    }
    frame(HEADERS, END_HEADERS, 0, &block)
}

/// A field with a name that is not in the static table.
fn named(block: &mut Vec<u8>, name: &str, value: &str) {
    let mut prefix = vec![0x00, length(name)];
    prefix.extend_from_slice(name.as_bytes());
    literal(block, &prefix, value);
}

fn literal(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend_from_slice(name);
    block.push(length(value));
    block.extend_from_slice(value.as_bytes());
}

fn length(text: &str) -> u8 {
    assert!(text.len() < 127, "longer lengths take several bytes");
    text.len().try_into().unwrap()
}

/// The DATA frame of a message, uncompressed and the only one of its call.
pub(super) fn data_frame(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let mut payload = vec![0];
    payload.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    payload.extend_from_slice(&message);
    frame(DATA, END_STREAM, 0, &payload)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn setting(id: u16, value: u32) -> [u8; 6] {
    let (id, value) = (id.to_be_bytes(), value.to_be_bytes());
    [id[0], id[1], value[0], value[1], value[2], value[3]]
}

/// An answer.
pub(super) struct Done {
    /// When its request was due.
    pub(super) since: Instant,
    /// Whether the response had a message and ended with success.
    pub(super) is_ok: bool,
}

struct Stream {
    id: u32,
    since: Instant,
    has_data: bool,
}

pub(super) struct Connection {
    address: SocketAddr,
    socket: TcpStream,
    input: Box<[u8]>,
    filled: usize,
    output: Vec<u8>,
    written: usize,
    /// Few, so that looking through them is cheaper than a map.
    open: Vec<Stream>,
    next_stream: u32,
    /// Maximum number of open streams, by the settings of the server.
    most_streams: usize,
    /// Remaining flow-control window for sending, in bytes.
    send_window: i64,
    /// The size of the largest request so far, which has to fit into the window.
    largest: i64,
    /// Received bytes that were not yet returned to the flow-control window of the connection.
    received: u32,
    has_settings: bool,
    /// The server takes no new streams, or there are no ids left.
    is_ending: bool,
}

impl Connection {
    /// Connects, and waits for the server's settings.
    pub(super) fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("the server takes no connection");
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut connection = Self {
            address,
            socket,
            input: vec![0; INPUT].into_boxed_slice(),
            filled: 0,
            output: PREFACE.to_vec(),
            written: 0,
            open: Vec::new(),
            next_stream: 1,
            most_streams: usize::MAX,
            send_window: FIRST_WINDOW.into(),
            largest: 0,
            received: 0,
            has_settings: false,
            is_ending: false,
        };
        let settings = [
            setting(SETTING_ENABLE_PUSH, 0),
            setting(SETTING_INITIAL_WINDOW_SIZE, LARGEST_WINDOW),
        ]
        .concat();
        connection
            .output
            .extend_from_slice(&frame(SETTINGS, 0, 0, &settings));
        connection.extend_window(LARGEST_WINDOW - FIRST_WINDOW);
        connection.flush();
        while !connection.has_settings {
            connection.receive(|_| panic!("an answer before a request"));
        }
        connection.flush();
        connection.socket.set_nonblocking(true).unwrap();
        connection
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn in_flight(&self) -> usize {
        self.open.len()
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Returns whether one more request fits.
    pub(super) fn has_room(&mut self) -> bool {
        if self.is_ending && self.open.is_empty() {
            *self = Self::open(self.address);
        }
        !self.is_ending && self.open.len() < self.most_streams && self.send_window > self.largest
    }

    /// Sends a request that was due at `since`. [`Self::flush`] writes it.
    pub(super) fn send(&mut self, head: &[u8], body: &[u8], since: Instant) {
        let id = self.next_stream;
        for frame in [head, body] {
            let start = self.output.len();
            self.output.extend_from_slice(frame);
            self.output[start + 5..start + FRAME_HEAD].copy_from_slice(&id.to_be_bytes());
        }
        let length = i64::try_from(body.len() - FRAME_HEAD).unwrap();
        self.largest = self.largest.max(length);
        self.send_window -= length;
        self.open.push(Stream {
            id,
            since,
            has_data: false,
        });
        if id >= LAST_STREAM - 2 {
            self.is_ending = true;
        } else {
            self.next_stream = id + 2;
        }
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self) {
        while self.written < self.output.len() {
            match self.socket.write(&self.output[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server closed the connection: {error}"),
            }
        }
        self.output.clear();
        self.written = 0;
    }

    /// Reads once, and processes the complete frames.
    pub(super) fn receive(&mut self, mut done: impl FnMut(Done)) {
        match self.socket.read(&mut self.input[self.filled..]) {
            Ok(0) => {
                // The open requests have no response.
                assert!(self.is_ending, "the server closed the connection");
                for stream in self.open.drain(..) {
                    done(Done {
                        since: stream.since,
                        is_ok: false,
                    });
                }
            }
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("the server closed the connection: {error}"),
        }
        let mut at = 0;
        while at + FRAME_HEAD <= self.filled {
            let head = &self.input[at..at + FRAME_HEAD];
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & LAST_STREAM;
            let start = at + FRAME_HEAD;
            let end = start + usize::try_from(length).unwrap();
            if end > self.filled {
                break;
            }
            match kind {
                DATA => {
                    self.received += length;
                    self.heard_of(stream, flags, true, &mut done);
                }
                HEADERS => self.heard_of(stream, flags, false, &mut done),
                RST_STREAM => {
                    if let Some(index) = self.open.iter().position(|open| open.id == stream) {
                        let since = self.open.swap_remove(index).since;
                        done(Done { since, is_ok: false });
                    }
                }
                SETTINGS if flags & ACK == 0 => self.take_settings(start, end),
                PING if flags & ACK == 0 => {
                    let pong = frame(PING, ACK, 0, &self.input[start..end]);
                    self.output.extend_from_slice(&pong);
                }
                GOAWAY => self.is_ending = true,
                WINDOW_UPDATE if stream == 0 => self.send_window += i64::from(self.number(start)),
                _ => {}
            }
            at = end;
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        if self.received > REPLENISH_AFTER {
            self.extend_window(self.received);
            self.received = 0;
        }
    }

    /// Processes a frame of a response.
    fn heard_of(&mut self, stream: u32, flags: u8, is_data: bool, done: &mut impl FnMut(Done)) {
        let Some(index) = self.open.iter().position(|open| open.id == stream) else {
            return;
        };
        if flags & END_STREAM == 0 {
            self.open[index].has_data |= is_data;
        } else {
            let Stream { since, has_data, .. } = self.open.swap_remove(index);
            // gRPC ends with trailers, so data that end the stream are no answer.
            let is_ok = has_data && !is_data;
            done(Done { since, is_ok });
        }
    }

    fn take_settings(&mut self, start: usize, end: usize) {
        for setting in self.input[start..end].chunks_exact(6) {
            let id = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            if id == SETTING_MAX_CONCURRENT_STREAMS {
                self.most_streams = usize::try_from(value).unwrap();
            }
        }
        self.output.extend_from_slice(&frame(SETTINGS, ACK, 0, &[]));
        self.has_settings = true;
    }

    fn extend_window(&mut self, by: u32) {
        self.output
            .extend_from_slice(&frame(WINDOW_UPDATE, 0, 0, &by.to_be_bytes()));
    }

    /// The 31 bits at this place of the input.
    fn number(&self, at: usize) -> u32 {
        let bytes = [
            self.input[at],
            self.input[at + 1],
            self.input[at + 2],
            self.input[at + 3],
        ];
        u32::from_be_bytes(bytes) & LAST_STREAM
    }
}
