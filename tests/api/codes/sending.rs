//! SendCode, and what is sent.

use std::time::Duration;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::Code;
use uuid::Uuid;

use super::Challenge;
use crate::support::codes::{CodesClient, codes, flags_of_codes, start_with_codes, wanted};
use crate::support::refusal::{assert_refused, assert_violations, refusal};
use crate::support::{PASSWORD, TestServer, credentials, next_phone_number, with_bearer};

/// Waits until there are no more messages in the outbox than so many.
pub(crate) async fn left(server: &TestServer, count: i64) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let waiting = async {
        while server.database.count("outbox_messages").await > count {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("messages stay in the outbox");
}

/// Returns the outcome and the reason of the audit events of messages.
pub(crate) async fn outcomes(server: &TestServer) -> Vec<(String, Option<String>)> {
    let sql = "SELECT outcome, reason FROM audit_events WHERE action = 'deliver_code' ORDER BY outcome";
    let rows = server.database.rows(sql).await;
    rows.iter()
        .map(|row| {
            (
                row.try_get("", "outcome").unwrap(),
                row.try_get("", "reason").unwrap(),
            )
        })
        .collect()
}

/// Waits until the outbox is empty. Returns the number of delivered messages.
async fn delivered(server: &TestServer) -> usize {
    left(server, 0).await;
    let outcomes = outcomes(server).await;
    assert!(
        outcomes.iter().all(|(outcome, _)| outcome == "done"),
        "{outcomes:?}"
    );
    outcomes.len()
}

pub(crate) fn again(challenge_id: &str) -> v1::SendCodeRequest {
    v1::SendCodeRequest {
        challenge_id: challenge_id.to_owned(),
        ..v1::SendCodeRequest::default()
    }
}

#[tokio::test]
async fn a_challenge_has_its_lifetime() {
    let server = start_with_codes(&["--code-length=8", "--code-lifetime=10m"]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let sent = client
        .send_code(wanted(CodePurpose::SignIn, &person.phone_number))
        .await
        .unwrap()
        .into_inner();
    let start = 1_767_225_600;
    assert!(Uuid::parse_str(&sent.challenge_id).is_ok());
    assert_eq!(sent.resend_after.unwrap().seconds, start + 30);
    assert_eq!(sent.expires_at.unwrap().seconds, start + 600);
    assert_eq!(sent.code_length, 8);
}

/// A request reveals nothing about a number, and only numbers with an account get a message.
#[tokio::test]
async fn the_answer_is_the_same_whatever_the_number_is() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let deactivated = server.person().await;
    server
        .client()
        .await
        .deactivate_profile(deactivated.asks(v1::DeactivateProfileRequest::default()))
        .await
        .unwrap();
    let landline = "+998712345678";
    server
        .client()
        .await
        .register(crate::support::registration(landline, PASSWORD))
        .await
        .unwrap();
    let unknown = next_phone_number();
    for purpose in [CodePurpose::SignIn, CodePurpose::ResetPassword] {
        let mut answers = Vec::new();
        for number in [
            &person.phone_number,
            &deactivated.phone_number,
            landline,
            &unknown,
            "+18002345678",
        ] {
            let sent = client
                .send_code(wanted(purpose, number))
                .await
                .unwrap()
                .into_inner();
            answers.push((
                sent.challenge_id.len(),
                sent.resend_after,
                sent.expires_at,
                sent.code_length,
            ));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
    assert_eq!(
        delivered(&server).await,
        4,
        "two people with mobile phones, two purposes"
    );
    assert_eq!(server.database.count("challenges").await, 10);
}

#[tokio::test]
async fn the_same_code_is_sent_once_more_but_not_at_once() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    server.clock.advance(Duration::from_secs(20));
    let refused = client.send_code(again(&challenge.id)).await.unwrap_err();
    let refused = refusal(&refused);
    assert_eq!(
        (refused.code, refused.reason.as_str(), refused.retry_after),
        (
            Code::ResourceExhausted,
            "TOO_MANY_ATTEMPTS",
            Some(Duration::from_secs(10))
        )
    );
    server.clock.advance(Duration::from_secs(10));
    let sent = client.send_code(again(&challenge.id)).await.unwrap().into_inner();
    assert_eq!(sent.challenge_id, challenge.id);
    assert_eq!(sent.resend_after.unwrap().seconds, 1_767_225_660);
    assert_eq!(
        sent.expires_at.unwrap().seconds,
        1_767_225_900,
        "it lives no longer"
    );
    assert_eq!(delivered(&server).await, 2);
    client.verify_code(challenge.met()).await.unwrap();
    server.clock.advance(Duration::from_secs(60));
    let used = client.send_code(again(&challenge.id)).await;
    assert_refused(used, Code::InvalidArgument, "CODE_INVALID");
}

#[tokio::test]
async fn an_expired_or_unknown_challenge_is_not_sent_once_more() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    server.clock.advance(Duration::from_secs(300));
    for id in [&challenge.id, &Uuid::new_v4().to_string(), "x"] {
        let refused = client.send_code(again(id)).await;
        assert_refused(refused, Code::InvalidArgument, "CODE_INVALID");
    }
}

async fn refused_after(client: &mut CodesClient, number: &str, device_token: &str) -> usize {
    for count in 0..20 {
        let mut request = wanted(CodePurpose::SignIn, number);
        request.device_token = device_token.to_owned();
        if let Err(status) = client.send_code(request).await {
            assert_eq!(refusal(&status).reason, "TOO_MANY_ATTEMPTS");
            assert!(refusal(&status).retry_after.is_some());
            return count;
        }
    }
    panic!("never refused");
}

#[tokio::test]
async fn codes_for_a_number_are_limited_and_known_devices_have_their_own_limit() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let mut request = credentials(&person.phone_number, PASSWORD);
    request.remember_device = true;
    let answer = server.client().await.authenticate(request).await.unwrap();
    let device_token = answer.into_inner().device_token;
    for number in [&person.phone_number, &next_phone_number()] {
        assert_eq!(refused_after(&mut client, number, "").await, 5, "{number}");
    }
    assert_eq!(
        refused_after(&mut client, &person.phone_number, &device_token).await,
        5
    );
    // With time it is forgotten.
    server.clock.advance(Duration::from_secs(3600));
    client
        .send_code(wanted(CodePurpose::SignIn, &person.phone_number))
        .await
        .unwrap();
}

#[tokio::test]
async fn all_invalid_fields_are_reported_at_once() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let empty = client.send_code(v1::SendCodeRequest::default()).await;
    assert_violations(empty, &[("purpose", "REQUIRED"), ("phone_number", "REQUIRED")]);
    let mut request = wanted(CodePurpose::SignIn, "123");
    request.default_region = "XX".to_owned();
    request.client = Some(v1::ClientInfo {
        ip_address: "here".to_owned(),
        ..v1::ClientInfo::default()
    });
    let refused = client.send_code(request).await;
    assert_violations(
        refused,
        &[
            ("default_region", "REGION_UNKNOWN"),
            ("client.ip_address", "IP_ADDRESS_INVALID"),
        ],
    );
    let mut request = wanted(CodePurpose::SignIn, &person.phone_number);
    request.challenge_id = Uuid::new_v4().to_string();
    assert_violations(
        client.send_code(request).await,
        &[
            ("purpose", "MUTUALLY_EXCLUSIVE"),
            ("phone_number", "MUTUALLY_EXCLUSIVE"),
        ],
    );
    let theirs = wanted(CodePurpose::VerifyPhone, &person.phone_number);
    let refused = client.send_code(person.asks(theirs)).await;
    assert_violations(refused, &[("phone_number", "NOT_OF_PURPOSE")]);
    let nobodys = client.send_code(wanted(CodePurpose::VerifyPhone, "")).await;
    assert_refused(nobodys, Code::Unauthenticated, "SESSION_INVALID");
    let nobodys = with_bearer("pid_x", wanted(CodePurpose::VerifyPhone, ""));
    assert_refused(
        client.send_code(nobodys).await,
        Code::Unauthenticated,
        "SESSION_INVALID",
    );
}

#[tokio::test]
async fn without_a_provider_there_are_no_codes() {
    let server = TestServer::start().await;
    let mut client = codes(&server).await;
    let sent = client
        .send_code(wanted(CodePurpose::SignIn, "+998901234567"))
        .await;
    assert_refused(sent, Code::FailedPrecondition, "SMS_NOT_CONFIGURED");
    let verified = client.verify_code(v1::VerifyCodeRequest::default()).await;
    assert_refused(verified, Code::FailedPrecondition, "SMS_NOT_CONFIGURED");
}

/// The next process sends the messages that were in the outbox of a killed process. Messages that expired meanwhile are
/// recorded as not sent.
#[tokio::test]
async fn the_outbox_outlives_the_process() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    // The code is of another user, since the first code of an unverified account ends all others.
    let other = server.person().await;
    let met = Challenge::of(&mut client, CodePurpose::SignIn, &other).await;
    let landline = Challenge::of_unknown_number(&mut client, CodePurpose::SignIn, "+998712345678").await;
    assert_eq!(delivered(&server).await, 2);
    client.verify_code(met.met()).await.unwrap();
    let start = chrono::DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    let minutes = |minutes| start + chrono::TimeDelta::minutes(minutes);
    let database = &server.database;
    database
        .execute_with(
            "DELETE FROM audit_events WHERE action = ?",
            vec!["deliver_code".into()],
        )
        .await;
    // The outbox after processes were killed: a due message, an expired one, one of a used challenge, one that is not
    // sent at all, and one that another process may be sending.
    for (id, due_at, expires_at) in [
        (&challenge.id, minutes(0), minutes(5)),
        (&challenge.id, minutes(-9), minutes(-4)),
        (&met.id, minutes(0), minutes(5)),
        (&landline.id, minutes(0), minutes(5)),
        (&challenge.id, minutes(1), minutes(5)),
    ] {
        let values = vec![
            Uuid::new_v4().into(),
            Uuid::parse_str(id).unwrap().into(),
            1.into(),
            due_at.into(),
            expires_at.into(),
        ];
        let insert = "INSERT INTO outbox_messages (id, template, challenge_id, tries, due_at, expires_at) \
                      VALUES (?, 'code', ?, ?, ?, ?)";
        database.execute_with(insert, values).await;
    }
    let flags = flags_of_codes(&[]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = server.restart_with(&flags).await;
    left(&server, 1).await;
    let done = ("done".to_owned(), None);
    let refused = ("refused".to_owned(), Some("SMS_NOT_DELIVERED".to_owned()));
    assert_eq!(outcomes(&server).await, [done.clone(), refused.clone()]);
    server.clock.advance(Duration::from_secs(60));
    left(&server, 0).await;
    assert_eq!(outcomes(&server).await, [done.clone(), done, refused]);
}

#[tokio::test]
async fn challenges_are_removed_when_their_time_is_over() {
    let server = start_with_codes(&["--cleanup-interval=10ms"]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    server.clock.advance(Duration::from_secs(540));
    let kept = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    server.clock.advance(Duration::from_secs(61));
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let removed = async {
        while server.database.count("challenges").await > 1 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), removed)
        .await
        .unwrap();
    client.verify_code(kept.met()).await.unwrap();
}
