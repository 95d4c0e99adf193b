//! `calibrate`: measures Argon2id on this machine, and recommends parameters for a target duration.
//!
//! The output can be appended to `.env`: all lines except the two settings are comments.

use std::io::{self, Write};
use std::time::Duration;

use super::Failure;
use super::messages::Messages;
use crate::cgroup;
use crate::config::{self, Settings};
use crate::service::hasher::{self, Engine, HashError, MAX_MEMORY_KIB};

/// Minimum memory in MiB for 1, 2, 3 and 4 passes, with p = 1. The OWASP Password Storage Cheat Sheet considers them
/// equally strong.
const OWASP_MINIMUM_MIB: [u32; 4] = [46, 19, 12, 9];

/// Passes of the recommendation when the machine is too slow for all rows: OWASP's first choice, and the default.
const FALLBACK_ITERATIONS: u32 = 2;

/// Maximum number of measurements that refine the memory of a row.
const GUESSES: u32 = 5;

/// Part of the target at which a measured duration is close enough.
const NEAR_ENOUGH: f64 = 0.97;

/// Maximum target. The measurement takes about thirty times as long.
const MAX_TARGET: Duration = Duration::from_secs(1);

/// Divisor of the machine's memory: all hashing threads together use at most this part.
const PART_OF_MEMORY: u64 = 4;

const MIB: u64 = 1024 * 1024;

/// Parameters, and the measured duration of a hash.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CalibrateRow {
    mib: u32,
    iterations: u32,
    time: Duration,
}

impl CalibrateRow {
    /// Returns the relative cost of an attack: memory multiplied by the time for which it is used.
    fn cost(&self) -> u64 {
        let mib = u64::from(self.mib);
        mib * mib * u64::from(self.iterations)
    }
}

/// Parses the target duration.
pub(super) fn target(text: &str) -> Result<Duration, String> {
    let target = config::duration(text)?;
    if (Duration::from_millis(1)..=MAX_TARGET).contains(&target) {
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
    let max_mib = max_memory(options.threads);
    let measure = |mib: u32, iterations| {
        // Short durations vary more, so they are measured more often.
        let runs = if target < Duration::from_millis(50) { 5 } else { 2 };
        hasher::time_of_a_hash(engine, mib * 1024, iterations, runs)
    };
    let rows = rows(target, max_mib, measure).map_err(failed)?;
    write(out, messages, &rows, engine, options.threads, target)
        .map_err(|error| Failure::Failed(error.to_string()))
}

/// Returns the maximum memory of one hash in MiB. All threads, with the one for passwords that have waited too long,
/// use at most their part of the memory.
fn max_memory(threads: usize) -> u32 {
    let limit = MAX_MEMORY_KIB / 1024;
    let threads = u64::try_from(threads + 1).unwrap_or(u64::MAX);
    cgroup::memory().map_or(limit, |memory| {
        u32::try_from(memory / MIB / PART_OF_MEMORY / threads)
            .unwrap_or(limit)
            .min(limit)
    })
}

/// Returns for each number of passes the largest memory with which a hash takes at most `target`, or OWASP's minimum if
/// that takes longer.
fn rows(
    target: Duration,
    max_mib: u32,
    mut measure: impl FnMut(u32, u32) -> Result<Duration, HashError>,
) -> Result<Vec<CalibrateRow>, HashError> {
    let mut rows = Vec::new();
    for (iterations, minimum) in (1..).zip(OWASP_MINIMUM_MIB) {
        let mut best = CalibrateRow {
            mib: minimum,
            iterations,
            time: measure(minimum, iterations)?,
        };
        // The smallest memory that took too long.
        let mut over: Option<CalibrateRow> = None;
        for _ in 0..GUESSES {
            let limit = over.map_or(max_mib, |over| over.mib - 1);
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

/// Estimates the memory in MiB for `target` by linear interpolation between a row that takes less and one that takes
/// more, or by extrapolation from the origin.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and no factor is negative"
)]
fn guess(under: CalibrateRow, over: Option<CalibrateRow>, target: Duration) -> u32 {
    let (mib, time) = (f64::from(under.mib), under.time.as_secs_f64());
    let missing = target.as_secs_f64() - time;
    let mib_a_second = over.map_or(mib / time.max(1e-9), |over| {
        // Slightly less, so that the next measurement is below the target.
        let more = (over.time.as_secs_f64() - time).max(1e-9);
        0.98 * (f64::from(over.mib) - mib) / more
    });
    (mib + missing * mib_a_second) as u32
}

/// Returns the row within the target that is the most expensive to attack.
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

    /// A machine that hashes `speed` MiB per millisecond, and becomes slower above 100 MiB.
    fn machine(speed: f64) -> impl FnMut(u32, u32) -> Result<Duration, HashError> {
        move |mib, iterations| {
            let slow = f64::from(mib.saturating_sub(100)) * 0.3;
            let passes = (f64::from(mib) + slow) * f64::from(iterations);
            Ok(Duration::from_secs_f64(passes / speed / 1e3))
        }
    }

    #[test]
    fn each_row_has_the_largest_memory_within_the_target() {
        for speed in [0.5, 1.0, 5.0, 7.3] {
            let found = rows(TARGET, 1024, machine(speed)).unwrap();
            assert_eq!(found.len(), 4);
            for (row, minimum) in found.iter().zip(OWASP_MINIMUM_MIB) {
                assert_eq!(row.time, machine(speed)(row.mib, row.iterations).unwrap());
                assert!(row.mib >= minimum, "{row:?}");
                if row.mib > minimum {
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
    fn a_row_has_at_most_the_available_memory_and_at_least_the_minimum() {
        for row in rows(TARGET, 40, machine(5.0)).unwrap() {
            assert_eq!(row.mib, if row.iterations == 1 { 46 } else { 40 });
        }
        // With the same memory, more passes cost more.
        let found = rows(TARGET, 48, machine(50.0)).unwrap();
        assert_eq!(recommended(&found, TARGET).unwrap().iterations, 4);
    }

    #[test]
    fn a_slow_machine_gets_the_minimum_with_a_note() {
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
    fn a_target_is_at_most_a_second() {
        assert_eq!(target("100ms").unwrap(), TARGET);
        for text in ["0s", "2s", "100", "soon"] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
