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
