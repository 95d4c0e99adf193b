//! Checking sessions: against the bare server, and with few and many of them stored.

use std::path::Path;
use std::time::Duration;

use phone_identity::proto::v1::Consistency;
use tonic_health::pb::HealthCheckRequest;

use super::{CHECKS_IN_FLIGHT, all_ok, busy, median, median_rate, rounds};
use crate::driver::{Outcome, Pace, Requests, Target, drive};
use crate::report::{self, Bar, Row, Unit};
use crate::server::{Server, Setup};
use crate::{Bench, h2load, seed};

pub(crate) const VALIDATE_SESSION: &str = "/phone_identity.v1.PhoneIdentity/ValidateSession";
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// How many tokens are asked for at each size of the database.
const ASKED: usize = 10_000;

/// The requests that check all sessions of the smaller database.
pub(super) fn validations(consistency: Consistency) -> Requests {
    let messages = (0..seed::SMALL).map(|session| seed::validation(session, consistency));
    Requests::new(VALIDATE_SESSION, messages)
}

pub(super) fn target(server: &Server) -> Target {
    Target {
        address: server.address,
        pid: server.pid(),
    }
}

/// Asks for each session once, so that what can be kept in memory is.
pub(super) fn warm(bench: &Bench, server: &Server) -> Result<(), String> {
    seed::check_token(bench, server, 0);
    let requests = validations(Consistency::Unspecified);
    let outcome = drive(
        target(server),
        &requests,
        CHECKS_IN_FLIGHT,
        Pace::Once,
        bench.cores.driver,
    );
    all_ok([&outcome])
}

pub(super) fn cached(bench: &mut Bench) -> Result<(), String> {
    against_bare(
        bench,
        "cached",
        Consistency::Unspecified,
        Bar::AtLeast(0.85, 0.95),
    )
}

pub(super) fn strong(bench: &mut Bench) -> Result<(), String> {
    against_bare(bench, "strong", Consistency::Strong, Bar::AtLeast(0.4, 0.6))
}

fn against_bare(bench: &mut Bench, name: &str, consistency: Consistency, bar: Bar) -> Result<(), String> {
    report::say(&format!("{name}: ValidateSession against a bare server"));
    let cores = [bench.cores.server];
    let database = seed::scratch(bench);
    let service = Server::start(bench, &Setup::new(&database, &cores));
    let bare = Server::start_bare(&cores);
    warm(bench, &service)?;
    let validations = validations(consistency);
    let checks = Requests::new(CHECK, [HealthCheckRequest::default()]);
    let pace = Pace::For(bench.seconds);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        for (server, requests, outcomes) in [(&service, &validations, &mut a), (&bare, &checks, &mut b)] {
            let target = target(server);
            outcomes.push(drive(
                target,
                requests,
                CHECKS_IN_FLIGHT,
                pace,
                bench.cores.driver,
            ));
        }
    }
    all_ok(a.iter().chain(&b))?;
    let (rate_a, rate_b) = (median_rate(&a), median_rate(&b));
    let mut notes = vec![
        busy("ValidateSession", &a, 1),
        busy("Check", &b, 1),
        rounds(
            "ValidateSession",
            a.iter().map(|outcome| report::rate(outcome.per_second())),
        ),
        rounds(
            "Check",
            b.iter().map(|outcome| report::rate(outcome.per_second())),
        ),
    ];
    if name == "cached" {
        notes.push(second_opinion(bench, &service, &bare));
    }
    bench.report.add(Row {
        name: name.to_owned(),
        a: format!("ValidateSession {}", report::rate(rate_a)),
        b: format!("bare Check {}", report::rate(rate_b)),
        value: rate_a / rate_b,
        unit: Unit::Ratio,
        bar,
        is_information: false,
        notes,
    });
    Ok(())
}

/// What h2load says.
fn second_opinion(bench: &Bench, service: &Server, bare: &Server) -> String {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds.min(3) {
        let request = seed::validation(1, Consistency::Unspecified);
        let answers = [
            h2load::per_second(bench, target(service), VALIDATE_SESSION, &request),
            h2load::per_second(bench, target(bare), CHECK, &HealthCheckRequest::default()),
        ];
        match answers {
            [Some(Ok(validations)), Some(Ok(checks))] => {
                a.push(validations);
                b.push(checks);
            }
            [None, _] | [_, None] => return "h2load: not installed".to_owned(),
            [Some(Err(why)), _] | [_, Some(Err(why))] => return format!("h2load failed: {why}"),
        }
    }
    let (a, b) = (median(a), median(b));
    format!(
        "h2load, one token: ValidateSession {} ÷ bare Check {} = {:.3}",
        report::rate(a),
        report::rate(b),
        a / b
    )
}

pub(super) fn growth(bench: &mut Bench) -> Result<(), String> {
    report::say("growth: ValidateSession of what is not in memory, with few and many sessions stored");
    let large = seed::database(bench, seed::LARGE);
    let small = seed::database(bench, seed::SMALL);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        for (path, sessions, outcomes) in [(&large, seed::LARGE, &mut a), (&small, seed::SMALL, &mut b)] {
            outcomes.push(misses(bench, path, sessions));
        }
    }
    all_ok(a.iter().chain(&b))?;
    let p50 = |outcomes: &[Outcome]| median(outcomes.iter().map(|o| o.percentile(50).as_secs_f64()));
    let (a50, b50) = (p50(&a), p50(&b));
    bench.report.add(Row {
        name: "growth".to_owned(),
        a: format!("p50 of 1,000,000: {}", report::time(Duration::from_secs_f64(a50))),
        b: format!("p50 of 10,000: {}", report::time(Duration::from_secs_f64(b50))),
        value: a50 / b50,
        unit: Unit::Ratio,
        bar: Bar::AtMost(1.3, 1.1),
        is_information: false,
        notes: vec![
            rounds(
                "1,000,000",
                a.iter().map(|outcome| report::time(outcome.percentile(50))),
            ),
            rounds(
                "10,000",
                b.iter().map(|outcome| report::time(outcome.percentile(50))),
            ),
            busy("1,000,000", &a, 1),
            busy("10,000", &b, 1),
        ],
    });
    Ok(())
}

/// Asks a service that has just started for sessions all over the database, each once.
fn misses(bench: &Bench, path: &Path, sessions: usize) -> Outcome {
    let step = sessions / ASKED;
    // Rows are numbered from one, in the order in which they were written.
    seed::use_now(bench, path, &format!("(rowid - 1) % {step} = 0"));
    let cores = [bench.cores.server];
    let server = Server::start(bench, &Setup::new(path, &cores));
    let messages = (0..ASKED).map(|number| seed::validation(number * step, Consistency::Unspecified));
    let requests = Requests::new(VALIDATE_SESSION, messages);
    drive(target(&server), &requests, 8, Pace::Once, bench.cores.driver)
}
