//! Timing: response times of failed sign-ins and of codes must not reveal which numbers have an account. Calls of all
//! kinds take turns, and Welch's t-test compares their times. It takes minutes, so only `make bench-timing` runs it,
//! and not `make bench`.

mod codes;
mod fillers;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use phone_identity::proto::v1::AuthenticateRequest;
use phone_identity::proto::v1::phone_identity_client::PhoneIdentityClient;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use crate::report::{self, Bar, Row, Unit};
use crate::server::{Server, Setup};
use crate::{Bench, number, seed};

/// The smallest difference that is significant for this number of calls.
const BAR: f64 = 4.5;

/// Calls in flight: so few that they do not wait for each other.
const CALLERS: usize = 8;

/// With fillers, only this part of the calls is made: each takes several hashes.
const FILLED: usize = 2;

/// Numbers of each kind, of four kinds.
const NUMBERS: usize = seed::PEOPLE / 4;

/// No call is rejected, but all are counted.
const COUNTED: [&str; 2] = [
    "--throttle-number-attempts=1000000",
    "--throttle-number-recovery=1s",
];

/// Everybody is refused after one failure, and for as long as this takes.
const REFUSED: [&str; 3] = [
    "--throttle-number-attempts=1",
    "--throttle-base-delay=15m",
    "--min-failed-sign-in-duration=20ms",
];

/// The kinds of numbers.
const KINDS: [&str; 4] = ["unknown", "wrong password", "deactivated", "older parameters"];

/// Makes calls for numbers with and without an account.
trait Caller: Send + 'static {
    /// Makes a call for a number of a kind, and reports an unexpected response.
    fn call(&mut self, kind: usize, round: usize) -> impl Future<Output = Result<(), String>> + Send;

    /// Makes such a call, and returns a time that may tell of what kind it was: that of the call.
    fn time(&mut self, kind: usize, round: usize) -> impl Future<Output = Result<Duration, String>> + Send {
        async move {
            let begun = Instant::now();
            self.call(kind, round).await?;
            Ok(begun.elapsed())
        }
    }
}

/// The kinds of numbers, the count of each, and the expected response.
#[derive(Clone, Copy)]
struct Kinds {
    kinds: &'static [usize],
    numbers: usize,
    expected: Code,
}

/// Guesses at passwords.
struct Guesses {
    client: PhoneIdentityClient<Channel>,
    kinds: Kinds,
}

impl Caller for Guesses {
    async fn call(&mut self, kind: usize, round: usize) -> Result<(), String> {
        let kind = self.kinds.kinds[kind];
        let request = AuthenticateRequest {
            phone_number: number_of(kind, round % self.kinds.numbers, self.kinds.numbers),
            password: "not the password".to_owned(),
            ..AuthenticateRequest::default()
        };
        match self.client.authenticate(request).await {
            Err(status) if status.code() == self.kinds.expected => Ok(()),
            other => Err(format!("{}: {other:?}", KINDS[kind])),
        }
    }
}

/// A number without an account, or one of an account of a kind.
fn number_of(kind: usize, number: usize, numbers: usize) -> String {
    match kind {
        0 => format!("+99893{}", 4_200_000 + number),
        _ => seed::phone_number((kind - 1) * numbers + number),
    }
}

pub(crate) fn timing(bench: &mut Bench) -> Result<(), String> {
    let calls = usize::try_from(number("CALLS", "2000")).map_err(|error| error.to_string())?;
    report::say(&format!("timing: {calls} failed sign-ins of each kind, in turns"));
    let cores = bench.cores.both();
    let database = seed::scratch(bench);
    seed::make_kinds(bench, &database, NUMBERS);
    let server = Server::start(
        bench,
        &Setup {
            flags: &COUNTED,
            ..Setup::new(&database, &cores)
        },
    );
    let failed = Kinds {
        kinds: &[0, 1, 2, 3],
        numbers: NUMBERS,
        expected: Code::Unauthenticated,
    };
    let idle = guesses(bench, &server, calls, failed)?;
    add_all(bench, "", KINDS, &idle);
    fillers::timing(bench, &server, calls / FILLED, failed)?;
    drop(server);

    report::say("timing: rejections of rate-limited calls");
    let database = seed::scratch(bench);
    let server = Server::start(
        bench,
        &Setup {
            flags: &REFUSED,
            ..Setup::new(&database, &cores)
        },
    );
    let refused = Kinds {
        kinds: &[0, 1],
        numbers: seed::PEOPLE,
        expected: Code::ResourceExhausted,
    };
    let failed = Kinds {
        expected: Code::Unauthenticated,
        ..refused
    };
    guesses(bench, &server, seed::PEOPLE, failed)?;
    // The first rejection of each number queries the database; rejections within the next second do not.
    let asked = guesses(bench, &server, seed::PEOPLE, refused)?;
    let refused = guesses(
        bench,
        &server,
        calls,
        Kinds {
            numbers: 10,
            ..refused
        },
    )?;
    for (what, times) in [(" (first refusal)", &asked), (" (refusal)", &refused)] {
        add(bench, what, (KINDS[0], &times[0]), (KINDS[1], &times[1]));
    }
    drop(server);
    codes::timing(bench, calls)
}

/// Guesses at passwords in turns, and how long each took, by kind.
fn guesses(bench: &Bench, server: &Server, calls: usize, kinds: Kinds) -> Result<Vec<Vec<f64>>, String> {
    measure(bench, CALLERS, calls, kinds.kinds.len(), async || Guesses {
        client: server.client().await,
        kinds,
    })
}

/// Compares each kind with each other one.
fn add_all<const N: usize>(bench: &mut Bench, what: &str, kinds: [&str; N], times: &[Vec<f64>]) {
    for one in 0..N {
        for other in one + 1..N {
            add(
                bench,
                what,
                (kinds[one], &times[one]),
                (kinds[other], &times[other]),
            );
        }
    }
}

fn add(bench: &mut Bench, what: &str, one: (&str, &[f64]), other: (&str, &[f64])) {
    let t = welch(one.1, other.1);
    let side = |(kind, times): (&str, &[f64])| {
        let (mean, _) = mean_and_variance(times);
        format!("{kind}{what} {:.4} ms", mean * 1000.0)
    };
    bench.report.add(Row {
        name: format!("{} / {}{what}", one.0, other.0),
        a: side(one),
        b: side(other),
        value: t.abs(),
        unit: Unit::Ratio,
        bar: Bar::AtMost(BAR, BAR),
        is_information: false,
        notes: vec![format!(
            "Welch's t {t:.2} of {} and {} calls",
            one.1.len(),
            other.1.len()
        )],
    });
}

/// Calls of so many kinds in turns, as many of each, and how long each took, by kind.
fn measure<C: Caller>(
    bench: &Bench,
    callers: usize,
    calls: usize,
    kinds: usize,
    caller: impl AsyncFn() -> C,
) -> Result<Vec<Vec<f64>>, String> {
    let next = Arc::new(AtomicUsize::new(0));
    bench.runtime.block_on(async {
        let mut running = JoinSet::new();
        for _ in 0..callers {
            running.spawn(call(caller().await, next.clone(), calls, kinds));
        }
        let mut times = vec![Vec::with_capacity(calls); kinds];
        while let Some(ended) = running.join_next().await {
            for (kind, time) in ended.map_err(|error| error.to_string())?? {
                times[kind].push(time.as_secs_f64());
            }
        }
        Ok(times)
    })
}

async fn call(
    mut caller: impl Caller,
    next: Arc<AtomicUsize>,
    calls: usize,
    kinds: usize,
) -> Result<Vec<(usize, Duration)>, String> {
    let mut times = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= calls * kinds {
            return Ok(times);
        }
        // Each round in another order, so that no kind always follows the same one.
        let round = number / kinds;
        let kind = (number + round * (1 + round / kinds % 2)) % kinds;
        times.push((kind, caller.time(kind, round).await?));
    }
}

fn mean_and_variance(times: &[f64]) -> (f64, f64) {
    let count = f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
    let mean = times.iter().sum::<f64>() / count;
    let squares: f64 = times.iter().map(|time| (time - mean).powi(2)).sum();
    (mean, squares / (count - 1.0))
}

/// Welch's t: how far two means lie apart, in units of what chance does to them.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let error = |times: &[f64]| {
        let (_, variance) = mean_and_variance(times);
        variance / f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX))
    };
    let difference = mean_and_variance(one).0 - mean_and_variance(other).0;
    difference / (error(one) + error(other)).sqrt()
}
