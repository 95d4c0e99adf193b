//! Reading the audit log, by its command.

use std::process::Output;
use std::time::Duration;

use phone_identity::proto::v1;

use super::Watched;
use super::erasing::write_failures;
use crate::support::{OTHER_PASSWORD, PASSWORD, Person, TestServer, credentials, next_phone_number};

async fn audit(server: &TestServer, arguments: &[&str]) -> Output {
    server.place.run(&[&["audit"], arguments].concat(), "").await
}

/// Returns the JSON output, one value per line.
pub(super) async fn json(server: &TestServer, arguments: &[&str]) -> Vec<serde_json::Value> {
    let output = audit(server, &[&["--json"], arguments].concat()).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn actions(events: &[serde_json::Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["action"].as_str().unwrap())
        .collect()
}

/// Registers a user. Then, one minute apart, a sign-in fails, one of an unknown number fails, one succeeds, and the
/// user signs out.
pub(super) async fn user_signs_in_and_out(log: &mut Watched) -> Person {
    let mut client = log.client.clone();
    let person = log.person().await;
    log.server.clock.advance(Duration::from_secs(60));
    let failure = client.authenticate(credentials(&person.phone_number, OTHER_PASSWORD));
    failure.await.unwrap_err();
    log.server.clock.advance(Duration::from_secs(60));
    let stranger = client.authenticate(credentials(&next_phone_number(), PASSWORD));
    stranger.await.unwrap_err();
    log.server.clock.advance(Duration::from_secs(60));
    let again = log.sign_in(&person, PASSWORD, false).await;
    log.server.clock.advance(Duration::from_secs(60));
    let revoke = v1::RevokeSessionRequest {
        session_token: again.token.clone(),
    };
    client.revoke_session(revoke).await.unwrap();
    person
}

#[tokio::test]
async fn events_are_filtered_by_user_action_outcome_and_time() {
    let mut log = Watched::start(&[]).await;
    let person = user_signs_in_and_out(&mut log).await;
    let server = &log.server;

    let all = json(server, &[]).await;
    assert_eq!(
        actions(&all),
        ["revoke_session", "sign_in", "sign_in", "sign_in", "register"]
    );
    let user = person.user.user_id.as_str();
    let found = async |arguments: &[&str]| {
        let found = json(server, arguments).await;
        let at = |event: &serde_json::Value| event["at"].as_str().unwrap()[11..16].to_owned();
        found.iter().map(at).collect::<Vec<_>>().join(" ")
    };
    for (arguments, minutes) in [
        (vec!["--user", user], "00:04 00:03 00:01 00:00"),
        (vec!["--actor", user], "00:04 00:03 00:00"),
        (vec!["--user", &user.replace("-7", "-8")], ""),
        (vec!["--action", "sign_in"], "00:03 00:02 00:01"),
        (vec!["--outcome", "refused"], "00:02 00:01"),
        (vec!["--outcome", "done", "--action", "sign_in"], "00:03"),
        (vec!["--service", "shop"], ""),
        (vec!["--since", "2026-01-01T00:03:00Z"], "00:04 00:03"),
        (
            vec![
                "--since",
                "2026-01-01T00:01:00Z",
                "--until",
                "2026-01-01T00:03:00Z",
            ],
            "00:02 00:01",
        ),
        (vec!["--until", "2026-01-01T05:01:00.000001+05:00"], "00:01 00:00"),
        (vec!["--since", "1h"], ""),
        (vec!["--since", "3650d", "--limit", "2"], "00:04 00:03"),
    ] {
        assert_eq!(found(&arguments).await, minutes, "{arguments:?}");
    }

    let event = &all[4];
    for (name, value) in [
        ("at", "2026-01-01T00:00:00.000000Z"),
        ("outcome", "done"),
        ("actor", "user"),
        ("actorId", user),
        ("subjectId", user),
        ("sessionId", &person.session.session_id),
        ("ipAddress", super::ADDRESS),
        ("userAgent", super::DEVICE),
    ] {
        assert_eq!(event[name], value, "{event}");
    }
    assert!(event["requestId"].is_string() && event["eventId"].is_string());
    assert!(event.get("reason").is_none() && event.get("service").is_none());
    assert_eq!(all[1]["endedSessions"], 0);
    assert_eq!(all[2]["reason"], "INVALID_CREDENTIALS");
    assert!(all[2].get("subjectId").is_none());

    let table = audit(server, &["--user", user]).await;
    let table = String::from_utf8(table.stdout).unwrap();
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 5, "{table}");
    assert_eq!(lines[0][..3], ["TIME", "ACTION", "OUTCOME"], "{table}");
    let refused = [
        "2026-01-01T00:01:00.000000Z",
        "sign_in",
        "refused",
        "INVALID_CREDENTIALS",
        "nobody",
        user,
        "-",
        "-",
    ];
    assert_eq!(lines[3], refused, "{table}");
    assert_eq!(lines[4][3..], ["-", user, user, "-", super::ADDRESS], "{table}");
}

/// More than a page of it, in order and without a double.
#[tokio::test]
async fn a_long_log_is_read_page_by_page() {
    let server = TestServer::start().await;
    let person = server.person().await;
    write_failures(&server, &person, 2_700).await;
    let user = &person.user.user_id;
    let ids = async |arguments: &[&str]| -> Vec<String> {
        let events = json(&server, &[&["--user", user], arguments].concat()).await;
        events
            .iter()
            .map(|event| event["eventId"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = ids(&["--limit", "100000"]).await;
    assert_eq!(all.len(), 2_701);
    assert!(all.is_sorted_by(|a, b| a > b));
    assert_eq!(ids(&["--limit", "2500"]).await, all[..2500]);
    assert_eq!(ids(&["--limit", "1000"]).await, all[..1000]);
    assert_eq!(ids(&[]).await, all[..100]);
}

#[tokio::test]
async fn bad_arguments_are_one_clear_line() {
    let server = TestServer::start().await;
    for (arguments, expected) in [
        (["--user", "+998901234567"], "not a user id"),
        (["--action", "eat"], "not one of register, sign_in"),
        (["--since", "yesterday"], "neither a time such as"),
        (["--limit", "0"], "--limit"),
        (["--service", "a\nb"], "not a valid service name"),
    ] {
        let output = audit(&server, &arguments).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.contains(expected) && stderr.lines().count() == 1,
            "{stderr}"
        );
    }
}
