//! SECURITY.md names a test for every threat, and these tests exist.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use clap::{Args as _, FromArgMatches as _};
use phone_identity::config::Settings;
use phone_identity::domain::sms_limits::Bounds;

/// The names of all tests in the files below a folder: functions after an attribute that ends in `test]`, and the
/// properties of proptest, which are in a macro.
fn tests_in(folder: &Path, tests: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_in(&path, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                let function = line.trim_start_matches("async ").strip_prefix("fn ");
                if let Some(function) = function.filter(|_| is_test) {
                    tests.insert(function.split('(').next().unwrap().to_owned());
                }
                is_test =
                    line.starts_with("#[") && (is_test || line.contains("test]") || line.contains("::test("));
            }
        }
    }
}

#[test]
fn every_threat_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = HashSet::new();
    for folder in ["src", "tests", "migration/src"] {
        tests_in(&root.join(folder), &mut tests);
    }
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let header = "| Threat | Answer | Shown by |\n|---|---|---|\n";
    let table = text.split_once(header).expect("the table of threats").1;
    let mut rows = 0;
    for row in table.lines().take_while(|line| line.starts_with('|')) {
        let shown_by = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let names: Vec<_> = shown_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test is named: {row}");
        for name in names {
            assert!(tests.contains(name), "there is no test {name}: {row}");
        }
        rows += 1;
    }
    assert!(rows > 30, "only {rows} rows were read");
}

/// The odds that at least one of so many guesses is right, in percent.
fn odds(guesses: u32, codes: u32) -> f64 {
    100.0 * (1.0 - (1.0 - f64::from(codes).recip()).powf(f64::from(guesses)))
}

/// The table of odds, worked out from the defaults of the settings.
#[test]
fn the_odds_of_guessing_a_code_are_those_of_the_defaults() {
    let command = Settings::augment_args(clap::Command::new("serve"));
    let settings = Settings::from_arg_matches(&command.get_matches_from(["serve"])).unwrap();
    let (limits, codes) = (&settings.sms_limits, &settings.codes);
    let daily = |bounds: Bounds| u32::try_from(bounds.day.unwrap()).unwrap();
    let (attempts, all) = (codes.code_attempts, 10_u32.pow(codes.code_length.into()));
    let burst = settings.throttle.throttle_code_guess_attempts;
    let day = std::time::Duration::from_hours(24);
    let recovered = day.as_secs() / settings.throttle.throttle_code_guess_recovery.as_secs();
    let recovered = u32::try_from(recovered).unwrap();
    let of_address = daily(limits.sms_limit_address) * attempts;
    // Four fifths of the total are for strangers.
    let of_all = 10_000 / 5 * 4 * attempts;
    let first = (daily(limits.sms_limit_number) * attempts).min(burst + recovered);
    let of_year = burst + recovered * 365;
    let rows = [
        (first, 100, "0.0100 %"),
        (recovered, 24, "0.0024 %"),
        (of_year, 8_860, "0.88 %"),
        (2 * recovered, 48, "0.0048 %"),
        (2 * of_year, 17_720, "1.76 %"),
        (of_address, 2_500, "0.25 %"),
        (of_address * 365, 912_500, "60 %"),
        (4 * of_address, 10_000, "1.00 %"),
        (4 * of_address * 365, 3_650_000, "97 %"),
        (of_all, 40_000, "3.9 %"),
        (of_all * 365, 14_600_000, "100 %"),
    ];
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("SECURITY.md")).unwrap();
    let (_, text) = text.split_once("## The odds of guessing a code").unwrap();
    for (guesses, expected, percent) in rows {
        assert_eq!(guesses, expected);
        let places = percent
            .trim_end_matches(" %")
            .split_once('.')
            .map_or(0, |(_, places)| places.len());
        assert_eq!(format!("{:.places$} %", odds(guesses, all)), percent, "{guesses}");
        assert!(
            text.contains(&format!("| {percent} |")),
            "{percent} is not in SECURITY.md"
        );
    }
    // The threshold of the alert, and how long it takes to hit.
    assert_eq!((f64::from(all) / (0.05 * day.as_secs_f64())).floor(), 231.0);
}
