//! The outbox: a message waits until a provider accepts it or it is given up.

use std::time::Duration;

use chrono::TimeDelta;
use phone_identity::clock::{Clock as _, SystemClock, Timestamp};
use phone_identity::proto::v1::CodePurpose;
use phone_identity::proto::v1::phone_verification_client::PhoneVerificationClient;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use tempfile::NamedTempFile;

use super::Challenge;
use super::providers::{SECRET, playmobile, secret, send, start, twilio, webhook};
use super::sending::{left, outcomes};
use crate::metrics::until;
use crate::support::binary::ServerProcess;
use crate::support::codes::{CEILING, code_of, codes, flag_of_keys, offered, wanted};
use crate::support::place::Place;
use crate::support::stub::{Answer, Stub};
use crate::support::{PASSWORD, TestServer, channel, connect, eventually, next_phone_number, registration};

/// A success is one, however long the answer is.
#[tokio::test]
async fn an_accepted_message_is_not_sent_again() {
    let stub = Stub::start(&[Answer::Huge(200, 10 * 1024 * 1024)]).await;
    let token = secret("the auth token");
    let server = start("twilio", &[twilio(&stub.url(), "Shop", &token)]).await;
    let person = server.person().await;
    send(&server, &person).await;
    left(&server, 0).await;
    assert_eq!(outcomes(&server).await, [("done".to_owned(), None)]);
    assert_eq!(stub.requests().len(), 1);
}

/// The flags of a server that sends by a stub of a gateway, and one more.
fn by_webhook(stub: &Stub, key: &NamedTempFile, flag: &str) -> Vec<String> {
    let mut flags = webhook(&stub.url(), key);
    flags.extend([
        flag_of_keys(),
        "--sms-providers=webhook".to_owned(),
        flag.to_owned(),
    ]);
    flags.extend(CEILING.map(str::to_owned));
    flags
}

/// Waits until the only message is to be sent at this time.
pub(crate) async fn is_due_at(server: &TestServer, time: Timestamp) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let waiting = async {
        loop {
            let rows = server.database.rows("SELECT due_at FROM outbox_messages").await;
            if rows[0].try_get::<Timestamp>("", "due_at").unwrap() == time {
                return;
            }
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("the message is not put off");
}

#[tokio::test]
async fn a_temporary_failure_is_retried_with_the_same_code() {
    let stub = Stub::start(&[
        Answer::Status(503, ""),
        Answer::Nothing,
        Answer::Status(201, "{}"),
    ])
    .await;
    let token = secret("the auth token");
    let server = start("twilio", &[twilio(&stub.url(), "Shop", &token)]).await;
    let person = server.person().await;
    let challenge = send(&server, &person).await;
    // A second, then two.
    for (count, pause) in [(1, 1), (2, 2)] {
        eventually(|| stub.requests().len() == count).await;
        let due_at = server.clock.now() + Duration::from_secs(pause);
        is_due_at(&server, due_at).await;
        // Not before its time: nothing is due until the clock is set on.
        server.clock.advance(Duration::from_secs(pause));
    }
    left(&server, 0).await;
    assert_eq!(outcomes(&server).await, [("done".to_owned(), None)]);
    let requests = stub.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.contains(&challenge.code)));
}

#[tokio::test]
async fn a_rejected_message_is_not_retried_and_is_audited() {
    let stub = Stub::start(&[Answer::Status(
        400,
        r#"{"error-code": "202", "error-description": "?"}"#,
    )])
    .await;
    let password = secret("password");
    let server = start("playmobile", &[playmobile(&stub.url(), &password)]).await;
    let person = server.person().await;
    send(&server, &person).await;
    left(&server, 0).await;
    let refused = ("refused".to_owned(), Some("SMS_NOT_DELIVERED".to_owned()));
    assert_eq!(outcomes(&server).await, [refused]);
    assert_eq!(stub.requests().len(), 1);
}

/// A silent provider gets only the first few messages, and does not delay the others.
#[tokio::test]
async fn a_provider_that_hangs_is_left_out() {
    let (silent, other) = (
        Stub::start(&[Answer::Silence]).await,
        Stub::start(&[Answer::Status(204, "")]).await,
    );
    let (token, key) = (secret("the auth token"), secret(SECRET));
    let mut flags = vec![twilio(&silent.url(), "Shop", &token), webhook(&other.url(), &key)];
    flags.push(vec!["--sms-limit-prefix=none".to_owned()]);
    let server = start("twilio,webhook", &flags).await;
    let mut client = codes(&server).await;
    for _ in 0..50 {
        let person = server.person().await;
        Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    }
    left(&server, 0).await;
    assert_eq!(outcomes(&server).await.len(), 50);
    assert_eq!(other.requests().len(), 50);
    // As many as are sent at a time, and those that came into the places of the first four that failed.
    assert!(silent.requests().len() <= 20, "{}", silent.requests().len());
}

/// The outbox records each delivery before the process ends, so no message is sent twice.
#[tokio::test]
async fn messages_in_delivery_are_finished_before_shutdown() {
    const LATE: &[Answer] = &[Answer::Late(Duration::from_millis(300))];
    let stub = Stub::start(LATE).await;
    let key = secret(SECRET);
    let flags = webhook(&stub.url(), &key);
    let server = start("webhook", std::slice::from_ref(&flags)).await;
    let person = server.person().await;
    send(&server, &person).await;
    eventually(|| stub.requests().len() == 1).await;
    let server = server.restart_with(&[]).await;
    assert_eq!(server.database.count("outbox_messages").await, 0);
    assert_eq!(outcomes(&server).await, [("done".to_owned(), None)]);
    assert_eq!(stub.requests().len(), 1);
}

/// A purpose that only a newer version knows is left to it, in an upgrade one by one.
#[tokio::test]
async fn the_code_of_a_newer_version_is_left_to_it() {
    let stub = Stub::start(&[Answer::Status(503, ""), Answer::Status(204, "")]).await;
    let key = secret(SECRET);
    let server = start("webhook", &[webhook(&stub.url(), &key)]).await;
    let (person, other) = (server.person().await, server.person().await);
    send(&server, &person).await;
    eventually(|| stub.requests().len() == 1).await;
    is_due_at(&server, server.clock.now() + Duration::from_secs(1)).await;
    let newer = "UPDATE challenges SET purpose = 'something_new' WHERE user_id = ?";
    server.database.execute(newer, &person).await;
    server.clock.advance(Duration::from_secs(1));
    // The provider gets it before the next message.
    send(&server, &other).await;
    eventually(|| stub.requests().len() == 2).await;
    left(&server, 1).await;
    assert_eq!(server.database.count("outbox_messages").await, 1);
    assert!(stub.requests()[1].contains(&other.phone_number));
}

/// Only one process takes a message.
#[tokio::test]
async fn one_of_two_replicas_sends_a_message() {
    let stub = Stub::start(&[Answer::Status(204, "")]).await;
    let key = secret(SECRET);
    let flags = by_webhook(&stub, &key, "--sms-limit-prefix=none");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = TestServer::start_with(&flags).await;
    let replica = server.replica(&flags).await;
    let clients = [codes(&server).await, codes(&replica).await];
    for index in 0..40 {
        let person = server.person().await;
        let mut client = clients[index % 2].clone();
        Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    }
    left(&server, 0).await;
    assert_eq!(stub.requests().len(), 40);
    assert_eq!(outcomes(&server).await.len(), 40);
}

/// A process that is killed while it waits for the provider loses no message. When its lease on the message has ended,
/// another process sends the same code under the same id.
#[tokio::test]
async fn another_process_sends_the_message_of_a_killed_one() {
    const SILENT_ONCE: &[Answer] = &[Answer::Silence, Answer::Status(204, "")];
    let stub = Stub::start(SILENT_ONCE).await;
    let key = secret(SECRET);
    let place = Place::new().await;
    let flags = by_webhook(&stub, &key, "--sms-timeout=60s");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = ServerProcess::start(&place, &flags).await;
    let number = next_phone_number();
    let registered = connect(server.address)
        .await
        .register(registration(&number, PASSWORD))
        .await
        .unwrap();
    let user_id = registered.into_inner().user.unwrap().user_id;
    let mut client = PhoneVerificationClient::new(channel(server.address).await);
    let before = SystemClock.now();
    let sent = client
        .send_code(wanted(CodePurpose::SignIn, &number))
        .await
        .unwrap();
    let challenge = sent.into_inner().challenge_id;
    eventually(|| stub.requests().len() == 1).await;
    let after = SystemClock.now();
    server.signal("KILL");
    server.ended().await;

    let server = ServerProcess::start(&place, &flags).await;
    let database = place.connect().await;
    let backend = database.get_database_backend();
    let row = database
        .query_one_raw(Statement::from_string(
            backend,
            "SELECT tries, due_at FROM outbox_messages",
        ))
        .await
        .unwrap()
        .unwrap();
    let tries: i32 = row.try_get("", "tries").unwrap();
    let due_at: Timestamp = row.try_get("", "due_at").unwrap();
    assert_eq!(tries, 1);
    // Longer than the lease of the killed process. Databases store microseconds.
    let lease = TimeDelta::seconds(60 + 20);
    let taken_at = due_at - lease;
    assert!(
        (before - TimeDelta::microseconds(1)..=after).contains(&taken_at),
        "due at {due_at}"
    );
    assert_eq!(stub.requests().len(), 1);
    // So much later.
    let later = SystemClock.now();
    let statement = match backend {
        DbBackend::Postgres => "UPDATE outbox_messages SET due_at = $1",
        _ => "UPDATE outbox_messages SET due_at = ?",
    };
    database
        .execute_raw(Statement::from_sql_and_values(backend, statement, [later.into()]))
        .await
        .unwrap();
    eventually(|| stub.requests().len() == 2).await;
    let bodies: Vec<String> = stub
        .requests()
        .iter()
        .map(|request| request.split_once("\r\n\r\n").unwrap().1.to_owned())
        .collect();
    assert_eq!(bodies[0], bodies[1]);
    let code = code_of(&challenge, CodePurpose::SignIn, &number, Some(&user_id));
    assert!(bodies[1].contains(&code), "{}", bodies[1]);
    let mut client = PhoneVerificationClient::new(channel(server.address).await);
    client
        .verify_code(offered(&challenge, CodePurpose::SignIn, &code))
        .await
        .unwrap();
}

/// The metrics have the number of waiting messages and the longest wait.
#[tokio::test]
async fn the_backlog_is_in_the_metrics() {
    let stub = Stub::start(&[Answer::Status(503, "")]).await;
    let key = secret(SECRET);
    let place = Place::new().await;
    let flags = by_webhook(&stub, &key, "--metrics-listen=127.0.0.1:0");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = ServerProcess::start(&place, &flags).await;
    let mut client = connect(server.address).await;
    let numbers = [next_phone_number(), next_phone_number()];
    for number in &numbers {
        client.register(registration(number, PASSWORD)).await.unwrap();
    }
    let mut client = PhoneVerificationClient::new(channel(server.address).await);
    for number in &numbers {
        client
            .send_code(wanted(CodePurpose::SignIn, number))
            .await
            .unwrap();
    }
    let scraped = until(server.metrics.unwrap(), |scraped| {
        scraped.has("phone_identity_outbox_messages", 2.0)
    })
    .await;
    let age = scraped.get("phone_identity_outbox_age_seconds");
    assert!(age > 0.0 && age < 60.0, "{age}");
}
