//! The rows of the table. Each measures its two sides in turns, so that what else the machine does hits both.

mod checks;
mod fairness;
mod neighbour;
mod overload;
mod postgres;
mod process;
mod sign_ins;
mod storm;
mod timing;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Bench;
use crate::driver::Outcome;

/// The rows that can be asked for.
pub(crate) const NAMES: [&str; 20] = [
    "cached",
    "strong",
    "observed",
    "keyed",
    "login",
    "login-portable",
    "storm",
    "storm-p99",
    "quota",
    "reverse",
    "neighbour",
    "neighbour-p50",
    "growth",
    "memory",
    "resident",
    "start",
    "overload",
    "fairness",
    "postgres-strong",
    "postgres-growth",
];

/// The row that is measured only on request.
pub(crate) const TIMING: &str = "timing";

/// Checks in flight that saturate a core.
const CHECKS_IN_FLIGHT: usize = 64;

/// Sign-ins in flight that saturate the cores: fewer than the queue of the service holds.
const LOGINS_IN_FLIGHT: usize = 64;

type Measure = fn(&mut Bench) -> Result<(), String>;

/// Measures what was asked for. A row that fails does not keep the others from being measured.
pub(crate) fn run(bench: &mut Bench) {
    let groups: [(&[&str], Measure); 16] = [
        (&["cached"], checks::cached),
        (&["strong"], checks::strong),
        (&["observed"], checks::observed),
        (&["keyed"], checks::keyed),
        (&["login", "login-portable"], sign_ins::against_raw_hashes),
        (&["storm", "storm-p99"], storm::storm),
        (&["quota"], storm::quota),
        (&["reverse"], sign_ins::under_checks),
        (&["neighbour", "neighbour-p50"], neighbour::neighbour),
        (&["growth"], checks::growth),
        (&["memory"], process::memory),
        (&["resident", "start"], process::start),
        (&["overload"], overload::overload),
        (&["fairness"], fairness::fairness),
        (&["postgres-strong"], postgres::strong),
        (&["postgres-growth"], postgres::growth),
    ];
    // Only on request.
    if bench.wanted.iter().any(|wanted| wanted == TIMING)
        && let Err(why) = timing::timing(bench)
    {
        bench.report.failed(TIMING, why);
    }
    for (names, measure) in groups {
        if !names.iter().any(|name| bench.wants(name)) {
            continue;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| measure(bench)))
            .unwrap_or_else(|_| Err("it panicked: see above".to_owned()));
        if let Err(why) = outcome {
            bench.report.failed(&names.join(", "), why);
        }
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

fn median_rate(outcomes: &[Outcome]) -> f64 {
    median(outcomes.iter().map(Outcome::per_second))
}

/// Fails if a request was answered otherwise than OK.
fn all_ok<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Result<(), String> {
    let errors: u64 = outcomes.into_iter().map(|outcome| outcome.errors).sum();
    match errors {
        0 => Ok(()),
        _ => Err(format!("{errors} errors")),
    }
}

/// The load of both sides, and whether the driver was the bottleneck.
fn busy(what: &str, outcomes: &[Outcome], server_cores: usize) -> String {
    let driver = median(outcomes.iter().map(|outcome| outcome.driver_busy));
    let server = median(outcomes.iter().map(|outcome| outcome.server_busy));
    let all = f64::from(u32::try_from(server_cores).unwrap());
    let verdict = if driver >= 0.95 && server < 0.95 * all {
        "; **driver was the bottleneck**"
    } else {
        ""
    };
    format!(
        "{what}: driver {:.0} % busy, server {:.0} % of {server_cores} core{}{verdict}",
        driver * 100.0,
        server * 100.0,
        if server_cores == 1 { "" } else { "s" }
    )
}

/// The figures of all rounds, which show the variance.
fn rounds(what: &str, figures: impl IntoIterator<Item = String>) -> String {
    format!("{what}: {}", figures.into_iter().collect::<Vec<_>>().join(", "))
}
