//! The tour of the README.

use std::collections::HashMap;

use crate::server::Server;
use crate::{bless, is_blessing, read, shell, tools};

const SERVICE: &str = "phone_identity.v1.PhoneIdentity";

#[test]
fn the_tour_prints_what_the_readme_shows() {
    let readme = read("README.md");
    let tools = tools();
    let steps = shell::steps(&readme);
    let server = Server::start();
    let outputs = shell::run(&steps, &server, &tools);
    if is_blessing() {
        // A table may have moved the lines meanwhile.
        return bless(|readme| shell::with_outputs(readme, &shell::steps(readme), &outputs));
    }
    let (mut shown_names, mut real_names) = (Names::default(), Names::default());
    for (step, output) in steps.iter().zip(&outputs) {
        let shown = shown_names.normalise(&step.output.join("\n"));
        let real = real_names.normalise(&output.join("\n"));
        assert!(
            shown == real,
            "README.md shows another output than this command has (README_BLESS=1 writes the new ones):\n$ {}\n\
             --- README.md\n{shown}\n--- now\n{real}",
            step.command
        );
    }
}

#[test]
fn the_tour_calls_every_rpc_with_success() {
    let steps = shell::steps(&read("README.md"));
    let contract = read("proto/phone_identity/v1/phone_identity.proto");
    let rpcs: Vec<&str> = contract
        .lines()
        .filter_map(|line| line.trim().strip_prefix("rpc ")?.split_once('('))
        .map(|(name, _)| name)
        .collect();
    assert!(rpcs.len() >= 10, "{rpcs:?}");
    for rpc in rpcs {
        let path = format!("{SERVICE}/{rpc}");
        let succeeds = steps.iter().any(|step| {
            let mut words = step
                .command
                .split(|c: char| !(c.is_ascii_alphanumeric() || "._/".contains(c)));
            let calls_it = words.any(|word| word == path);
            calls_it && step.output.first().is_some_and(|line| line == "{")
        });
        assert!(
            succeeds,
            "the tour of README.md does not show a {rpc} that succeeds"
        );
    }
}

/// Names for what is another one in every run: ids and tokens by the order in which they are first seen, so that the
/// same ones stay the same, and times.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn normalise(&mut self, text: &str) -> String {
        let is_in_word = |c: char| c.is_ascii_alphanumeric() || "-_:.".contains(c);
        let mut normal = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(is_in_word) {
            normal.push_str(&rest[..start]);
            rest = &rest[start..];
            let end = rest.find(|c| !is_in_word(c)).unwrap_or(rest.len());
            normal.push_str(&self.name(&rest[..end]));
            rest = &rest[end..];
        }
        normal + rest
    }

    fn name(&mut self, word: &str) -> String {
        let kind = if word.starts_with("pid_") {
            "token"
        } else if is_uuid(word) {
            "id"
        } else if is_time(word) {
            return "(time)".to_owned();
        } else {
            return word.to_owned();
        };
        let number = self.0.len() + 1;
        let name = self.0.entry(word.to_owned());
        name.or_insert_with(|| format!("({kind} {number})")).clone()
    }
}

fn is_uuid(word: &str) -> bool {
    uuid::Uuid::try_parse(word).is_ok()
}

fn is_time(word: &str) -> bool {
    word.len() >= 20 && chrono::DateTime::parse_from_rfc3339(word).is_ok()
}
