//! Measures the release binary under load, each figure as a ratio to something that this machine can do in the same
//! run: see docs/performance/method.md. `make bench` runs it.
//!
//! `ROWS=cached,login`, `ROUNDS=5` and `SECONDS_A_ROUND=3` in the environment choose rows and make them shorter or
//! longer.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench that cannot go on has nothing better to do than to end"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "real time is what is measured, and threads of the bench may sleep"
)]

mod bare;
mod cgroup;
mod collector;
mod driver;
mod h2load;
mod hashes;
mod logins;
mod machine;
mod postgres;
mod report;
mod rows;
mod seed;
mod server;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Runtime;

use machine::Cores;
use report::Report;

/// That of the service, so that the bare server has it, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The state that all rows share.
pub(crate) struct Bench {
    /// The release binary.
    binary: PathBuf,
    /// The folder of databases, logs and the report.
    folder: PathBuf,
    cores: Cores,
    /// Number of rounds of each side.
    rounds: usize,
    /// Duration of a round.
    seconds: Duration,
    /// For calls that are not measured.
    runtime: Runtime,
    report: Report,
    /// The rows that were asked for; none means all.
    wanted: Vec<String>,
}

impl Bench {
    fn wants(&self, row: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted == row)
    }
}

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some(bare::MODE) {
        bare::serve();
        return ExitCode::SUCCESS;
    }
    // `cargo bench` sets this flag. Other commands that run all targets skip minutes of load.
    if !env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let target = PathBuf::from(env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned()));
    let folder = fs::canonicalize(&target).unwrap().join("bench");
    fs::create_dir_all(&folder).unwrap();
    let wanted: Vec<String> = env::var("ROWS")
        .unwrap_or_default()
        .split([',', ' '])
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    let is_row = |name: &str| name == rows::TIMING || rows::NAMES.contains(&name);
    if let Some(unknown) = wanted.iter().find(|name| !is_row(name)) {
        eprintln!(
            "error: there is no row {unknown}; there are {}",
            rows::NAMES.join(", ")
        );
        return ExitCode::from(2);
    }
    let mut bench = Bench {
        binary: folder.join("../release/phone-identity"),
        folder,
        cores: Cores::choose(),
        rounds: number("ROUNDS", "5").try_into().unwrap(),
        seconds: Duration::from_secs(number("SECONDS_A_ROUND", "3")),
        runtime: Runtime::new().unwrap(),
        report: Report::default(),
        wanted,
    };
    rows::run(&mut bench);
    let text = format!(
        "{}\n- Rounds: {} of {} s each\n\n{}",
        machine::facts(&bench.cores),
        bench.rounds,
        bench.seconds.as_secs(),
        bench.report
    );
    println!("{text}");
    fs::write(bench.folder.join("report.md"), &text).unwrap();
    ExitCode::from(u8::from(bench.report.has_failed()))
}

/// A number from the environment.
fn number(name: &str, default: &str) -> u64 {
    let text = env::var(name).unwrap_or_else(|_| default.to_owned());
    text.parse()
        .unwrap_or_else(|_| panic!("{name} is not a number: {text}"))
}
