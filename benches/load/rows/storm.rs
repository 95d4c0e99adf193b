//! Session checks during a storm of sign-ins: on both cores, on one, and under a quota.

use std::thread;
use std::time::Duration;

use phone_identity::proto::v1::Consistency;

use super::checks::{target, validations, warm};
use super::sign_ins::WARM_UP;
use super::{CHECKS_IN_FLIGHT, LOGINS_IN_FLIGHT, all_ok, busy, median, median_rate, rounds};
use crate::cgroup::Quota;
use crate::driver::{NEVER, Outcome, Pace, Requests, drive};
use crate::logins::Logins;
use crate::report::{self, Bar, Row, Unit};
use crate::server::{Server, Setup};
use crate::{Bench, seed};

const P99: Bar = Bar::AtMost(3.0, 1.5);

/// The measurements of one server.
#[derive(Default)]
struct Storm {
    idle: Vec<Outcome>,
    under: Vec<Outcome>,
    /// Sign-ins a second during the rounds of `under`.
    logins: Vec<f64>,
    /// The offered rate in the rounds of the latencies.
    offered: f64,
    idle_paced: Vec<Outcome>,
    under_paced: Vec<Outcome>,
    logins_paced: Vec<f64>,
    refused: u32,
    login_driver_busy: f64,
}

impl Storm {
    /// The rounds of the latencies.
    fn paced(&self) -> impl Iterator<Item = &Outcome> {
        self.idle_paced.iter().chain(&self.under_paced)
    }
}

pub(super) fn storm(bench: &mut Bench) -> Result<(), String> {
    let both = bench.cores.both();
    report::say("storm, storm-p99: ValidateSession while people sign in");
    let found = measure(bench, &both[..1], None)?;
    add(bench, &found, ["storm", "storm-p99"], 1, [false, false], STORM);
    // Here the driver takes its part of one of the cores, and so what is measured is also how the kernel shares it out.
    report::say("storm, storm-p99: the same, server on both cores");
    let found = measure(bench, &both, None)?;
    add(
        bench,
        &found,
        ["storm (server on both cores)", "storm-p99 (server on both cores)"],
        both.len(),
        [true, true],
        STORM,
    );
    Ok(())
}

pub(super) fn quota(bench: &mut Bench) -> Result<(), String> {
    report::say("quota: the same with a quota of one core, server on both cores");
    let quota = match Quota::of_one_core() {
        Ok(quota) => quota,
        Err(why) => {
            bench.report.not_run("quota", why);
            return Ok(());
        }
    };
    let both = bench.cores.both();
    let found = measure(bench, &both, Some(&quota))?;
    add(
        bench,
        &found,
        ["quota", "quota-p99"],
        1,
        [false, true],
        Bar::AtLeast(0.6, 0.8),
    );
    report::say(&format!(
        "quota: the kernel stopped the group {} times",
        quota.throttled()
    ));
    Ok(())
}

const STORM: Bar = Bar::AtLeast(0.85, 0.95);

fn measure(bench: &Bench, cores: &[usize], quota: Option<&Quota>) -> Result<Storm, String> {
    let database = seed::scratch(bench);
    let setup = Setup {
        quota,
        ..Setup::new(&database, cores)
    };
    let server = Server::start(bench, &setup);
    warm(bench, &server)?;
    let requests = validations(Consistency::Unspecified);
    let mut found = Storm::default();
    let closed = Pace::For(bench.seconds);
    for _ in 0..bench.rounds {
        found.idle.push(check(bench, &server, &requests, closed));
        let (outcome, logins) = check_in_storm(bench, &server, &requests, closed, &mut found)?;
        found.under.push(outcome);
        found.logins.push(logins);
    }
    found.offered = median_rate(&found.idle) / 2.0;
    let open = Pace::At {
        per_second: found.offered,
        lasting: bench.seconds,
    };
    for _ in 0..bench.rounds {
        found.idle_paced.push(check(bench, &server, &requests, open));
        let (outcome, logins) = check_in_storm(bench, &server, &requests, open, &mut found)?;
        found.under_paced.push(outcome);
        found.logins_paced.push(logins);
    }
    all_ok(found.idle.iter().chain(&found.under))?;
    Ok(found)
}

fn check(bench: &Bench, server: &Server, requests: &Requests, pace: Pace) -> Outcome {
    // The after-effects of sign-ins have ended: a checkpoint of the database, or an exhausted quota.
    thread::sleep(Duration::from_millis(300));
    drive(
        target(server),
        requests,
        CHECKS_IN_FLIGHT,
        pace,
        bench.cores.driver,
    )
}

fn check_in_storm(
    bench: &Bench,
    server: &Server,
    requests: &Requests,
    pace: Pace,
    found: &mut Storm,
) -> Result<(Outcome, f64), String> {
    let logins = Logins::start(server.address, LOGINS_IN_FLIGHT, bench.cores.driver);
    thread::sleep(WARM_UP);
    let before = logins.now();
    let outcome = drive(
        target(server),
        requests,
        CHECKS_IN_FLIGHT,
        pace,
        bench.cores.driver,
    );
    let rate = before.rate_to(logins.now());
    let ended = logins.stop()?;
    found.refused += ended.refused;
    found.login_driver_busy = found.login_driver_busy.max(ended.driver_busy);
    Ok((outcome, rate))
}

fn add(
    bench: &mut Bench,
    found: &Storm,
    names: [&str; 2],
    cores: usize,
    is_information: [bool; 2],
    bar: Bar,
) {
    let rates = |outcomes: &[Outcome]| -> Vec<String> {
        outcomes
            .iter()
            .map(|outcome| report::rate(outcome.per_second()))
            .collect()
    };
    let wants = |bench: &Bench, name: &str| bench.wants(name.split(' ').next().unwrap_or(name));
    let (idle, under) = (median_rate(&found.idle), median_rate(&found.under));
    if wants(bench, names[0]) {
        bench.report.add(Row {
            name: names[0].to_owned(),
            a: format!("ValidateSession in the storm {}", report::rate(under)),
            b: format!("idle {}", report::rate(idle)),
            value: under / idle,
            unit: Unit::Ratio,
            bar,
            is_information: is_information[0],
            notes: vec![
                rounds("in the storm", rates(&found.under)),
                rounds("idle", rates(&found.idle)),
                format!(
                    "logins meanwhile: {} (median); {} refused; their driver at most {:.1} % busy",
                    report::rate(median(found.logins.iter().copied())),
                    found.refused,
                    100.0 * found.login_driver_busy
                ),
                busy("in the storm", &found.under, cores),
                busy("idle", &found.idle, cores),
            ],
        });
    }
    let p99 = |outcomes: &[Outcome]| median(outcomes.iter().map(|o| o.percentile(99).as_secs_f64()));
    let (idle, under) = (p99(&found.idle_paced), p99(&found.under_paced));
    // Under the quota, the latency is shown together with the throughput.
    if wants(bench, names[1]) || names[0] == "quota" {
        let times = |outcomes: &[Outcome], percent| -> Vec<String> {
            outcomes
                .iter()
                .map(|outcome| report::time(outcome.percentile(percent)))
                .collect()
        };
        bench.report.add(Row {
            name: names[1].to_owned(),
            a: format!(
                "p99 in the storm {}",
                report::time(Duration::from_secs_f64(under))
            ),
            b: format!("idle {}", report::time(Duration::from_secs_f64(idle))),
            // Never is no multiple of anything, and nothing a part of it.
            value: if idle.max(under) < NEVER.as_secs_f64() / 2.0 {
                under / idle
            } else {
                f64::INFINITY
            },
            unit: Unit::Ratio,
            bar: P99,
            is_information: is_information[1],
            notes: vec![
                format!("offered: {}", report::rate(found.offered)),
                rounds("p99 in the storm", times(&found.under_paced, 99)),
                rounds("p99 idle", times(&found.idle_paced, 99)),
                // These are offered whether or not others have been answered: after a pause of some milliseconds there
                // are more of them than --max-concurrent-calls. In the latencies they count as if they had taken for
                // ever.
                format!(
                    "refused: {} of {}",
                    found.paced().map(|outcome| outcome.errors).sum::<u64>(),
                    found
                        .paced()
                        .map(|outcome| outcome.errors + outcome.done)
                        .sum::<u64>()
                ),
                rounds("p50 in the storm", times(&found.under_paced, 50)),
                rounds("p50 idle", times(&found.idle_paced, 50)),
                format!(
                    "logins meanwhile: {} (median)",
                    report::rate(median(found.logins_paced.iter().copied()))
                ),
                busy("in the storm", &found.under_paced, cores),
                busy("idle", &found.idle_paced, cores),
            ],
        });
    }
}
