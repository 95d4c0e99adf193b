//! Sessions that PostgreSQL has. Server, driver and database are on both cores.

use std::time::Duration;

use phone_identity::proto::v1::Consistency;

use super::checks::{VALIDATE_SESSION, target};
use super::{CHECKS_IN_FLIGHT, all_ok, busy, median, median_rate, rounds};
use crate::driver::{Outcome, Pace, Requests, drive};
use crate::postgres::{ASKED, Postgres};
use crate::report::{self, Bar, Row, Unit};
use crate::server::{Server, Setup};
use crate::{Bench, seed};

const FEW: usize = ASKED;
const MANY: usize = 1_000_000;

/// The requests for all sessions that have a token.
fn requests(consistency: Consistency) -> Requests {
    let messages = (0..ASKED).map(|session| seed::validation(session, consistency));
    Requests::new(VALIDATE_SESSION, messages)
}

pub(super) fn strong(bench: &mut Bench) -> Result<(), String> {
    report::say("postgres-strong: ValidateSession against SELECT by primary key");
    let postgres = match Postgres::of_environment() {
        Ok(postgres) => postgres,
        Err(why) => {
            bench.report.not_run("postgres-strong", why);
            return Ok(());
        }
    };
    let url = postgres.seed(bench, FEW);
    let cores = bench.cores.both();
    let server = Server::start(bench, &Setup::at(url.clone(), &cores));
    let requests = requests(Consistency::Strong);
    let (mut checks, mut selects) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        checks.push(drive(
            target(&server),
            &requests,
            CHECKS_IN_FLIGHT,
            Pace::For(bench.seconds),
            bench.cores.driver,
        ));
        selects.push(postgres.bare_selects(bench, &url, CHECKS_IN_FLIGHT, bench.seconds)?);
    }
    all_ok(&checks)?;
    let notes = vec![
        rounds(
            "ValidateSession",
            checks.iter().map(|outcome| report::rate(outcome.per_second())),
        ),
        rounds("SELECT", selects.iter().copied().map(report::rate)),
        busy("ValidateSession", &checks, cores.len()),
    ];
    let (a, b) = (median_rate(&checks), median(selects));
    bench.report.add(Row {
        name: "postgres-strong".to_owned(),
        a: format!("ValidateSession {}", report::rate(a)),
        b: format!("pgbench SELECT {}", report::rate(b)),
        value: a / b,
        unit: Unit::Ratio,
        bar: Bar::AtLeast(1.0, 2.0),
        is_information: true,
        notes,
    });
    Ok(())
}

pub(super) fn growth(bench: &mut Bench) -> Result<(), String> {
    report::say("postgres-growth: ValidateSession of what is not in memory, with few and many people");
    let postgres = match Postgres::of_environment() {
        Ok(postgres) => postgres,
        Err(why) => {
            bench.report.not_run("postgres-growth", why);
            return Ok(());
        }
    };
    let databases = [MANY, FEW].map(|people| postgres.seed(bench, people));
    let mut outcomes = [Vec::new(), Vec::new()];
    for _ in 0..bench.rounds {
        for (url, outcomes) in databases.iter().zip(&mut outcomes) {
            outcomes.push(misses(bench, url));
        }
    }
    let [many, few] = outcomes;
    all_ok(many.iter().chain(&few))?;
    let p50 = |outcomes: &[Outcome]| median(outcomes.iter().map(|o| o.percentile(50).as_secs_f64()));
    let times = |outcomes: &[Outcome]| -> Vec<String> {
        let times = outcomes
            .iter()
            .map(|outcome| report::time(outcome.percentile(50)));
        times.collect()
    };
    let notes = vec![
        rounds("1,000,000", times(&many)),
        rounds("10,000", times(&few)),
        busy("1,000,000", &many, 2),
    ];
    let (a, b) = (p50(&many), p50(&few));
    bench.report.add(Row {
        name: "postgres-growth".to_owned(),
        a: format!("p50 of 1,000,000: {}", report::time(Duration::from_secs_f64(a))),
        b: format!("p50 of 10,000: {}", report::time(Duration::from_secs_f64(b))),
        value: a / b,
        unit: Unit::Ratio,
        bar: Bar::AtMost(1.3, 1.1),
        is_information: false,
        notes,
    });
    Ok(())
}

/// Asks a service that has just started for all sessions that have a token, each once.
fn misses(bench: &Bench, url: &str) -> Outcome {
    let cores = bench.cores.both();
    let server = Server::start(bench, &Setup::at(url.to_owned(), &cores));
    let requests = requests(Consistency::Unspecified);
    drive(target(&server), &requests, 8, Pace::Once, bench.cores.driver)
}
