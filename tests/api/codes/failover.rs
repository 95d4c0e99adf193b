//! Failover between providers: the provider of each message while one fails.

use std::time::Duration;

use phone_identity::clock::Clock as _;
use phone_identity::proto::v1::CodePurpose;

use super::Challenge;
use super::outbox::is_due_at;
use super::providers::{SECRET, TAKEN, playmobile, secret, start, twilio, webhook};
use super::sending::{left, outcomes};
use crate::support::TestServer;
use crate::support::codes::{codes, wanted};
use crate::support::stub::{Answer, Stub};
use crate::support::{Person, eventually};

/// One answer five times, after which a provider that fails is left out, and then another for ever.
const fn five_times(first: Answer, then: Answer) -> [Answer; 6] {
    [first, first, first, first, first, then]
}

const FAILS_FIVE_TIMES: &[Answer] = &five_times(Answer::Status(503, ""), Answer::Status(201, "{}"));

/// A user with a number of Kazakhstan.
async fn person_abroad(server: &TestServer) -> Person {
    let mut person = server.person().await;
    // The user has the newest number of this process.
    let number = format!("+7701{}", &person.phone_number[6..]);
    let sql = format!("UPDATE users SET phone_number = '{number}' WHERE id = ?");
    server.database.execute(&sql, &person).await;
    person.phone_number = number;
    person
}

/// Has a code sent, and waits until it is.
async fn deliver(server: &TestServer, person: &Person) {
    Challenge::of(&mut codes(server).await, CodePurpose::SignIn, person).await;
    left(server, 0).await;
}

/// Advances the clock until no message is left.
async fn until_sent(server: &TestServer) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let waiting = async {
        while server.database.count("outbox_messages").await > 0 {
            ticks.tick().await;
            server.clock.advance(Duration::from_secs(1));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("a message stays in the outbox");
}

/// The first one sends to numbers of Uzbekistan only, and the second one is down for a while.
#[tokio::test]
async fn a_message_waits_for_the_only_provider_that_sends_to_its_number() {
    let (first, second) = (Stub::start(TAKEN).await, Stub::start(FAILS_FIVE_TIMES).await);
    let (password, token) = (secret("password"), secret("the auth token"));
    let flags = [
        playmobile(&first.url(), &password),
        twilio(&second.url(), "Shop", &token),
    ];
    let server = start("playmobile,twilio", &flags).await;
    let person = person_abroad(&server).await;
    Challenge::of(&mut codes(&server).await, CodePurpose::SignIn, &person).await;
    // It stays in use meanwhile, since it is the only provider.
    for (failures, pause) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16)] {
        eventually(|| second.requests().len() == failures).await;
        let pause = Duration::from_secs(pause);
        is_due_at(&server, server.clock.now() + pause).await;
        server.clock.advance(pause);
    }
    left(&server, 0).await;
    assert_eq!(outcomes(&server).await, [("done".to_owned(), None)]);
    assert_eq!((first.requests().len(), second.requests().len()), (0, 6));
}

/// The suspended provider may accept a message that the other one rejected.
#[tokio::test]
async fn a_rejected_message_waits_for_the_suspended_provider() {
    const REFUSES_THE_SIXTH: &[Answer] = &five_times(Answer::Status(204, ""), Answer::Status(400, ""));
    let (first, second) = (
        Stub::start(FAILS_FIVE_TIMES).await,
        Stub::start(REFUSES_THE_SIXTH).await,
    );
    let (token, key) = (secret("the auth token"), secret(SECRET));
    let flags = [twilio(&first.url(), "Shop", &token), webhook(&second.url(), &key)];
    let server = start("twilio,webhook", &flags).await;
    for _ in 0..5 {
        let person = server.person().await;
        deliver(&server, &person).await;
    }
    assert_eq!(first.requests().len(), 5);
    let person = server.person().await;
    Challenge::of(&mut codes(&server).await, CodePurpose::SignIn, &person).await;
    eventually(|| second.requests().len() == 6).await;
    assert_eq!(first.requests().len(), 5, "it is left out");
    until_sent(&server).await;
    assert_eq!(
        outcomes(&server).await,
        vec![("done".to_owned(), None); 6],
        "nothing was given up"
    );
    assert_eq!(first.requests().len(), 6);
}

/// A rejected number says nothing about the health of the provider.
#[tokio::test]
async fn a_failing_provider_is_suspended_for_all_numbers() {
    let (first, second) = (
        Stub::start(&[Answer::Status(503, "")]).await,
        Stub::start(TAKEN).await,
    );
    let (password, token) = (secret("password"), secret("the auth token"));
    let flags = [
        playmobile(&first.url(), &password),
        twilio(&second.url(), "Shop", &token),
    ];
    let server = start("playmobile,twilio", &flags).await;
    for _ in 0..8 {
        for person in [server.person().await, person_abroad(&server).await] {
            deliver(&server, &person).await;
        }
    }
    assert_eq!(first.requests().len(), 5);
    assert_eq!(second.requests().len(), 16);
}

/// A provider that does not serve such numbers rejects the message, which is given up.
#[tokio::test]
async fn a_message_that_no_provider_sends_is_given_up() {
    let stub = Stub::start(TAKEN).await;
    let password = secret("password");
    let server = start("playmobile", &[playmobile(&stub.url(), &password)]).await;
    let person = person_abroad(&server).await;
    let mut client = codes(&server).await;
    client
        .send_code(wanted(CodePurpose::SignIn, &person.phone_number))
        .await
        .unwrap();
    left(&server, 0).await;
    let refused = ("refused".to_owned(), Some("SMS_NOT_DELIVERED".to_owned()));
    assert_eq!(outcomes(&server).await, [refused]);
    assert!(stub.requests().is_empty());
}
