//! The tables of the README, made anew from what they describe.

use std::process::Command;

use phone_identity::domain::access::Right;
use phone_identity::domain::audit::Action;
use phone_identity::metrics::FAMILIES;

use crate::server::BINARY;
use crate::{bless, is_blessing, read};

#[test]
fn the_settings_are_those_of_the_help() {
    let output = Command::new(BINARY).arg("--help").env_clear().output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let settings = help.split_once("\nSettings:\n").expect(&help).1;
    let mut table = "| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n".to_owned();
    for setting in settings.split("\n      --").map(Setting::read) {
        table.push_str(&setting.row());
    }
    assert_shown(&table);
}

#[test]
fn the_errors_are_those_of_the_contract() {
    let contract = read("proto/phone_identity/v1/error.proto");
    let reasons = contract
        .split_once("enum ErrorReason {")
        .and_then(|(_, rest)| rest.split_once("\n}"))
        .expect("enum ErrorReason")
        .0;
    let mut table = "| Code | Reason | When |\n|---|---|---|\n".to_owned();
    let mut comment = String::new();
    for line in reasons.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("// ") {
            comment = format!("{comment} {text}").trim().to_owned();
        } else if let Some((name, _)) = line.split_once(" = ") {
            if let Some((code, when)) = comment.split_once(": ") {
                let reason = name.strip_prefix("ERROR_REASON_").unwrap();
                table.push_str(&format!("| `{code}` | `{reason}` | {} |\n", first_sentence(when)));
            }
            comment.clear();
        }
    }
    assert_shown(&table);
}

#[test]
fn the_events_are_those_of_the_audit_log() {
    let mut table = "| Action | Done | Refused |\n|---|---|---|\n".to_owned();
    for action in Action::ALL {
        let (name, meaning, refusals) = (action.as_str(), action.meaning(), action.refusals());
        table.push_str(&format!("| `{name}` | {meaning} | {refusals} |\n"));
    }
    assert_shown(&table);
}

#[test]
fn the_rights_are_those_of_the_gate() {
    let mut table = "| Right | RPCs |\n|---|---|\n".to_owned();
    for right in Right::ALL {
        let rpcs = right.rpcs().iter().map(|rpc| match rpc.split_once('/') {
            Some((service, "*")) => format!("all of `{service}`"),
            Some((_, method)) => format!("`{method}`"),
            None => panic!("{rpc}"),
        });
        let rpcs: Vec<_> = rpcs.collect();
        table.push_str(&format!("| `{}` | {} |\n", right.as_str(), rpcs.join(", ")));
    }
    table.push_str("| `all` | All of them, and those of later versions |\n");
    assert_shown(&table);
}

#[test]
fn the_metrics_are_those_that_are_scraped() {
    let mut table = "| Name | Kind | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
    for family in FAMILIES {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (family.name, family.kind.as_str(), labels.join(", "));
        table.push_str(&format!(
            "| `{name}` | {kind} | {labels} | {} |\n",
            family.summary()
        ));
    }
    assert_shown(&table);
}

/// The README has this table, whose first line is in no other one.
fn assert_shown(table: &str) {
    if is_blessing() {
        return bless(|readme| {
            let header = table.lines().next().unwrap();
            let start = readme.find(header).expect("the first line of the table");
            let end = start + readme[start..].find("\n\n").expect("an end of the table") + 1;
            format!("{}{table}{}", &readme[..start], &readme[end..])
        });
    }
    assert!(
        read("README.md").contains(&format!("\n\n{table}\n")),
        "README.md should have this table (README_BLESS=1 writes it):\n{table}"
    );
}

/// A setting as the help shows it.
#[derive(Default)]
struct Setting {
    flag: String,
    environment: String,
    default: String,
    meaning: String,
    values: Vec<String>,
}

impl Setting {
    /// Reads what stands after `--`.
    fn read(help: &str) -> Self {
        let mut lines = help.lines().map(str::trim);
        let flag = lines.next().unwrap().trim_start_matches("--");
        let mut setting = Self {
            flag: flag.split([' ', '[']).next().unwrap().to_owned(),
            default: "none".to_owned(),
            ..Self::default()
        };
        let inside =
            |line: &str, prefix: &str| Some(line.strip_prefix(prefix)?.strip_suffix(']')?.to_owned());
        for line in lines.filter(|line| !line.is_empty()) {
            if let Some(environment) = inside(line, "[env: ") {
                environment
                    .trim_end_matches('=')
                    .clone_into(&mut setting.environment);
            } else if let Some(default) = inside(line, "[default: ") {
                setting.default = format!("`{}`", default.replace(' ', ","));
            } else if let Some((value, _)) = line.strip_prefix("- ").and_then(|line| line.split_once(':')) {
                setting.values.push(format!("`{value}`"));
            } else if let Some((meaning, default)) = line.split_once(" [default: ") {
                meaning.clone_into(&mut setting.meaning);
                let default = default.trim_end_matches(']');
                setting.default = match default.contains(' ') {
                    true => default.to_owned(),
                    false => format!("`{default}`"),
                };
            } else if line != "Possible values:" && setting.meaning.is_empty() {
                // The paragraphs that follow the first one are details of the long help.
                line.clone_into(&mut setting.meaning);
            }
        }
        setting
    }

    fn row(&self) -> String {
        let values = match self.values.as_slice() {
            [] => String::new(),
            values => format!(": {}", values.join(", ")),
        };
        format!(
            "| `--{}` | `{}` | {} | {}{values} |\n",
            self.flag, self.environment, self.default, self.meaning
        )
    }
}

/// The first sentence, with a capital letter and without a full stop. The details that follow stay in the contract.
fn first_sentence(text: &str) -> String {
    let sentence = text.split(". ").next().unwrap();
    let (first, rest) = sentence.split_at(1);
    format!("{}{}", first.to_uppercase(), rest.trim_end_matches('.'))
}
