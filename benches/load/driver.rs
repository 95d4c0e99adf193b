//! The client of the hot rows: plain HTTP/2 frames on plain sockets, from one thread, at the lowest cost per request.
//!
//! The frames of a request are encoded before the measurement. Two requests of the same message differ only in the
//! stream id. The driver classifies responses by their frames: headers, data and trailers are OK; headers that end the
//! stream are an error. So its own cost is small and the same for every server.

mod connection;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::machine;
use connection::{Connection, Done};

/// Number of connections.
const CONNECTIONS: usize = 8;

/// Warm-up, before requests count.
const WARM_UP: Duration = Duration::from_millis(300);

/// Timeout of a response at the end. Later ones count as errors.
const PATIENCE: Duration = Duration::from_secs(10);

/// The frames of the requests.
pub(crate) struct Requests {
    /// The HEADERS frame of all of them.
    head: Vec<u8>,
    /// The DATA frame of each.
    bodies: Vec<Vec<u8>>,
}

impl Requests {
    pub(crate) fn new<M: Message>(path: &str, messages: impl IntoIterator<Item = M>) -> Self {
        Self::with_headers(path, &[], messages)
    }

    /// All of them with these headers.
    pub(crate) fn with_headers<M: Message>(
        path: &str,
        headers: &[(&str, &str)],
        messages: impl IntoIterator<Item = M>,
    ) -> Self {
        Self {
            head: connection::headers_frame(path, headers),
            bodies: messages
                .into_iter()
                .map(|message| connection::data_frame(&message))
                .collect(),
        }
    }
}

/// The target of requests.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The process, to know how busy it is.
    pub(crate) pid: u32,
}

/// When requests are sent.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// As many as are in flight, the next when one is answered, for so long.
    For(Duration),
    /// So, too, but each request once, without a warm-up.
    Once,
    /// At this rate, whether or not the ones before are answered.
    At { per_second: f64, lasting: Duration },
}

/// Longer than any run.
pub(crate) const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The result of a measurement.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Answers with a message.
    pub(crate) done: u64,
    /// Other results: errors, reset streams and missing responses.
    pub(crate) errors: u64,
    /// The duration of the measurement.
    pub(crate) elapsed: Duration,
    /// The time from when a request was due to its answer. Not for [`Pace::For`].
    pub(crate) latencies: Vec<Duration>,
    /// Processor time of the driver's thread over the time that passed.
    pub(crate) driver_busy: f64,
    /// Processor time of the server's process over the time that passed: 1 is a core.
    pub(crate) server_busy: f64,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        // Not `as`: a count that does not fit would be a mistake.
        f64::from(u32::try_from(self.done).unwrap()) / self.elapsed.as_secs_f64()
    }

    /// Returns the latency at a quantile. A request without a response, or with an error, counts as [`NEVER`].
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let errors = usize::try_from(self.errors).unwrap();
        let never = std::iter::repeat_n(NEVER, errors);
        let all: Vec<Duration> = self.latencies.iter().copied().chain(never).collect();
        percentile(&all, percent)
    }
}

/// The value that this percentage of the values does not exceed.
pub(crate) fn percentile(values: &[Duration], percent: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Sends requests from a thread of its own on this core, and waits for the end.
pub(crate) fn drive(
    target: Target,
    requests: &Requests,
    in_flight: usize,
    pace: Pace,
    core: usize,
) -> Outcome {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                machine::pin(&[core]);
                machine::go_first();
                Driver::new(target, requests, in_flight, pace).run()
            })
            .join()
            .unwrap()
    })
}

struct Driver<'a> {
    target: Target,
    requests: &'a Requests,
    pace: Pace,
    in_flight: usize,
    connections: Vec<Connection>,
    /// The next request of all.
    next: usize,
    /// The connection that is tried first, so that none is preferred at a fixed rate.
    turn: usize,
    outcome: Outcome,
    begun: Instant,
    /// The end of the warm-up.
    counted_from: Instant,
}

impl<'a> Driver<'a> {
    fn new(target: Target, requests: &'a Requests, in_flight: usize, pace: Pace) -> Self {
        let connections = CONNECTIONS.min(in_flight);
        let begun = Instant::now();
        Self {
            target,
            requests,
            pace,
            in_flight: in_flight / connections,
            connections: (0..connections)
                .map(|_| Connection::open(target.address))
                .collect(),
            next: 0,
            turn: 0,
            outcome: Outcome::default(),
            begun,
            counted_from: begun,
        }
    }

    fn run(mut self) -> Outcome {
        // The connections took time to open.
        self.begun = Instant::now();
        self.counted_from = match self.pace {
            Pace::Once => self.begun,
            Pace::For(_) | Pace::At { .. } => self.begun + WARM_UP,
        };
        let until = match self.pace {
            Pace::For(lasting) | Pace::At { lasting, .. } => Some(self.counted_from + lasting),
            Pace::Once => None,
        };
        let mut is_counting = false;
        let mut clocks = self.clocks();
        let mut window = self.begun;
        loop {
            let now = Instant::now();
            if !is_counting && now >= self.counted_from {
                is_counting = true;
                self.outcome = Outcome::default();
                clocks = self.clocks();
                window = now;
            }
            if until.is_some_and(|until| now >= until) {
                break;
            }
            let pause = self.send(now);
            if matches!(self.pace, Pace::Once) && self.next == self.requests.bodies.len() && self.is_idle() {
                break;
            }
            self.exchange(pause);
        }
        self.outcome.elapsed = window.elapsed();
        let (driver, server) = self.clocks();
        let elapsed = self.outcome.elapsed.as_secs_f64();
        self.outcome.driver_busy = (driver - clocks.0).as_secs_f64() / elapsed;
        self.outcome.server_busy = (server - clocks.1).as_secs_f64() / elapsed;
        self.drain();
        self.outcome
    }

    /// Processor time of this thread and of the server.
    fn clocks(&self) -> (Duration, Duration) {
        (machine::thread_time(), machine::process_time(self.target.pid))
    }

    fn is_idle(&self) -> bool {
        self.connections
            .iter()
            .all(|connection| connection.in_flight() == 0)
    }

    /// Sends the requests that are due. Returns the time until the next one.
    fn send(&mut self, now: Instant) -> Duration {
        let bodies = self.requests.bodies.len();
        match self.pace {
            Pace::For(_) | Pace::Once => {
                for connection in &mut self.connections {
                    while connection.in_flight() < self.in_flight && connection.has_room() {
                        if matches!(self.pace, Pace::Once) && self.next == bodies {
                            break;
                        }
                        let body = &self.requests.bodies[self.next % bodies];
                        connection.send(&self.requests.head, body, now);
                        self.next += 1;
                    }
                }
                Duration::from_millis(50)
            }
            Pace::At { per_second, .. } => loop {
                let number = u32::try_from(self.next).unwrap();
                let due = self.begun + Duration::from_secs_f64(f64::from(number) / per_second);
                if due > now {
                    return due - now;
                }
                let turn = self.turn;
                let count = self.connections.len();
                let Some(found) = (0..count)
                    .map(|offset| (turn + offset) % count)
                    .find(|index| self.connections[*index].has_room())
                else {
                    // It waits, and the wait counts: the latency begins when the request was due.
                    return Duration::from_millis(50);
                };
                let body = &self.requests.bodies[self.next % bodies];
                self.connections[found].send(&self.requests.head, body, due);
                self.turn = found + 1;
                self.next += 1;
            },
        }
    }

    /// Writes pending frames, waits for responses up to a maximum time, and reads them.
    fn exchange(&mut self, pause: Duration) {
        for connection in &mut self.connections {
            connection.flush();
        }
        let timeout = Timespec {
            tv_sec: pause.as_secs().try_into().unwrap(),
            tv_nsec: pause.subsec_nanos().into(),
        };
        let ready: Vec<bool> = {
            let mut sockets: Vec<PollFd<'_>> = self
                .connections
                .iter()
                .map(|connection| {
                    let mut events = PollFlags::IN;
                    if connection.has_output() {
                        events |= PollFlags::OUT;
                    }
                    PollFd::new(connection.socket(), events)
                })
                .collect();
            poll(&mut sockets, Some(&timeout)).unwrap();
            let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
            sockets
                .iter()
                .map(|socket| socket.revents().intersects(readable))
                .collect()
        };
        let now = Instant::now();
        let keeps_latencies = !matches!(self.pace, Pace::For(_));
        let (outcome, counted_from) = (&mut self.outcome, self.counted_from);
        for (connection, _) in self.connections.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            connection.receive(|Done { since, is_ok }| {
                if !is_ok {
                    outcome.errors += 1;
                } else if !keeps_latencies {
                    outcome.done += 1;
                } else if since >= counted_from {
                    outcome.done += 1;
                    outcome.latencies.push(now - since);
                }
            });
        }
    }

    /// Waits for the answers that are still missing. They count for latencies and for errors only.
    fn drain(&mut self) {
        let done = self.outcome.done;
        let deadline = Instant::now() + PATIENCE;
        while !self.is_idle() && Instant::now() < deadline {
            self.exchange(Duration::from_millis(10));
        }
        if !matches!(self.pace, Pace::At { .. }) {
            self.outcome.done = done;
        }
        let missing: usize = self.connections.iter().map(Connection::in_flight).sum();
        self.outcome.errors += u64::try_from(missing).unwrap();
    }
}
