//! The tour of the README.

use std::collections::HashMap;

use crate::server::Server;
use crate::{bless, is_blessing, read, shell, tools};

/// The services, by the file that each is in.
const SERVICES: [(&str, &str); 3] = [
    ("phone_identity.v1.PhoneIdentity", "phone_identity.proto"),
    (
        "phone_identity.v1.PhoneIdentityAdmin",
        "phone_identity_admin.proto",
    ),
    ("phone_identity.v1.PhoneVerification", "phone_verification.proto"),
];

/// What has another value every time, but is no word that could be told from others.
const OPAQUE: [&str; 2] = ["etag", "nextPageToken"];

#[test]
fn the_tour_prints_what_the_readme_shows() {
    let readme = read("README.md");
    let tools = tools();
    let steps = shell::steps(&readme);
    let server = Server::start_with(&["--sms-providers=log"]);
    let with_keys = server.start_with_keys();
    let outputs = shell::run(&steps, &server, &with_keys, &tools);
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
    let rpcs: Vec<String> = SERVICES
        .iter()
        .flat_map(|(service, file)| {
            let contract = read(&format!("proto/phone_identity/v1/{file}"));
            let lines = contract.lines();
            let names = lines.filter_map(|line| line.trim().strip_prefix("rpc ")?.split_once('('));
            let paths: Vec<String> = names.map(|(name, _)| format!("{service}/{name}")).collect();
            assert!(paths.len() >= 2, "{paths:?}");
            paths
        })
        .collect();
    for path in rpcs {
        let succeeds = steps.iter().any(|step| {
            let mut words = step
                .command
                .split(|c: char| !(c.is_ascii_alphanumeric() || "._/".contains(c)));
            let calls_it = words.any(|word| word == path);
            calls_it && step.output.first().is_some_and(|line| line == "{")
        });
        assert!(
            succeeds,
            "the tour of README.md does not show a {path} that succeeds"
        );
    }
}

/// Names for what is another one in every run: ids and tokens by the order in which they are first seen, so that the
/// same ones stay the same, and times.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn normalise(&mut self, text: &str) -> String {
        let text = without_opaque(text);
        let text = text.as_str();
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
        let kind = if word.starts_with("pid_") || word.starts_with("pis_") {
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

/// JSON without the values of what is opaque.
fn without_opaque(text: &str) -> String {
    let mut text = text.to_owned();
    for name in OPAQUE {
        for colon in [":", ": "] {
            let before = format!("\"{name}\"{colon}\"");
            let mut from = 0;
            while let Some(start) = text[from..]
                .find(&before)
                .map(|found| from + found + before.len())
            {
                let end = start + text[start..].find('"').expect("a value that ends");
                text.replace_range(start..end, "(opaque)");
                from = start;
            }
        }
    }
    text
}

fn is_uuid(word: &str) -> bool {
    uuid::Uuid::try_parse(word).is_ok()
}

fn is_time(word: &str) -> bool {
    word.len() >= 20 && chrono::DateTime::parse_from_rfc3339(word).is_ok()
}
