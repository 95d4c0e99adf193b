//! Sign-ins beside something else that is measured, and more of them than the service takes. By the generated client,
//! since what is refused has to be read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use phone_identity::proto::v1::AuthenticateRequest;
use phone_identity::proto::v1::phone_identity_client::PhoneIdentityClient;
use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{machine, seed};

/// Number of connections.
const CONNECTIONS: usize = 8;

/// Delay before the retry of a rejected call without RetryInfo.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Longer than the service lets any call take: what is not answered then hangs.
const HUNG: Duration = Duration::from_secs(15);

/// The next user to sign in, over all calls of this process: each user signs in once before any signs in again.
static NEXT_PERSON: AtomicUsize = AtomicUsize::new(0);

/// Calls with a constant number in flight, until they are stopped.
pub(crate) struct Logins {
    tally: Arc<Tally>,
    thread: JoinHandle<()>,
    begun: Instant,
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    signed_in: AtomicU32,
    refused: AtomicU32,
    failed: AtomicU32,
    first_failure: Mutex<Option<String>>,
    cpu: Mutex<Duration>,
}

/// Counters at a time.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    at: Instant,
    signed_in: u32,
}

impl Moment {
    /// Sign-ins a second from this moment to a later one.
    pub(crate) fn rate_to(self, later: Self) -> f64 {
        f64::from(later.signed_in - self.signed_in) / (later.at - self.at).as_secs_f64()
    }
}

/// The totals.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) refused: u32,
    /// Processor time of the calling thread over the time that passed.
    pub(crate) driver_busy: f64,
}

impl Logins {
    pub(crate) fn start(address: SocketAddr, in_flight: usize, core: usize) -> Self {
        let tally = Arc::new(Tally::default());
        let shared = tally.clone();
        let thread = thread::spawn(move || {
            machine::pin(&[core]);
            runtime().block_on(async {
                let clients = connect(address).await;
                let mut calls = JoinSet::new();
                for number in 0..in_flight {
                    calls.spawn(keep_calling(
                        clients[number % CONNECTIONS].clone(),
                        shared.clone(),
                    ));
                }
                calls.join_all().await;
            });
            *shared.cpu.lock().unwrap() = machine::thread_time();
        });
        Self {
            tally,
            thread,
            begun: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment {
            at: Instant::now(),
            signed_in: self.tally.signed_in.load(Ordering::Relaxed),
        }
    }

    /// Waits for the calls in flight.
    ///
    /// # Errors
    /// When a call ended otherwise than signed in or refused.
    pub(crate) fn stop(self) -> Result<Ended, String> {
        self.tally.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the callers panicked")?;
        let failed = self.tally.failed.load(Ordering::Relaxed);
        if let Some(failure) = self.tally.first_failure.lock().unwrap().take() {
            return Err(format!("{failed} sign-ins failed, the first with: {failure}"));
        }
        Ok(Ended {
            refused: self.tally.refused.load(Ordering::Relaxed),
            driver_busy: self.tally.cpu.lock().unwrap().as_secs_f64() / self.begun.elapsed().as_secs_f64(),
        })
    }
}

async fn keep_calling(mut client: PhoneIdentityClient<Channel>, tally: Arc<Tally>) {
    while !tally.stop.load(Ordering::Relaxed) {
        match client.authenticate(next_person()).await {
            Ok(_) => {
                tally.signed_in.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) if status.code() == Code::Unavailable => {
                tally.refused.fetch_add(1, Ordering::Relaxed);
                // Refusals are not what is measured: the next call is made when it makes sense.
                sleep(retry_after(&status).unwrap_or(BACK_OFF)).await;
            }
            Err(status) => {
                tally.failed.fetch_add(1, Ordering::Relaxed);
                let mut first = tally.first_failure.lock().unwrap();
                first.get_or_insert_with(|| status.to_string());
            }
        }
    }
}

/// A flood of sign-ins: a constant number of calls in flight. Each response starts the next call, whatever the result.
pub(crate) struct Flood {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Flood {
    pub(crate) fn start(
        address: SocketAddr,
        in_flight: usize,
        core: usize,
        request: fn(usize) -> AuthenticateRequest,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let shared = stop.clone();
        let thread = thread::spawn(move || {
            machine::pin(&[core]);
            runtime().block_on(async {
                let clients = connect(address).await;
                let mut calls = JoinSet::new();
                for number in 0..in_flight {
                    let (mut client, stop) = (clients[number % CONNECTIONS].clone(), shared.clone());
                    calls.spawn(async move {
                        let mut answered = 0_u64;
                        while !stop.load(Ordering::Relaxed) {
                            let next = number + usize::try_from(answered).unwrap() * in_flight;
                            if client.authenticate(request(next)).await.is_err() {
                                // The retry rate of a client that ignores RetryInfo.
                                sleep(BACK_OFF).await;
                            }
                            answered += 1;
                        }
                        answered
                    });
                }
                calls.join_all().await.into_iter().sum()
            })
        });
        Self { stop, thread }
    }

    /// Ends it, and returns the number of answers.
    pub(crate) fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The results of calls at a fixed rate.
#[derive(Debug, Default)]
pub(crate) struct Offered {
    /// The latency of successful sign-ins, from the time at which the call was due.
    pub(crate) signed_in: Vec<Duration>,
    /// The latency of rejected sign-ins.
    pub(crate) refused: Vec<Duration>,
    /// Rejections without RetryInfo.
    pub(crate) without_retry_info: usize,
    /// Calls without a response.
    pub(crate) hung: usize,
    /// Other errors.
    pub(crate) failures: Vec<String>,
}

/// Calls at a fixed rate for so long, whether or not the calls before are answered, and waits for all answers.
pub(crate) fn offer(address: SocketAddr, per_second: f64, lasting: Duration, core: usize) -> Offered {
    offer_requests(address, per_second, lasting, core, |_| next_person())
}

/// As [`offer`], with the request of each number.
pub(crate) fn offer_requests(
    address: SocketAddr,
    per_second: f64,
    lasting: Duration,
    core: usize,
    request: impl Fn(usize) -> AuthenticateRequest + Send + 'static,
) -> Offered {
    let offering = thread::spawn(move || {
        machine::pin(&[core]);
        machine::go_first();
        runtime().block_on(offer_here(address, per_second, lasting, request))
    });
    offering.join().unwrap()
}

async fn offer_here(
    address: SocketAddr,
    per_second: f64,
    lasting: Duration,
    request: impl Fn(usize) -> AuthenticateRequest,
) -> Offered {
    let clients = connect(address).await;
    let mut calls = JoinSet::new();
    let begun = tokio::time::Instant::now();
    for number in 0_u32.. {
        let due = begun + Duration::from_secs_f64(f64::from(number) / per_second);
        if due - begun >= lasting {
            break;
        }
        sleep_until(due).await;
        let number = usize::try_from(number).unwrap();
        let mut client = clients[number % CONNECTIONS].clone();
        let request = request(number);
        calls.spawn(async move {
            let answer = timeout(HUNG, client.authenticate(request)).await;
            (answer, due.elapsed())
        });
    }
    let mut offered = Offered::default();
    for (answer, waited) in calls.join_all().await {
        match answer {
            Ok(Ok(_)) => offered.signed_in.push(waited),
            Ok(Err(status)) if status.code() == Code::Unavailable => {
                offered.refused.push(waited);
                if retry_after(&status).is_none() {
                    offered.without_retry_info += 1;
                }
            }
            Ok(Err(status)) => offered.failures.push(status.to_string()),
            Err(_) => offered.hung += 1,
        }
    }
    offered
}

fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

fn next_person() -> AuthenticateRequest {
    let number = NEXT_PERSON.fetch_add(1, Ordering::Relaxed);
    AuthenticateRequest {
        phone_number: seed::phone_number(number % seed::PEOPLE),
        password: seed::PASSWORD.to_owned(),
        ..AuthenticateRequest::default()
    }
}

fn runtime() -> runtime::Runtime {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn connect(address: SocketAddr) -> Vec<PhoneIdentityClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(PhoneIdentityClient::new(endpoint.connect().await.unwrap()));
    }
    clients
}
