//! Twice as many sign-ins as the service can do: some wait as long as the queue is, the others are refused at once.

use std::fs;
use std::time::Duration;

use super::process::mib;
use super::sign_ins::{people, saturate, window};
use crate::driver::percentile;
use crate::hashes::{self, Engine};
use crate::logins::offer;
use crate::report::{self, Bar, Row, Unit};
use crate::server::{Server, Setup};
use crate::{Bench, machine, seed};

/// Factor of the duration of a round of the other rows.
const LASTING: f64 = 10.0;

/// The hash rate that the service reports.
struct Hashing {
    engine: String,
    threads: f64,
    queue: f64,
    hash_time: Duration,
}

pub(super) fn overload(bench: &mut Bench) -> Result<(), String> {
    report::say("overload: twice as many sign-ins as there can be");
    let cores = bench.cores.both();
    let database = seed::scratch(bench);
    let log = bench.folder.join("overload.log");
    let server = Server::start(
        bench,
        &Setup {
            log: Some(&log),
            ..Setup::new(&database, &cores)
        },
    );
    let capacity = saturate(bench, &server, &people(), window(bench))?.per_second();
    let before = machine::memory(server.pid());
    let offered = offer(
        server.address,
        capacity * 2.0,
        bench.seconds.mul_f64(LASTING),
        bench.cores.driver,
    );
    let after = machine::memory(server.pid());
    drop(server);
    if offered.hung > 0 || !offered.failures.is_empty() || offered.without_retry_info > 0 {
        return Err(format!(
            "{} calls were not answered, {} refusals without RetryInfo, {} other errors{}",
            offered.hung,
            offered.without_retry_info,
            offered.failures.len(),
            offered
                .failures
                .first()
                .map_or(String::new(), |first| format!(", such as: {first}"))
        ));
    }
    let (hashing, source) = match said(&fs::read_to_string(&log).unwrap()) {
        Some(hashing) => (hashing, "as the service says"),
        None => (
            measured(bench, &cores),
            "assumed and measured here: the log does not say",
        ),
    };
    let full = hashing.hash_time.mul_f64(hashing.queue / hashing.threads);
    let p99 = percentile(&offered.signed_in, 99);
    bench.report.add(Row {
        name: "overload".to_owned(),
        a: format!("p99 of those signed in {}", report::time(p99)),
        b: format!("a full queue {}", report::time(full)),
        value: p99.as_secs_f64() / full.as_secs_f64(),
        unit: Unit::Ratio,
        bar: Bar::AtMost(1.5, 1.1),
        is_information: false,
        notes: vec![
            format!(
                "engine {}, {} threads, queue {}, {} a hash, {source}",
                hashing.engine,
                hashing.threads,
                hashing.queue,
                report::time(hashing.hash_time)
            ),
            format!(
                "offered {} of {} that it can do: {} signed in, {} refused, all with RetryInfo; all were answered",
                report::rate(capacity * 2.0),
                report::rate(capacity),
                offered.signed_in.len(),
                offered.refused.len()
            ),
            format!(
                "refusals: p50 {}, p99 {}",
                report::time(percentile(&offered.refused, 50)),
                report::time(percentile(&offered.refused, 99))
            ),
            format!("RSS before {}, after {}", mib(before.resident), mib(after.resident)),
        ],
    });
    Ok(())
}

/// Returns the value in a line of the log, if it exists.
fn said(log: &str) -> Option<Hashing> {
    let line = log.lines().find(|line| line.contains("\"hash_microseconds\":"))?;
    let field = |name: &str| {
        let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
        rest.split([',', '}']).next()
    };
    Some(Hashing {
        engine: field("engine")?.trim_matches('"').to_owned(),
        threads: field("threads")?.parse().ok()?,
        queue: field("queue")?.parse().ok()?,
        hash_time: Duration::from_micros(field("hash_microseconds")?.parse().ok()?),
    })
}

/// The state of the service before it reported that.
fn measured(bench: &Bench, cores: &[usize]) -> Hashing {
    let threads = f64::from(u32::try_from(cores.len()).unwrap());
    let per_second = hashes::per_second(Engine::Portable, cores, window(bench));
    Hashing {
        engine: "argon2".to_owned(),
        threads,
        queue: 64.0 * threads,
        hash_time: Duration::from_secs_f64(threads / per_second),
    }
}
