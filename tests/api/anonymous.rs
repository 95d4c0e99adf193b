//! Traces of anonymous failures: N of them leave O(sources) audit rows and O(seconds) log lines, and the counts add up
//! exactly.

use std::collections::BTreeMap;
use std::time::Instant;

use phone_identity::proto::v1::phone_verification_client::PhoneVerificationClient;
use phone_identity::proto::v1::{self, CodePurpose};
use sea_orm::{ConnectionTrait as _, Statement};
use uuid::Uuid;

use crate::support::binary::ServerProcess;
use crate::support::codes::{flags_of_codes, offered};
use crate::support::place::Place;
use crate::support::{channel, connect, registration, validation, with_bearer};

/// Calls of each kind.
const CALLS: u64 = 300;

/// Lines per reason and second, with the summary.
const LINES: u64 = 11;

#[tokio::test]
async fn anonymous_failures_have_bounded_events_with_correct_totals() {
    let place = Place::new().await;
    let flags = flags_of_codes(&["--throttle-address-attempts=0", "--registration=open"]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = ServerProcess::start(&place, &flags).await;
    let mut client = connect(server.address).await;
    let mut codes = PhoneVerificationClient::new(channel(server.address).await);
    let begun = Instant::now();
    for call in 0..CALLS {
        let unknown = format!("pid_{call:032}");
        client.validate_session(validation(&unknown)).await.unwrap_err();
        let list = client.list_sessions(with_bearer(&unknown, v1::ListSessionsRequest {}));
        list.await.unwrap_err();
        client
            .register(registration("no number", "short"))
            .await
            .unwrap_err();
        let guess = v1::VerifyCodeRequest {
            client: Some(v1::ClientInfo {
                // Two sources.
                ip_address: format!("192.0.2.{}", call % 2),
                user_agent: "é".repeat(1500),
            }),
            ..offered(&Uuid::new_v4().to_string(), CodePurpose::SignIn, "123456")
        };
        codes.verify_code(guess).await.unwrap_err();
        let again = v1::SendCodeRequest {
            challenge_id: Uuid::new_v4().to_string(),
            ..v1::SendCodeRequest::default()
        };
        codes.send_code(again).await.unwrap_err();
    }
    // The windows of the log are no longer than the calls took, plus the first and the last one.
    let seconds = begun.elapsed().as_secs() + 2;
    server.terminate();
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");

    let (mut lines, mut refused) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    for line in log.lines() {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let Some(reason) = line["fields"]["reason"].as_str().or(line["reason"].as_str()) else {
            continue;
        };
        let field = |name: &str| line["fields"].get(name).or(line.get(name)).cloned();
        let of_summary = field("refused").and_then(|count| count.as_u64());
        *lines.entry(reason.to_owned()).or_default() += 1;
        *refused.entry(reason.to_owned()).or_default() += of_summary.unwrap_or(1);
    }
    let expected = BTreeMap::from([
        ("CODE_INVALID".to_owned(), 2 * CALLS),
        ("INVALID_INPUT".to_owned(), CALLS),
        ("SESSION_INVALID".to_owned(), 2 * CALLS),
    ]);
    assert_eq!(refused, expected, "{log}");
    for (reason, lines) in &lines {
        assert!(
            *lines <= LINES * seconds,
            "{lines} lines of {reason} in {seconds} s"
        );
    }

    let database = place.connect().await;
    let sql = "SELECT occurrences FROM audit_events WHERE reason = 'CODE_INVALID'";
    let statement = Statement::from_string(database.get_database_backend(), sql);
    let rows = database.query_all_raw(statement).await.unwrap();
    let counts: Vec<i64> = rows
        .iter()
        .map(|row| row.try_get("", "occurrences").unwrap())
        .collect();
    let minutes = usize::try_from(seconds / 60 + 1).unwrap();
    assert!(counts.len() <= 2 * minutes, "{counts:?}");
    assert_eq!(counts.iter().sum::<i64>(), i64::try_from(CALLS).unwrap());
}
