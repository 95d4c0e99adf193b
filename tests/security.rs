//! Checks of SECURITY.md: every threat has a test that exists, and the odds are those of the default settings.

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

/// Adds the names of all tests in the files below a folder: functions after an attribute that ends in `test]`, and
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

/// Returns the parts of a text between its pairs of backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the ids of all threats: the first cells of the rows of the tables.
fn threats(text: &str) -> Vec<&str> {
    let tables = text
        .split("| Id | Threat | Mitigation |\n|---|---|---|\n")
        .skip(1);
    let rows = tables.flat_map(|table| table.lines().take_while(|line| line.starts_with("| ")));
    rows.map(|row| row.split('|').nth(1).unwrap().trim()).collect()
}

/// Every threat has an entry in the list of tests, and every entry names tests that exist.
#[test]
fn every_threat_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = HashSet::new();
    for folder in ["src", "tests", "migration/src"] {
        tests_in(&root.join(folder), &mut tests);
    }
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let (text, list) = text
        .split_once("\n## Tests of the threats\n")
        .expect("the list of tests");
    let mut listed = Vec::new();
    for entry in list.split("\n- ").skip(1) {
        let (threat, names) = entry.split_once(": ").unwrap();
        let mut names = code_spans(names).peekable();
        assert!(names.peek().is_some(), "no test is named for {threat}");
        for name in names {
            assert!(
                tests.contains(name),
                "there is no test {name}, which {threat} names"
            );
        }
        listed.push(threat);
    }
    let threats = threats(text);
    assert_eq!(listed, threats, "threats, and entries of the list of tests");
    assert_eq!(
        threats.iter().collect::<HashSet<_>>().len(),
        threats.len(),
        "ids are unique"
    );
    assert!(threats.len() > 80, "only {} threats were read", threats.len());
    // A test that the text above the list names exists, too.
    let is_test_name = |name: &str| {
        name.matches('_').count() >= 4 && !name.contains(|c: char| !c.is_ascii_lowercase() && c != '_')
    };
    for name in code_spans(text).filter(|name| is_test_name(name)) {
        assert!(tests.contains(name), "there is no test {name}");
    }
}

/// Returns the probability, in percent, that at least one of the guesses is right.
fn odds(guesses: u32, codes: u32) -> f64 {
    100.0 * (1.0 - (1.0 - f64::from(codes).recip()).powf(f64::from(guesses)))
}

/// The table of odds follows from the default settings.
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
    // The days until one account is taken at the threshold of the alert.
    assert_eq!((f64::from(all) / (0.05 * day.as_secs_f64())).floor(), 231.0);
}
