//! Commands that cannot write to standard output or standard error.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::support::PASSWORD;
use crate::support::binary::ServerProcess;
use crate::support::place::Place;

/// A device without room: each write fails with ENOSPC.
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// A pipe that has no reader: each write fails with EPIPE.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn run_into(place: &Place, arguments: &[&str], input: &str, stdout: impl Into<Stdio>) -> Output {
    let mut child = place
        .command()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no input may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The lines of standard error that are not of the log.
fn said(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('{'));
    lines.map(str::to_owned).collect()
}

const NUMBER: &str = "+998901234567";

/// Every command that prints, in an order in which each one succeeds.
const COMMANDS: [&[&str]; 14] = [
    &["migrate"],
    &[
        "createsuperuser",
        "--phone-number",
        NUMBER,
        "--password-stdin",
        "--argon2-memory-kib=64",
    ],
    &[
        "changepassword",
        NUMBER,
        "--password-stdin",
        "--argon2-memory-kib=64",
    ],
    &["users", "list", "--argon2-memory-kib=64"],
    &["users", "show", NUMBER, "--argon2-memory-kib=64"],
    &["users", "show", NUMBER, "--json", "--argon2-memory-kib=64"],
    &["users", "revoke-sessions", NUMBER, "--argon2-memory-kib=64"],
    &["audit"],
    &["audit", "--json"],
    &["service-key", "create", "orders", "--allow=all"],
    &["service-key", "list"],
    &["service-key", "list", "--json"],
    &["after-restore"],
    &["phone-check", NUMBER],
];

#[tokio::test]
async fn a_full_standard_output_is_an_error_and_no_panic() {
    let place = Place::new().await;
    for arguments in COMMANDS {
        let output = run_into(&place, arguments, PASSWORD, full());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said:?}");
        let [line] = said.as_slice() else {
            panic!("{arguments:?}: not one line: {said:?}")
        };
        assert!(
            line.starts_with("error: ") && line.contains("No space left on device"),
            "{arguments:?}: {line}"
        );
    }
    // A user reads help and version, which have no other effect.
    for arguments in [["--help"], ["--version"]] {
        let output = run_into(&place, &arguments, "", full());
        assert_eq!(
            (output.status.code(), said(&output).len()),
            (Some(0), 0),
            "{arguments:?}"
        );
    }
}

#[tokio::test]
async fn a_closed_pipe_fails_only_the_command_that_loses_output() {
    let place = Place::new().await;
    for arguments in COMMANDS {
        let output = run_into(&place, arguments, PASSWORD, closed());
        let said = said(&output);
        let is_shown_once = arguments.contains(&"create");
        // These act on one user after another, and stop at the first that cannot be shown.
        let may_be_unfinished = arguments[0] == "users" && arguments[1] != "list";
        let expected = i32::from(is_shown_once || may_be_unfinished);
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {said:?}");
    }
}

#[tokio::test]
async fn a_service_key_that_cannot_be_printed_is_revoked() {
    let place = Place::new().await;
    let create = ["service-key", "create", "orders", "--allow=all"];
    for (stdout, problem) in [
        (Stdio::from(full()), "No space left on device"),
        (closed(), "Broken pipe"),
    ] {
        let output = run_into(&place, &create, "", stdout);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said:?}");
        assert!(
            said.len() == 1 && said[0].contains(problem) && said[0].contains("was revoked"),
            "{said:?}"
        );
    }
    let listed = place.run(&["service-key", "list", "--json"], "").await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    let keys: Vec<serde_json::Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|key| key["revokedAt"].is_string()), "{listed}");
    // One that is printed stays valid.
    assert!(place.run(&create, "").await.status.success());
    let listed = place.run(&["service-key", "list", "--json"], "").await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.matches("\"revokedAt\":null").count(), 1, "{listed}");
}

#[tokio::test]
async fn a_standard_error_that_is_full_changes_no_exit_code() {
    let place = Place::new().await;
    for (arguments, code) in [
        (vec!["migrate"], 0),
        (vec!["migrate", "--log-level=trace"], 0),
        (vec!["service-key", "create", "orders", "--allow=all"], 0),
        (
            vec!["users", "show", "+998907654321", "--argon2-memory-kib=64"],
            1,
        ),
        (vec!["--session-lifetime=soon"], 2),
    ] {
        let mut command = place.command();
        let status = command
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(full())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_server_serves_on_when_its_standard_output_is_dead() {
    let place = Place::new().await;
    for stdout in [closed(), full().into()] {
        let mut child = tokio::process::Command::from(place.command())
            .args([
                "serve",
                "--listen=127.0.0.1:0",
                "--health-listen=127.0.0.1:0",
                "--metrics-listen=127.0.0.1:0",
                "--shutdown-delay=0s",
            ])
            .stdout(stdout)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = ServerProcess::logged_until(&mut child, "\"message\":\"serving\"").await;
        let warnings = log.matches("standard output cannot be written").count();
        assert_eq!(warnings, 3, "{log}");
        // It answers: the address is in the log.
        let is_listening = |line: &&str| line.contains("\"message\":\"listening\"");
        let line = log.lines().find(is_listening).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let address = format!("--address={}", line["address"].as_str().unwrap());
        let checked = place.run(&["healthcheck", &address, "--timeout=20s"], "").await;
        assert!(checked.status.success(), "{checked:?}");
        let pid = child.id().unwrap().to_string();
        let killed = std::process::Command::new("kill").args(["-TERM", &pid]).status();
        assert!(killed.unwrap().success());
        let ended = tokio::time::timeout(Duration::from_secs(30), child.wait()).await;
        assert_eq!(ended.expect("it does not end").unwrap().code(), Some(0));
    }
}
