//! `calibrate`: measures how much Argon2id this machine does in a given time, and proposes parameters.
//!
//! What it writes can be appended to `.env`: all but the two settings are comments.

use std::io::{self, Write};
use std::time::Duration;

use super::Failure;
use super::messages::Messages;
use crate::cgroup;
use crate::config::{self, Settings};
use crate::service::hasher::{self, Engine, HashError, MAX_MEMORY_KIB};

/// The least memory in MiB for 1, 2, 3 and 4 passes, with p = 1: the OWASP Password Storage Cheat Sheet, which takes
/// them for equally strong.
const OWASP_MINIMUM_MIB: [u32; 4] = [46, 19, 12, 9];

/// What is recommended if the machine is too slow for any of them: OWASP's first choice, and the default here.
const FALLBACK_ITERATIONS: u32 = 2;

/// How often a guess at the memory is made better.
const GUESSES: u32 = 5;

/// A time that is so much of the target is near enough.
const NEAR_ENOUGH: f64 = 0.97;

/// The target may be so long; the measuring takes some thirty times as long.
const LONGEST_TARGET: Duration = Duration::from_secs(1);

/// The part of the machine's memory that all hashing threads together may have.
const PART_OF_MEMORY: u64 = 4;

const MIB: u64 = 1024 * 1024;

/// Parameters, and how long a hash takes with them.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CalibrateRow {
    mib: u32,
    iterations: u32,
    time: Duration,
}

impl CalibrateRow {
    /// What an attacker has to pay for: so much memory, for so long.
    fn cost(&self) -> u64 {
        let mib = u64::from(self.mib);
        mib * mib * u64::from(self.iterations)
    }
}

/// Reads the target.
pub(super) fn target(text: &str) -> Result<Duration, String> {
    let target = config::duration(text)?;
    if (Duration::from_millis(1)..=LONGEST_TARGET).contains(&target) {
        Ok(target)
    } else {
        Err("not between 1ms and 1s".to_owned())
    }
}

pub(super) fn calibrate(
    settings: &Settings,
    target: Duration,
    messages: Messages,
    out: impl Write,
) -> Result<(), Failure> {
    let failed = |error: HashError| Failure::Failed(error.to_string());
    let options = settings
        .hasher()
        .map_err(|error| Failure::Unusable(error.to_string()))?;
    let engine = hasher::checked_engine(options.engine).map_err(failed)?;
    let most = most_memory(options.threads);
    let measure = |mib: u32, iterations| {
        // A short time is measured more often: it is more easily disturbed.
        let runs = if target < Duration::from_millis(50) { 5 } else { 2 };
        hasher::time_of_a_hash(engine, mib * 1024, iterations, runs)
    };
    let rows = rows(target, most, measure).map_err(failed)?;
    write(out, messages, &rows, engine, options.threads, target)
        .map_err(|error| Failure::Failed(error.to_string()))
}

/// The most MiB for one hash: all threads together, with the one for what has waited too long, take no more than their
/// part of the memory.
fn most_memory(threads: usize) -> u32 {
    let limit = MAX_MEMORY_KIB / 1024;
    let threads = u64::try_from(threads + 1).unwrap_or(u64::MAX);
    cgroup::memory().map_or(limit, |memory| {
        u32::try_from(memory / MIB / PART_OF_MEMORY / threads)
            .unwrap_or(limit)
            .min(limit)
    })
}

/// For each number of passes, the most memory with which a hash takes no longer than `target`, and OWASP's minimum
/// where even that takes longer.
fn rows(
    target: Duration,
    most: u32,
    mut measure: impl FnMut(u32, u32) -> Result<Duration, HashError>,
) -> Result<Vec<CalibrateRow>, HashError> {
    let mut rows = Vec::new();
    for (iterations, least) in (1..).zip(OWASP_MINIMUM_MIB) {
        let mut best = CalibrateRow {
            mib: least,
            iterations,
            time: measure(least, iterations)?,
        };
        // The least that took too long.
        let mut over: Option<CalibrateRow> = None;
        for _ in 0..GUESSES {
            let limit = over.map_or(most, |over| over.mib - 1);
            if best.time > target.mul_f64(NEAR_ENOUGH) || best.mib >= limit {
                break;
            }
            let mib = guess(best, over, target).clamp(best.mib + 1, limit);
            let time = measure(mib, iterations)?;
            let measured = CalibrateRow {
                mib,
                iterations,
                time,
            };
            if time <= target {
                best = measured;
            } else {
                over = Some(measured);
            }
        }
        rows.push(best);
    }
    Ok(rows)
}

/// How many MiB take about `target`: on the line through what takes less and what takes more, or through nothing at
/// all.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "such a cast saturates, and no factor is negative"
)]
fn guess(under: CalibrateRow, over: Option<CalibrateRow>, target: Duration) -> u32 {
    let (mib, time) = (f64::from(under.mib), under.time.as_secs_f64());
    let missing = target.as_secs_f64() - time;
    let mib_a_second = over.map_or(mib / time.max(1e-9), |over| {
        // A little less, so that it is under the next time.
        let more = (over.time.as_secs_f64() - time).max(1e-9);
        0.98 * (f64::from(over.mib) - mib) / more
    });
    (mib + missing * mib_a_second) as u32
}

/// The row that costs an attacker most, of those that meet the target.
fn recommended(rows: &[CalibrateRow], target: Duration) -> Option<CalibrateRow> {
    let rows = rows.iter().filter(|row| row.time <= target);
    rows.copied().max_by_key(CalibrateRow::cost)
}

fn write(
    mut out: impl Write,
    messages: Messages,
    rows: &[CalibrateRow],
    engine: Engine,
    threads: usize,
    target: Duration,
) -> io::Result<()> {
    let target_text = humantime::format_duration(target).to_string();
    let values = [
        ("engine", engine.name().into()),
        ("threads", threads.into()),
        ("target", target_text.as_str().into()),
    ];
    writeln!(out, "# {}", messages.say("cli-calibrate", &values))?;
    let [memory, iterations, milliseconds, logins, all] = [
        "cli-calibrate-memory",
        "cli-calibrate-iterations",
        "cli-calibrate-milliseconds",
        "cli-calibrate-logins",
        "cli-calibrate-all",
    ]
    .map(|id| messages.say(id, &[]));
    writeln!(
        out,
        "# {memory:>10}  {iterations:>10}  {milliseconds:>12}  {logins:>8}  {all:>18}"
    )?;
    for row in rows {
        let seconds = row.time.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "there are few threads")]
        let threads_f64 = threads as f64;
        writeln!(
            out,
            "# {:10}  {:10}  {:12.1}  {:8.0}  {:18}",
            row.mib,
            row.iterations,
            seconds * 1e3,
            threads_f64 / seconds,
            u64::from(row.mib) * u64::try_from(threads + 1).unwrap_or(u64::MAX),
        )?;
    }
    let fallback = || rows.iter().find(|row| row.iterations == FALLBACK_ITERATIONS);
    let row = match (recommended(rows, target), fallback()) {
        (Some(row), _) => {
            writeln!(out, "# {}", messages.say("cli-calibrate-best", &[]))?;
            row
        }
        (None, Some(row)) => {
            writeln!(out, "# {}", messages.say("cli-calibrate-least", &[]))?;
            *row
        }
        (None, None) => return Ok(()),
    };
    writeln!(out, "PHONE_IDENTITY_ARGON2_MEMORY_KIB={}", row.mib * 1024)?;
    writeln!(out, "PHONE_IDENTITY_ARGON2_ITERATIONS={}", row.iterations)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(100);

    /// A machine that does so many MiB a millisecond, and gets slower beyond 100 MiB.
    fn machine(speed: f64) -> impl FnMut(u32, u32) -> Result<Duration, HashError> {
        move |mib, iterations| {
            let slow = f64::from(mib.saturating_sub(100)) * 0.3;
            let passes = (f64::from(mib) + slow) * f64::from(iterations);
            Ok(Duration::from_secs_f64(passes / speed / 1e3))
        }
    }

    #[test]
    fn each_row_has_as_much_memory_as_fits() {
        for speed in [0.5, 1.0, 5.0, 7.3] {
            let found = rows(TARGET, 1024, machine(speed)).unwrap();
            assert_eq!(found.len(), 4);
            for (row, least) in found.iter().zip(OWASP_MINIMUM_MIB) {
                assert_eq!(row.time, machine(speed)(row.mib, row.iterations).unwrap());
                assert!(row.mib >= least, "{row:?}");
                if row.mib > least {
                    assert!(row.time <= TARGET, "{row:?}");
                }
                let more = machine(speed)(row.mib + row.mib / 10 + 1, row.iterations).unwrap();
                assert!(more > TARGET, "{speed}: {row:?}");
            }
            let best = recommended(&found, TARGET).unwrap();
            assert!(
                found
                    .iter()
                    .all(|row| row.time > TARGET || row.cost() <= best.cost())
            );
        }
    }

    #[test]
    fn no_row_has_more_memory_than_there_is_but_always_the_minimum() {
        for row in rows(TARGET, 40, machine(5.0)).unwrap() {
            assert_eq!(row.mib, if row.iterations == 1 { 46 } else { 40 });
        }
        // With the same memory, more passes cost more.
        let found = rows(TARGET, 48, machine(50.0)).unwrap();
        assert_eq!(recommended(&found, TARGET).unwrap().iterations, 4);
    }

    #[test]
    fn a_slow_machine_gets_the_minimum_and_is_told_so() {
        let found = rows(TARGET, 1024, machine(0.01)).unwrap();
        assert!(found.iter().map(|row| row.mib).eq(OWASP_MINIMUM_MIB));
        let mut out = Vec::new();
        write(&mut out, Messages::english(), &found, Engine::Portable, 2, TARGET).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("Even the minimum that OWASP recommends takes longer"),
            "{text}"
        );
        let settings = "PHONE_IDENTITY_ARGON2_MEMORY_KIB=19456\nPHONE_IDENTITY_ARGON2_ITERATIONS=2\n";
        assert!(text.ends_with(settings), "{text}");
    }

    #[test]
    fn a_target_is_a_short_time() {
        assert_eq!(target("100ms").unwrap(), TARGET);
        for text in ["0s", "2s", "100", "soon"] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
