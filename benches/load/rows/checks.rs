//! Checking sessions: against the bare server, and with few and many of them stored.

use std::path::Path;
use std::time::Duration;

use phone_identity::proto::v1::Consistency;
use tonic_health::pb::HealthCheckRequest;

use super::{CHECKS_IN_FLIGHT, all_ok, busy, median, median_rate, rounds};
use crate::driver::{Outcome, Pace, Requests, Target, drive};
use crate::report::{self, Bar, Row, Unit};
use crate::server::{Server, Setup};
use crate::{Bench, collector, h2load, seed, server};

pub(crate) const VALIDATE_SESSION: &str = "/phone_identity.v1.PhoneIdentity/ValidateSession";
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// Number of tokens in use at each size of the database.
const ASKED: usize = 10_000;

/// The requests that check all sessions of the smaller database.
pub(super) fn validations(consistency: Consistency) -> Requests {
    validations_with(&[], consistency)
}

fn validations_with(headers: &[(&str, &str)], consistency: Consistency) -> Requests {
    let messages = (0..seed::SMALL).map(|session| seed::validation(session, consistency));
    Requests::with_headers(VALIDATE_SESSION, headers, messages)
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
    warm_by(bench, server, &validations(Consistency::Unspecified))
}

fn warm_by(bench: &Bench, server: &Server, requests: &Requests) -> Result<(), String> {
    let outcome = drive(
        target(server),
        requests,
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
    let (a, b) = in_turns(bench, (&service, &validations), (&bare, &checks))?;
    let mut row = of_rates(name, bar, ("ValidateSession", &a), ("bare Check", &b));
    if name == "cached" {
        row.notes.push(second_opinion(bench, &service, &bare));
    }
    bench.report.add(row);
    Ok(())
}

/// The row of what two servers did a second, each on one core.
fn of_rates(name: &str, bar: Bar, (what_a, a): (&str, &[Outcome]), (what_b, b): (&str, &[Outcome])) -> Row {
    let all = |what, outcomes: &[Outcome]| {
        rounds(
            what,
            outcomes.iter().map(|outcome| report::rate(outcome.per_second())),
        )
    };
    let (rate_a, rate_b) = (median_rate(a), median_rate(b));
    Row {
        name: name.to_owned(),
        a: format!("{what_a} {}", report::rate(rate_a)),
        b: format!("{what_b} {}", report::rate(rate_b)),
        value: rate_a / rate_b,
        unit: Unit::Ratio,
        bar,
        is_information: false,
        notes: vec![
            busy(what_a, a, 1),
            busy(what_b, b, 1),
            all(what_a, a),
            all(what_b, b),
        ],
    }
}

/// Saturates two servers in turns.
fn in_turns(
    bench: &Bench,
    a: (&Server, &Requests),
    b: (&Server, &Requests),
) -> Result<(Vec<Outcome>, Vec<Outcome>), String> {
    let pace = Pace::For(bench.seconds);
    let saturate = |(server, requests): (&Server, &Requests)| {
        let target = target(server);
        drive(target, requests, CHECKS_IN_FLIGHT, pace, bench.cores.driver)
    };
    let outcomes: (Vec<_>, Vec<_>) = (0..bench.rounds).map(|_| (saturate(a), saturate(b))).unzip();
    all_ok(outcomes.0.iter().chain(&outcomes.1))?;
    Ok(outcomes)
}

/// Cost of observability: the metrics listener, and traces of one percent of calls. The counters themselves are always
/// on.
pub(super) fn observed(bench: &mut Bench) -> Result<(), String> {
    let collector = format!("--otlp-endpoint=http://{}", collector::start(bench));
    let database = seed::scratch(bench);
    let side = Side {
        name: "observed",
        how: "with metrics and traces",
        flags: &[
            "--metrics-listen=127.0.0.1:0",
            &collector,
            "--trace-sampling=0.01",
        ],
        headers: &[],
        bar: Bar::AtLeast(0.97, 0.99),
        is_information: false,
    };
    against_plain(bench, &database, &side)
}

/// Cost of authentication of callers by service keys.
pub(super) fn keyed(bench: &mut Bench) -> Result<(), String> {
    let database = seed::scratch(bench);
    let url = format!("--database-url=sqlite://{}", database.display());
    let key = server::run(
        bench,
        &["service-key", "create", "bench", "--allow=validate", &url],
    );
    let side = Side {
        name: "keyed",
        how: "by key",
        flags: &["--require-service-key"],
        headers: &[("x-service-key", key.trim())],
        bar: Bar::AtLeast(0.9, 0.97),
        is_information: true,
    };
    against_plain(bench, &database, &side)
}

/// The variants that are compared with the default service.
struct Side<'a> {
    /// The row.
    name: &'a str,
    how: &'a str,
    flags: &'a [&'a str],
    /// With each call.
    headers: &'a [(&'a str, &'a str)],
    bar: Bar,
    is_information: bool,
}

/// ValidateSession from memory, by two servers on one database.
fn against_plain(bench: &mut Bench, database: &Path, side: &Side<'_>) -> Result<(), String> {
    let Side {
        name,
        how,
        flags,
        headers,
        bar,
        is_information,
    } = *side;
    report::say(&format!("{name}: ValidateSession {how} against itself without"));
    let cores = [bench.cores.server];
    let plain = Setup::new(database, &cores);
    let without = Server::start(bench, &plain);
    let with = Server::start(bench, &Setup { flags, ..plain });
    let requests_with = validations_with(headers, Consistency::Unspecified);
    let requests_without = validations(Consistency::Unspecified);
    warm_by(bench, &with, &requests_with)?;
    warm_by(bench, &without, &requests_without)?;
    let (a, b) = in_turns(bench, (&with, &requests_with), (&without, &requests_without))?;
    bench.report.add(Row {
        is_information,
        ..of_rates(name, bar, (how, &a), ("without", &b))
    });
    Ok(())
}

/// The result of h2load.
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
