//! Service keys: made, listed and revoked by the command, and what a call with one gets.

use std::time::Duration;

use phone_identity::domain::token::PlainToken;
use serde_json::Value;
use tokio::time::{Instant, interval, timeout};
use tonic::Code;

use super::{REQUIRE_KEY, check, make_key, reason, revoke_key, sign_in, text, with_key};
use crate::replicas::PATIENCE;
use crate::support::binary::ServerProcess;
use crate::support::place::Place;
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{PASSWORD, TestServer, connect, registration, validation};

/// The default of `--staleness-bound`.
const STALENESS_BOUND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_key_works_at_once_for_what_it_allows_and_for_nothing_else() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[REQUIRE_KEY]).await;
    let mut client = connect(server.address).await;
    assert_eq!(check(&mut client, None).await, "SERVICE_UNKNOWN");
    for _ in 0..5 {
        let (id, key) = make_key(&place, "orders", "validate,register").await;
        assert_eq!(check(&mut client, Some(&key)).await, "SESSION_INVALID");
        assert_eq!(sign_in(&mut client, Some(&key)).await, "SERVICE_NOT_ALLOWED");
        assert!(revoke_key(&place, &id).await.status.success());
    }
    let (_, all) = make_key(&place, "gateway", "all").await;
    assert_eq!(sign_in(&mut client, Some(&all)).await, "INVALID_INPUT");
}

#[tokio::test]
async fn an_invalid_key_is_not_reported_as_an_invalid_session() {
    let server = TestServer::start_with(&[REQUIRE_KEY]).await;
    let (id, key) = make_key(&server.place, "orders", "all").await;
    let mut client = server.client().await;
    let registered = client.register(with_key(&key, registration("+998901234567", PASSWORD)));
    let token = registered.await.unwrap().into_inner().session_token;
    client
        .validate_session(with_key(&key, validation(&token)))
        .await
        .unwrap();
    assert!(revoke_key(&server.place, &id).await.status.success());
    // The clock of this server stands still: only the next reading of the keys shows the change.
    let mut ticks = interval(Duration::from_millis(5));
    let revoked = async {
        while check(&mut client, Some(&key)).await != "SERVICE_UNKNOWN" {
            ticks.tick().await;
        }
    };
    timeout(PATIENCE, revoked).await.expect("is not revoked");
    let mistyped = format!("{}{}", &key[..53], if key.ends_with('x') { 'y' } else { 'x' });
    // Its checksum is right, and nothing else.
    let never_made = PlainToken::generate_for_service().unwrap();
    for wrong in [
        &key,
        &mistyped,
        never_made.expose(),
        &token,
        "",
        "pis_",
        &"x".repeat(1000),
    ] {
        let outcome = client.validate_session(with_key(wrong, validation(&token))).await;
        assert_refused(outcome, Code::PermissionDenied, "SERVICE_UNKNOWN");
    }
    let outcome = client.validate_session(validation(&token)).await;
    assert_refused(outcome, Code::PermissionDenied, "SERVICE_UNKNOWN");
    // The texts differ from those of an invalid session in every language, too.
    let status = client.validate_session(validation(&token)).await.unwrap_err();
    assert!(
        refusal(&status).localized.1.contains("not registered"),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_revoked_key_is_refused_on_every_replica_within_the_bound() {
    let place = Place::new().await;
    let (here, there) = (
        ServerProcess::start(&place, &[REQUIRE_KEY]).await,
        ServerProcess::start(&place, &[REQUIRE_KEY]).await,
    );
    for _ in 0..3 {
        let (id, key) = make_key(&place, "orders", "validate").await;
        let mut clients = [connect(here.address).await, connect(there.address).await];
        for client in &mut clients {
            assert_eq!(check(client, Some(&key)).await, "SESSION_INVALID");
        }
        let revoked = revoke_key(&place, &id).await;
        let acknowledged = Instant::now();
        assert_eq!(text(&revoked.stdout), format!("key {id} of orders: revoked\n"));
        for client in &mut clients {
            let mut ticks = interval(Duration::from_millis(5));
            let refused = async {
                loop {
                    ticks.tick().await;
                    let begun = Instant::now();
                    let answer = check(client, Some(&key)).await;
                    if answer == "SERVICE_UNKNOWN" {
                        break;
                    }
                    // A reading that is late, on a busy machine, is no guess either.
                    assert!(
                        answer == "SESSION_INVALID" || answer == "DATABASE_UNAVAILABLE",
                        "{answer}"
                    );
                    let is_late = begun - acknowledged > STALENESS_BOUND;
                    assert!(
                        !is_late || answer != "SESSION_INVALID",
                        "good after it was revoked"
                    );
                }
            };
            timeout(PATIENCE, refused).await.expect("is not revoked");
        }
    }
}

#[tokio::test]
async fn a_key_takes_the_place_of_another_of_the_same_name() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[REQUIRE_KEY]).await;
    let mut client = connect(server.address).await;
    let (old_id, old) = make_key(&place, "orders", "validate").await;
    let (new_id, new) = make_key(&place, "orders", "validate").await;
    for key in [&old, &new] {
        assert_eq!(check(&mut client, Some(key)).await, "SESSION_INVALID");
    }
    for _ in 0..2 {
        let revoked = revoke_key(&place, &old_id).await;
        assert!(revoked.status.success(), "twice is as once: {revoked:?}");
    }
    assert_eq!(check(&mut client, Some(&new)).await, "SESSION_INVALID");

    let table = text(&place.run(&["service-key", "list"], "").await.stdout);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["ID", "NAME", "ALLOWED", "CREATED", "REVOKED"]);
    assert_eq!(lines[1][..3], [old_id.as_str(), "orders", "validate"]);
    assert_eq!((lines[2][0], lines[2][4]), (new_id.as_str(), "-"));
    assert!(lines[1][4].starts_with("20"), "{table}");
    let json = text(&place.run(&["service-key", "list", "--json"], "").await.stdout);
    let keys: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(keys.len(), 2, "{json}");
    assert_eq!(keys[1]["keyId"], new_id);
    assert_eq!(
        (&keys[0]["revokedAt"].is_string(), &keys[1]["revokedAt"]),
        (&true, &Value::Null)
    );
    for shown in [&table, &json] {
        assert!(
            !shown.contains(&old[4..]) && !shown.contains(&new[4..]),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn the_command_reports_its_errors() {
    let place = Place::new().await;
    for (arguments, code, said) in [
        (
            vec!["create", "Orders", "--allow", "all"],
            2,
            "lower-case letters",
        ),
        (vec!["create", "orders"], 2, "--allow"),
        (
            vec!["create", "orders", "--allow", "validate,everything"],
            2,
            "there is no right \"everything\"",
        ),
        (vec!["revoke", "orders"], 2, "service-key list"),
        (
            vec!["revoke", "0199b4d0-0000-7000-8000-000000000000"],
            1,
            "there is no key",
        ),
    ] {
        let output = place
            .run(&[vec!["service-key"], arguments.clone()].concat(), "")
            .await;
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}

/// The key itself is nowhere, and the audit log names the service, of the keys and of the calls.
#[tokio::test]
async fn only_the_hash_is_stored_and_the_log_names_the_service() {
    let server = TestServer::start_with(&[REQUIRE_KEY]).await;
    let (id, key) = make_key(&server.place, "orders", "register,authenticate").await;
    let mut client = server.client().await;
    let register = with_key(&key, registration("+998901234567", PASSWORD));
    client.register(register).await.unwrap();
    let taken = with_key(&key, registration("+998901234567", PASSWORD));
    client.register(taken).await.unwrap_err();
    assert!(revoke_key(&server.place, &id).await.status.success());
    let dump = server.database.dump().await;
    assert!(!dump.contains(&key) && !dump.contains(&key[4..48]), "{dump}");
    let list = ["audit", "--service", "orders", "--json"];
    let output = server.place.run(&list, "").await;
    let events = text(&output.stdout);
    let events: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut found: Vec<_> = events
        .iter()
        .map(|event| {
            (
                event["action"].as_str().unwrap(),
                event["actor"].as_str().unwrap(),
            )
        })
        .collect();
    // The server and the commands have different clocks.
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("create_service_key", "operator"),
            ("register", "nobody"),
            ("register", "user"),
            ("revoke_service_key", "operator"),
        ]
    );
}

/// Calls count for the service that proved its name.
#[tokio::test]
async fn a_service_is_throttled_by_the_name_of_its_key() {
    let flags = [REQUIRE_KEY, "--throttle-service-attempts=2"];
    let server = TestServer::start_with(&flags).await;
    let (_, orders) = make_key(&server.place, "orders", "authenticate").await;
    let (_, again) = make_key(&server.place, "orders", "authenticate").await;
    let (_, web) = make_key(&server.place, "web", "authenticate").await;
    let mut client = server.client().await;
    for (number, key, expected) in [
        (1, &orders, "INVALID_CREDENTIALS"),
        (2, &orders, "INVALID_CREDENTIALS"),
        (3, &again, "TOO_MANY_ATTEMPTS"),
        (4, &web, "INVALID_CREDENTIALS"),
    ] {
        let credentials = crate::support::credentials(&format!("+99890123456{number}"), PASSWORD);
        let outcome = client.authenticate(with_key(key, credentials)).await;
        assert_eq!(reason(&outcome.unwrap_err()), expected, "{number}");
    }
}

/// Without the setting, a key is passed over.
#[tokio::test]
async fn keys_are_ignored_where_none_is_required() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    assert_eq!(check(&mut client, None).await, "SESSION_INVALID");
    assert_eq!(check(&mut client, Some("nothing")).await, "SESSION_INVALID");
}
