//! Signing in while other processes of ordinary priority are busy, one for each core.

use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use super::checks::target;
use super::sign_ins::{WARM_UP, people, window};
use super::{all_ok, busy, median, median_rate, rounds};
use crate::driver::{Outcome, Pace, drive};
use crate::report::{self, Bar, Row, Unit};
use crate::server::{Server, Setup};
use crate::{Bench, seed};

/// Sign-ins a second where their time is measured: less than what is left to them.
const OFFERED: f64 = 20.0;

/// Sign-ins in flight: few, so that their time is that of hashing and not of the queue.
const IN_FLIGHT: usize = 8;

/// Processes that are busy until this is dropped.
struct Neighbours(Vec<Child>);

impl Neighbours {
    fn start(count: usize) -> Self {
        let start = |_| {
            let mut shell = Command::new("sh");
            shell.args(["-c", "while :; do :; done"]).spawn().unwrap()
        };
        Self((0..count).map(start).collect())
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(super) fn neighbour(bench: &mut Bench) -> Result<(), String> {
    report::say("neighbour, neighbour-p50: Authenticate beside two busy processes");
    let cores = bench.cores.both();
    let database = seed::scratch(bench);
    let server = Server::start(bench, &Setup::new(&database, &cores));
    let (window, people) = (window(bench), people());
    let sign_in = |pace| drive(target(&server), &people, IN_FLIGHT, pace, bench.cores.driver);
    let (mut alone, mut beside, mut paced) = (Vec::new(), Vec::new(), Vec::new());
    let offered = Pace::At {
        per_second: OFFERED,
        lasting: window,
    };
    for _ in 0..bench.rounds {
        alone.push(sign_in(Pace::For(window)));
        let neighbours = Neighbours::start(cores.len());
        // The first ones are starved until that is noticed.
        beside.push(sign_in(Pace::For(window)));
        paced.push(sign_in(offered));
        drop(neighbours);
        // Until the next probe finds that they have gone.
        thread::sleep(WARM_UP + Duration::from_secs(1));
    }
    all_ok(alone.iter().chain(&beside).chain(&paced))?;
    let rates = |outcomes: &[Outcome]| -> Vec<String> {
        outcomes
            .iter()
            .map(|outcome| report::rate(outcome.per_second()))
            .collect()
    };
    let (under, idle) = (median_rate(&beside), median_rate(&alone));
    bench.report.add(Row {
        name: "neighbour".to_owned(),
        a: format!("Authenticate beside two busy processes {}", report::rate(under)),
        b: format!("alone {}", report::rate(idle)),
        value: under / idle,
        unit: Unit::Ratio,
        bar: Bar::AtLeast(0.33, 0.45),
        is_information: false,
        notes: vec![
            rounds("beside", rates(&beside)),
            rounds("alone", rates(&alone)),
            busy("beside", &beside, cores.len()),
            busy("alone", &alone, cores.len()),
        ],
    });
    let p50 = median(paced.iter().map(|outcome| outcome.percentile(50).as_secs_f64()));
    bench.report.add(Row {
        name: "neighbour-p50".to_owned(),
        a: format!("p50 beside them {}", report::time(Duration::from_secs_f64(p50))),
        b: format!("one second, at {OFFERED} sign-ins a second"),
        value: p50,
        unit: Unit::Ratio,
        bar: Bar::AtMost(1.0, 0.5),
        is_information: false,
        notes: Vec::new(),
    });
    Ok(())
}
