//! The tables of `docs/reference`, compared with the code that they describe.

use std::process::Command;

use phone_identity::domain::access::Right;
use phone_identity::domain::audit::Action;
use phone_identity::metrics::FAMILIES;

use crate::help::Help;
use crate::server::BINARY;
use crate::{bless, is_blessing, read};

/// The maximum number of characters in a cell. The rest of a longer text stands below the table.
const MAX_CELL: usize = 120;

/// A Markdown table and the rest of the texts that are too long for it.
pub(crate) struct Table {
    table: String,
    details: String,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            table: format!("| {} |\n{}|\n", header.join(" | "), "|---".repeat(header.len())),
            details: String::new(),
        }
    }

    /// Adds a row with `text` as its last cell. `name` is the row's name in the details.
    pub(crate) fn row(&mut self, name: &str, cells: &[&str], text: &str) {
        let (cell, detail) = fit(text);
        let (cell, detail) = (escaped(&cell), detail.map(|detail| escaped(&detail)));
        let cells: Vec<&str> = cells.iter().copied().chain([cell.as_str()]).collect();
        self.table.push_str(&format!("| {} |\n", cells.join(" | ")));
        if let Some(detail) = detail {
            self.details.push_str(&format!("- {name}: {detail}\n"));
        }
    }

    /// Returns the table, and below it the details.
    pub(crate) fn finish(self) -> String {
        if self.details.is_empty() {
            return self.table;
        }
        format!("{}\nDetails:\n\n{}", self.table, self.details)
    }
}

/// Splits a text at the end of a sentence or a clause, so that the first part fits a cell. Splits at a colon only if
/// nothing else fits, and never in parentheses or code. A text that cannot be split stands below the table.
fn fit(text: &str) -> (String, Option<String>) {
    let text = text.trim().trim_end_matches('.');
    if text.chars().count() <= MAX_CELL {
        return (capitalised(text), None);
    }
    let is_end = |(end, _): &(usize, &str)| {
        let (before, after) = (&text[..*end], &text[end + 1..]);
        let is_fitting = before.chars().count() <= MAX_CELL && after.starts_with(' ');
        let is_nested = before.matches('(').count() != before.matches(')').count();
        is_fitting && !is_nested && before.matches('`').count() % 2 == 0
    };
    let last_end = |ends: &[char]| text.match_indices(ends).rfind(is_end);
    match last_end(&[';', '.']).or_else(|| last_end(&[':'])) {
        Some((end, _)) => (capitalised(&text[..end]), Some(text[end + 2..].to_owned())),
        None => ("See below".to_owned(), Some(text.to_owned())),
    }
}

/// Escapes what is HTML outside of code.
fn escaped(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| match index % 2 {
        0 => part.replace('<', "\\<"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`")
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + chars.as_str()
    })
}

/// Compares a generated part of a document, which stands between two HTML comments.
pub(crate) fn assert_generated(path: &str, name: &str, content: &str) {
    let start = format!("<!-- generated: {name} -->\n\n");
    let end = format!("\n<!-- end: {name} -->\n");
    let replace = |text: &str| {
        let (before, rest) = text
            .split_once(&start)
            .unwrap_or_else(|| panic!("{path}: no {start}"));
        let (_, after) = rest
            .split_once(&end)
            .unwrap_or_else(|| panic!("{path}: no {end}"));
        format!("{before}{start}{content}{end}{after}")
    };
    if is_blessing() {
        return bless(path, replace);
    }
    let text = read(path);
    assert!(
        text == replace(&text),
        "{path} should have this as {name} (DOCS_BLESS=1 writes it):\n{content}"
    );
}

#[test]
fn a_long_text_is_split_at_a_sentence_or_a_clause() {
    assert_eq!(fit("a short text."), ("A short text".to_owned(), None));
    let long = format!("first; second (a; b). {}", "x".repeat(MAX_CELL));
    let (cell, detail) = fit(&long);
    assert_eq!(
        (cell.as_str(), detail.unwrap().len()),
        ("First; second (a; b)", MAX_CELL)
    );
}

#[test]
fn the_settings_are_those_of_the_help() {
    let output = Command::new(BINARY).arg("--help").env_clear().output().unwrap();
    let help = Help::parse(&String::from_utf8(output.stdout).unwrap());
    let mut table = Table::new(&["Flag", "Environment", "Default", "Meaning"]);
    for entry in help.section("Settings") {
        let (name, environment) = (format!("`{}`", entry.flag()), format!("`{}`", entry.environment));
        let default = entry.default.as_deref().unwrap_or("none");
        table.row(
            &name,
            &[&name, &environment, default],
            &entry.meaning_and_values(),
        );
    }
    assert_generated("docs/reference/settings.md", "settings", &table.finish());
}

/// Returns the values of an enum of `error.proto` and their comments.
fn reasons(name: &str, prefix: &str) -> Vec<(String, String)> {
    let contract = read("proto/phone_identity/v1/error.proto");
    let values = contract
        .split_once(&format!("enum {name} {{"))
        .and_then(|(_, rest)| rest.split_once("\n}"))
        .expect(name)
        .0;
    let mut reasons = Vec::new();
    let mut comment = String::new();
    for line in values.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("// ") {
            comment = format!("{comment} {text}").trim().to_owned();
        } else if let Some((name, _)) = line.split_once(" = ") {
            let name = name.strip_prefix(prefix).unwrap().to_owned();
            reasons.push((name, std::mem::take(&mut comment)));
        }
    }
    reasons.retain(|(name, _)| name != "UNSPECIFIED");
    assert!(reasons.len() > 20, "{reasons:?}");
    reasons
}

#[test]
fn the_errors_are_those_of_the_contract() {
    let mut table = Table::new(&["Code", "Reason", "When"]);
    for (reason, comment) in reasons("ErrorReason", "ERROR_REASON_") {
        let (code, when) = comment.split_once(": ").expect(&reason);
        let name = format!("`{reason}`");
        table.row(&name, &[&format!("`{code}`"), &name], when);
    }
    assert_generated("docs/reference/errors.md", "errors", &table.finish());
}

#[test]
fn the_violations_are_those_of_the_contract() {
    let mut table = Table::new(&["Reason", "When"]);
    for (reason, comment) in reasons("ViolationReason", "VIOLATION_REASON_") {
        let name = format!("`{reason}`");
        table.row(&name, &[&name], &comment);
    }
    assert_generated("docs/reference/errors.md", "violations", &table.finish());
}

#[test]
fn the_events_are_those_of_the_audit_log() {
    let mut table = Table::new(&["Action", "Done", "Refused"]);
    for action in Action::ALL {
        let name = format!("`{}`", action.as_str());
        table.row(&name, &[&name, action.meaning()], action.refusals());
    }
    assert_generated("docs/reference/audit-events.md", "events", &table.finish());
}

#[test]
fn the_rights_are_those_of_the_authorization() {
    let mut table = Table::new(&["Right", "RPCs"]);
    for right in Right::ALL {
        let rpcs = right.rpcs().iter().map(|rpc| match rpc.split_once('/') {
            Some((service, "*")) => format!("all of `{service}`"),
            Some((_, method)) => format!("`{method}`"),
            None => panic!("{rpc}"),
        });
        let rpcs: Vec<_> = rpcs.collect();
        let name = format!("`{}`", right.as_str());
        table.row(&name, &[&name], &rpcs.join(", "));
    }
    table.row("`all`", &["`all`"], "All RPCs, including those of later versions");
    assert_generated("docs/reference/rights.md", "rights", &table.finish());
}

#[test]
fn the_metrics_are_those_that_are_scraped() {
    let mut table = Table::new(&["Name", "Kind", "Labels", "Meaning"]);
    for family in FAMILIES {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (
            format!("`{}`", family.name),
            family.kind.as_str(),
            labels.join(", "),
        );
        table.row(&name, &[&name, kind, &labels], family.help);
    }
    assert_generated("docs/reference/metrics.md", "metrics", &table.finish());
}
