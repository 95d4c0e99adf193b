//! The process itself: what it has in memory, and how soon it serves.

use std::thread;
use std::time::Duration;

use phone_identity::proto::v1::Consistency;

use super::checks::{VALIDATE_SESSION, target};
use super::{CHECKS_IN_FLIGHT, all_ok, median, rounds};
use crate::driver::{Pace, Requests, drive};
use crate::machine::Memory;
use crate::report::{self, Bar, Row, Unit};
use crate::server::{self, Server, Setup};
use crate::{Bench, machine, seed};

const MIB: f64 = 1024.0 * 1024.0;

/// Number of cached sessions at the first and at the second measurement. At the first one, the page caches of the
/// connections are full. They are bounded, and are not memory of sessions.
const CACHED: [usize; 2] = [110_000, 310_000];

const CAPACITY_FLAG: &str = "--session-cache-capacity";

pub(super) fn memory(bench: &mut Bench) -> Result<(), String> {
    report::say("memory: what a session in memory takes");
    let path = seed::database(bench, seed::LARGE);
    // Writes that wait use memory, too, but not that of the cache.
    seed::use_now(bench, &path, &format!("rowid <= {}", CACHED[1]));
    let has_cache = server::run(bench, &["--help"]).contains(CAPACITY_FLAG);
    let capacity = format!("{CAPACITY_FLAG}={}", CACHED[1] * 5 / 4);
    let flags: &[&str] = if has_cache { &[&capacity] } else { &[] };
    let cores = [bench.cores.server];
    let server = Server::start(
        bench,
        &Setup {
            flags,
            ..Setup::new(&path, &cores)
        },
    );
    let ask = |sessions: std::ops::Range<usize>| -> Result<Memory, String> {
        let messages = sessions.map(|session| seed::validation(session, Consistency::Unspecified));
        let requests = Requests::new(VALIDATE_SESSION, messages);
        let outcome = drive(
            target(&server),
            &requests,
            CHECKS_IN_FLIGHT,
            Pace::Once,
            bench.cores.driver,
        );
        all_ok([&outcome])?;
        // The allocator gives back what it does not need after a while.
        thread::sleep(Duration::from_secs(2));
        Ok(machine::memory(server.pid()))
    };
    let few = ask(0..CACHED[0])?;
    let many = ask(CACHED[0]..CACHED[1])?;
    drop(server);
    let sessions = float(u64::try_from(CACHED[1] - CACHED[0]).unwrap());
    let difference = |of: fn(&Memory) -> u64| (float(of(&many)) - float(of(&few))) / sessions;
    let mut notes = vec![
        format!(
            "RssAnon: {:.0} B a session",
            difference(|memory| memory.anonymous)
        ),
        "the room for all entries may be taken at the start, and is then in neither figure".to_owned(),
    ];
    if !has_cache {
        notes.push(format!(
            "this server has no {CAPACITY_FLAG}: it keeps no sessions, or no more than it likes"
        ));
    }
    bench.report.add(Row {
        name: "memory".to_owned(),
        a: format!("RSS with 310,000 sessions {}", mib(many.resident)),
        b: format!("with 110,000 {}", mib(few.resident)),
        value: difference(|memory| memory.resident),
        unit: Unit::Bytes,
        bar: Bar::AtMost(500.0, 250.0),
        is_information: !has_cache,
        notes,
    });
    Ok(())
}

pub(super) fn start(bench: &mut Bench) -> Result<(), String> {
    report::say("resident, start: a service that has just started");
    let database = seed::scratch(bench);
    let cores = [bench.cores.server];
    let (mut times, mut residents, mut anonymous) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds * 2 {
        let (server, time) = Server::start_and_time(bench, &Setup::new(&database, &cores));
        thread::sleep(Duration::from_millis(200));
        let memory = machine::memory(server.pid());
        times.push(time.as_secs_f64() * 1e3);
        residents.push(float(memory.resident) / MIB);
        anonymous.push(float(memory.anonymous) / MIB);
    }
    if bench.wants("resident") {
        bench.report.add(Row {
            name: "resident".to_owned(),
            a: "RSS before the first sign-in".to_owned(),
            b: String::new(),
            value: median(residents),
            unit: Unit::Mib,
            bar: Bar::AtMost(25.0, 15.0),
            is_information: false,
            notes: vec![format!(
                "of it not mapped from a file: {:.1} MiB",
                median(anonymous)
            )],
        });
    }
    if bench.wants("start") {
        let notes = vec![rounds("starts", times.iter().map(|time| format!("{time:.1} ms")))];
        bench.report.add(Row {
            name: "start".to_owned(),
            a: "exec to SERVING".to_owned(),
            b: String::new(),
            value: median(times),
            unit: Unit::Milliseconds,
            bar: Bar::AtMost(150.0, 50.0),
            is_information: false,
            notes,
        });
    }
    Ok(())
}

/// Bytes as a float: exact up to 2^53, which no memory here is near.
#[allow(clippy::as_conversions, reason = "there is no other way")]
pub(super) fn float(bytes: u64) -> f64 {
    bytes as f64
}

pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", float(bytes) / MIB)
}
