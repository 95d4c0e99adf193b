//! The documents with commands, and what holds for all of them.

use std::collections::BTreeMap;
use std::fs;

use crate::document::{Kind, blocks, steps, with_outputs};
use crate::names::Names;
use crate::{bless, is_blessing, read, root, session, tools};

/// The services, by the file that declares each.
const SERVICES: [(&str, &str); 3] = [
    ("phone_identity.v1.PhoneIdentity", "phone_identity.proto"),
    (
        "phone_identity.v1.PhoneIdentityAdmin",
        "phone_identity_admin.proto",
    ),
    ("phone_identity.v1.PhoneVerification", "phone_verification.proto"),
];

/// Declares the documents with commands, and a test for each.
macro_rules! documents {
    ($($test:ident: $path:literal,)+) => {
        const DOCUMENTS: &[&str] = &[$($path),+];

        $(#[test]
        fn $test() {
            commands_print_what_the_document_shows($path);
        })+
    };
}

documents! {
    commands_of_readme: "README.md",
    commands_of_quickstart: "docs/quickstart.md",
    commands_of_tutorial: "docs/tutorial.md",
    commands_of_administration: "docs/guides/administration.md",
    commands_of_backups: "docs/guides/backups.md",
    commands_of_clients: "docs/guides/clients.md",
    commands_of_languages: "docs/guides/languages.md",
    commands_of_observability: "docs/guides/observability.md",
    commands_of_passwords: "docs/guides/passwords.md",
    commands_of_phone_numbers: "docs/guides/phone-numbers.md",
    commands_of_secret_files: "docs/guides/secret-files.md",
    commands_of_service_authentication: "docs/guides/service-authentication.md",
    commands_of_sms: "docs/guides/sms.md",
    commands_of_throttling: "docs/guides/throttling.md",
    commands_of_tls: "docs/guides/tls.md",
    commands_of_audit_events: "docs/reference/audit-events.md",
    commands_of_cli: "docs/reference/cli.md",
    commands_of_errors: "docs/reference/errors.md",
    commands_of_health: "docs/reference/health.md",
}

/// The reasons for which a block does not run.
const REASONS: [&str; 5] = [
    // Compiles the project or installs tools, which takes minutes.
    "build",
    // Needs Docker.
    "docker",
    // Needs a Kubernetes cluster.
    "cluster",
    // Needs a PostgreSQL or MariaDB server. `tests/api` restores databases with the same commands.
    "database server",
    // Measures the machine for some seconds.
    "measurement",
];

/// The blocks that do not run: document, reason, number. A block that is skipped is a change of this list.
const NOT_RUN: &[(&str, &str, usize)] = &[
    ("README.md", "build", 1),
    ("docs/guides/backups.md", "database server", 2),
    ("docs/guides/docker.md", "docker", 3),
    ("docs/guides/kubernetes.md", "cluster", 4),
    ("docs/guides/passwords.md", "measurement", 1),
    ("docs/guides/upgrades.md", "cluster", 1),
    ("docs/quickstart.md", "build", 1),
    ("docs/tutorial.md", "build", 1),
];

/// The example programs, and the document that shows each.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("docs/quickstart.md", "python", "tests/foreign/guard.py"),
    ("docs/quickstart.md", "js", "tests/foreign/guard.mjs"),
    ("docs/guides/clients.md", "python", "tests/foreign/snippet.py"),
    ("docs/guides/clients.md", "js", "tests/foreign/snippet.mjs"),
];

fn commands_print_what_the_document_shows(path: &str) {
    let text = read(path);
    let steps = steps(&text);
    let index = DOCUMENTS.iter().position(|document| *document == path).unwrap();
    let outputs = session::run(&steps, index, &tools());
    for (step, output) in steps.iter().zip(&outputs) {
        assert!(
            step.kind == Kind::Compared || output.exit_code == "0",
            "{path}: exit code {} of\n{}\n{}",
            output.exit_code,
            step.command,
            output.lines.join("\n")
        );
    }
    let outputs: Vec<Vec<String>> = outputs.into_iter().map(|output| output.lines).collect();
    if is_blessing() {
        // A table of the document can have moved the lines meanwhile.
        return bless(path, |text| {
            with_outputs(text, &crate::document::steps(text), &outputs)
        });
    }
    let (mut shown_names, mut real_names) = (Names::default(), Names::default());
    for (step, output) in steps.iter().zip(&outputs) {
        if step.kind != Kind::Compared {
            continue;
        }
        let shown = shown_names.normalise(&step.output.join("\n"));
        let real = real_names.normalise(&output.join("\n"));
        assert!(
            shown == real,
            "{path} does not show the output of this command (DOCS_BLESS=1 writes it):\n$ {}\n\
             --- {path}\n{shown}\n--- now\n{real}",
            step.command
        );
    }
}

#[test]
fn the_documents_call_every_rpc_with_success() {
    let texts: Vec<String> = DOCUMENTS.iter().map(|path| read(path)).collect();
    let steps: Vec<_> = texts.iter().flat_map(|text| steps(text)).collect();
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
        assert!(succeeds, "no document shows a {path} that succeeds");
    }
}

/// Returns the README and all documents below `docs` except operations, performance and decisions. Another test runs
/// the commands of those.
fn all() -> Vec<String> {
    let mut paths = vec!["README.md".to_owned()];
    for folder in ["docs", "docs/guides", "docs/reference"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                paths.push(format!("{folder}/{name}"));
            }
        }
    }
    assert!(paths.len() > 20, "{paths:?}");
    paths
}

#[test]
fn every_block_runs_or_is_listed_with_its_reason() {
    let mut not_run = BTreeMap::new();
    for path in all() {
        let text = read(&path);
        assert!(
            steps(&text).is_empty() || DOCUMENTS.contains(&path.as_str()),
            "{path} has commands and is not in DOCUMENTS"
        );
        for block in blocks(&text) {
            if let Some(reason) = block.not_run() {
                assert!(REASONS.contains(&reason), "{path}: {reason}");
                *not_run.entry((path.clone(), reason.to_owned())).or_insert(0) += 1;
            }
        }
    }
    let listed = NOT_RUN.iter();
    let listed = listed.map(|(path, reason, count)| (((*path).to_owned(), (*reason).to_owned()), *count));
    assert_eq!(not_run, listed.collect());
    for path in DOCUMENTS {
        assert!(!steps(&read(path)).is_empty(), "{path} has no commands");
    }
}

#[test]
fn the_documents_show_the_example_programs_as_they_are() {
    for (document, language, program) in PROGRAMS {
        let block = format!("```{language}\n{}```\n", read(program));
        if is_blessing() {
            bless(document, |text| with_program(text, language, &block));
        }
        assert!(
            read(document).contains(&block),
            "{document} does not show {program} as it is"
        );
    }
}

/// Returns the document with the program as its only block of this language.
fn with_program(text: &str, language: &str, block: &str) -> String {
    let opening = format!("```{language}\n");
    let start = text.find(&opening).expect("a block of that language");
    let end = start + text[start..].find("\n```\n").expect("the end of the block") + "\n```\n".len();
    format!("{}{block}{}", &text[..start], &text[end..])
}
