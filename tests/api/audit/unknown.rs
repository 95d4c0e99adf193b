//! Codes for challenges that do not exist: one row per source and minute, with a count that adds up.

use std::time::Duration;

use phone_identity::proto::v1::{self, CodePurpose};
use tonic::Code;

use super::listing::json;
use crate::support::TestServer;
use crate::support::codes::{CodesClient, another, code_of, codes, offered, start_with_codes, wanted};
use crate::support::refusal::assert_refused;

/// Tries a code for a challenge that does not exist.
async fn guess(client: &mut CodesClient, purpose: CodePurpose, address: &str) {
    let request = v1::VerifyCodeRequest {
        client: Some(v1::ClientInfo {
            ip_address: address.to_owned(),
            user_agent: "é".repeat(2000),
        }),
        new_password: match purpose {
            CodePurpose::ResetPassword => "a river in the morning".to_owned(),
            _ => String::new(),
        },
        ..offered(&uuid::Uuid::new_v4().to_string(), purpose, "123456")
    };
    assert_refused(
        client.verify_code(request).await,
        Code::InvalidArgument,
        "CODE_INVALID",
    );
}

/// Addresses and counts of the rows, in this order.
async fn rows(server: &TestServer) -> Vec<(String, i64)> {
    let sql = "SELECT client_ip_address, occurrences FROM audit_events WHERE reason = 'CODE_INVALID' \
               AND subject_id IS NULL ORDER BY client_ip_address, occurrences";
    let rows = server.database.rows(sql).await;
    rows.iter()
        .map(|row| {
            let address: Option<String> = row.try_get("", "client_ip_address").unwrap();
            (
                address.unwrap_or_default(),
                row.try_get("", "occurrences").unwrap(),
            )
        })
        .collect()
}

/// Waits until the counts of the rows add up to this.
async fn counted(server: &TestServer, sum: i64) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let waiting = async {
        while rows(server).await.iter().map(|row| row.1).sum::<i64>() < sum {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("the counts are not written");
}

const FLAGS: [&str; 1] = ["--throttle-address-attempts=0"];

#[tokio::test]
async fn codes_for_unknown_challenges_leave_a_row_per_source_and_minute() {
    let server = start_with_codes(&FLAGS).await;
    let mut client = codes(&server).await;
    for subnet in 0..60 {
        guess(&mut client, CodePurpose::SignIn, "192.0.2.1").await;
        // Addresses of one /48.
        guess(
            &mut client,
            CodePurpose::SignIn,
            &format!("2001:db8:1:{subnet:x}::1"),
        )
        .await;
    }
    guess(&mut client, CodePurpose::ResetPassword, "192.0.2.1").await;
    let once = |address: &str| (address.to_owned(), 1);
    let first = [once("192.0.2.1"), once("192.0.2.1"), once("2001:db8:1::1")];
    assert_eq!(rows(&server).await, first);
    server.clock.advance(Duration::from_secs(60));
    counted(&server, 121).await;
    let minute = [
        once("192.0.2.1"),
        ("192.0.2.1".to_owned(), 60),
        ("2001:db8:1::1".to_owned(), 60),
    ];
    assert_eq!(rows(&server).await, minute);
    // The next minute has rows of its own, and the end of the process writes what it has counted.
    for _ in 0..3 {
        guess(&mut client, CodePurpose::SignIn, "192.0.2.1").await;
    }
    let server = server.restart_with(&FLAGS).await;
    assert_eq!(rows(&server).await.len(), 4);
    counted(&server, 124).await;
    let shown: Vec<_> = json(&server, &["--action", "sign_in_by_code"])
        .await
        .iter()
        .map(|event| event["occurrences"].as_u64().unwrap_or(1))
        .collect();
    assert_eq!(shown.iter().sum::<u64>(), 123);
    assert!(shown.contains(&60) && shown.contains(&3), "{shown:?}");
    let sql = "SELECT client_user_agent FROM audit_events WHERE client_user_agent IS NOT NULL";
    for row in server.database.rows(sql).await {
        let agent: String = row.try_get("", "client_user_agent").unwrap();
        assert_eq!(agent.len(), 256);
    }
}

/// A wrong code of a challenge that exists has a row for each attempt, which names its subject: there are few.
#[tokio::test]
async fn wrong_codes_of_a_challenge_have_their_own_rows() {
    let server = start_with_codes(&FLAGS).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let sent = client
        .send_code(wanted(CodePurpose::SignIn, &person.phone_number))
        .await
        .unwrap();
    let challenge = sent.into_inner().challenge_id;
    let right = code_of(
        &challenge,
        CodePurpose::SignIn,
        &person.phone_number,
        Some(&person.user.user_id),
    );
    for _ in 0..2 {
        let wrong = offered(&challenge, CodePurpose::SignIn, &another(&right));
        client.verify_code(wrong).await.unwrap_err();
    }
    let sql = "SELECT occurrences FROM audit_events WHERE reason = 'CODE_INVALID' AND subject_id IS NOT NULL";
    let counts: Vec<i64> = server
        .database
        .rows(sql)
        .await
        .iter()
        .map(|row| row.try_get("", "occurrences").unwrap())
        .collect();
    assert_eq!(counts, [1, 1]);
}
