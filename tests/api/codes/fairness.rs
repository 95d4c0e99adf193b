//! Fairness of the outbox: which message goes next while a backlog waits, and what that costs the database.

use std::sync::Mutex;
use std::time::Duration;

use chrono::TimeDelta;
use phone_identity::clock::Clock as _;
use phone_identity::domain::message::{DeliveryClass, Origin};
use phone_identity::proto::v1::{self, CodePurpose};
use phone_identity::store::outbox::order;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use uuid::Uuid;

use super::providers::{SECRET, secret, webhook};
use super::sending::left;
use crate::admin::explain::{Remembering, plan};
use crate::support::codes::{CEILING, CodesClient, codes, flag_of_keys, wanted};
use crate::support::stub::Stub;
use crate::support::{PASSWORD, Person, TestServer, credentials, eventually};

/// The places for concurrent sends: 3 for strangers, 1 for known askers.
const PLACES: usize = 4;

/// A server that sends by a closed stub, with no limits on messages but those under test.
async fn start(stub: &Stub) -> TestServer {
    let key = secret(SECRET);
    let mut flags = webhook(&stub.url(), &key);
    flags.extend([
        flag_of_keys(),
        "--sms-providers=webhook".to_owned(),
        format!("--sms-concurrency={PLACES}"),
        "--sms-timeout=60s".to_owned(),
    ]);
    for limit in ["number", "prefix", "address", "service", "country"] {
        flags.push(format!("--sms-limit-{limit}=none"));
    }
    let off = [
        "--sms-pumping-codes=0",
        "--throttle-address-attempts=0",
        "--throttle-code-attempts=0",
    ];
    flags.extend(off.map(str::to_owned));
    flags.extend(CEILING.map(str::to_owned));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    TestServer::start_with(&flags).await
}

/// Asks for a code to a number, from an address, with a device token if there is one.
async fn ask(client: &mut CodesClient, number: &str, address: &str, device_token: &str) {
    let request = v1::SendCodeRequest {
        client: Some(v1::ClientInfo {
            ip_address: address.to_owned(),
            user_agent: String::new(),
        }),
        device_token: device_token.to_owned(),
        ..wanted(CodePurpose::SignIn, number)
    };
    client.send_code(request).await.unwrap();
}

/// A user with a known device, and the token of that device.
async fn owner(server: &TestServer) -> (Person, String) {
    let person = server.person().await;
    let request = v1::AuthenticateRequest {
        remember_device: true,
        ..credentials(&person.phone_number, PASSWORD)
    };
    let signed_in = server.client().await.authenticate(request).await.unwrap();
    (person, signed_in.into_inner().device_token)
}

/// Numbers in the order in which the stub got them.
fn numbers(stub: &Stub) -> Vec<String> {
    let number = |request: &String| {
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        body["to"].as_str().unwrap().to_owned()
    };
    stub.requests().iter().map(number).collect()
}

/// Lets one message through, and waits until its place has the next one.
async fn next(stub: &Stub) -> String {
    let before = stub.requests().len();
    stub.let_through(1);
    eventually(|| stub.requests().len() > before).await;
    numbers(stub)[before].clone()
}

/// 320 codes of one network wait. The code of an owner on a known device has a place at once; that of a stranger from
/// another network is sent within one round, and so is that of a third one.
#[tokio::test]
async fn a_flood_of_codes_delays_neither_owners_nor_other_networks() {
    let stub = Stub::closed().await;
    let server = start(&stub).await;
    let mut client = codes(&server).await;
    let (owner, device) = owner(&server).await;
    let flood = server.people(20).await;
    for round in 0..16 {
        for person in &flood {
            // 16 addresses of one /48.
            let address = format!("2001:db8:1:{round:x}::1");
            ask(&mut client, &person.phone_number, &address, "").await;
        }
    }
    eventually(|| stub.requests().len() == PLACES - 1).await;
    assert!(server.database.count("outbox_messages").await >= 317);

    ask(&mut client, &owner.phone_number, "2001:db8:1::1", &device).await;
    // Nothing was let through: it has a place of its own.
    eventually(|| stub.requests().len() == PLACES).await;
    assert_eq!(numbers(&stub)[PLACES - 1], owner.phone_number);

    let strangers = server.people(2).await;
    ask(&mut client, &strangers[0].phone_number, "198.51.100.1", "").await;
    ask(&mut client, &strangers[1].phone_number, "198.51.100.2", "").await;
    // One round: a message of the flood, and one of each of them.
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(next(&stub).await);
    }
    for stranger in &strangers {
        assert!(sent.contains(&stranger.phone_number), "{sent:?}");
    }
    stub.let_through(400);
    left(&server, 0).await;
    assert_eq!(stub.requests().len(), 323);
}

/// Known askers flood, from many networks. Strangers still have their part of the places, and get one turn of four.
#[tokio::test]
async fn a_flood_of_known_devices_leaves_strangers_their_share() {
    let stub = Stub::closed().await;
    let server = start(&stub).await;
    let mut client = codes(&server).await;
    let mut owners = Vec::new();
    for _ in 0..20 {
        owners.push(owner(&server).await);
    }
    for (number, (person, device)) in owners.iter().enumerate() {
        ask(
            &mut client,
            &person.phone_number,
            &format!("192.0.2.{number}"),
            device,
        )
        .await;
    }
    eventually(|| stub.requests().len() == PLACES - 1).await;
    let strangers = server.people(3).await;
    for (number, person) in strangers.iter().enumerate() {
        ask(
            &mut client,
            &person.phone_number,
            &format!("198.51.100.{number}"),
            "",
        )
        .await;
    }
    eventually(|| stub.requests().len() == PLACES).await;
    assert_eq!(numbers(&stub)[PLACES - 1], strangers[0].phone_number);
    let mut sent = Vec::new();
    for _ in 0..8 {
        sent.push(next(&stub).await);
    }
    for stranger in &strangers[1..] {
        assert!(sent.contains(&stranger.phone_number), "{sent:?}");
    }
    stub.let_through(100);
    left(&server, 0).await;
}

/// A message that has waited for long is sent before its turn. Otherwise messages of ever new networks could delay it
/// until it expires.
#[tokio::test]
async fn a_message_that_waits_long_is_sent_before_new_networks() {
    let stub = Stub::closed().await;
    let server = start(&stub).await;
    let mut client = codes(&server).await;
    let people = server.people(24).await;
    for person in &people[..5] {
        ask(&mut client, &person.phone_number, "192.0.2.1", "").await;
    }
    eventually(|| stub.requests().len() == PLACES - 1).await;
    // Two of the first network wait.
    server.clock.advance(Duration::from_secs(20));
    for (number, person) in people[5..].iter().enumerate() {
        ask(
            &mut client,
            &person.phone_number,
            &format!("198.51.100.{number}"),
            "",
        )
        .await;
    }
    let mut sent = Vec::new();
    for _ in 0..8 {
        sent.push(next(&stub).await);
    }
    for waiting in &people[3..5] {
        assert!(sent.contains(&waiting.phone_number), "{sent:?}");
    }
    stub.let_through(100);
    left(&server, 0).await;
}

/// The next message of a backlog of 100,000 is the first entry of an index, and so is the turn of a new one.
#[tokio::test]
async fn the_next_message_of_a_large_backlog_is_the_first_entry_of_an_index() {
    const BACKLOG: u32 = 100_000;
    const AT_ONCE: u32 = 500;
    let server = TestServer::start().await;
    let db = server.place.connect().await;
    let backend = db.get_database_backend();
    let now = server.clock.now();
    let mut rest = 0..BACKLOG;
    while !rest.is_empty() {
        let mut values: Vec<sea_orm::Value> = Vec::new();
        let mut rows = Vec::new();
        for number in rest.by_ref().take(AT_ONCE as usize) {
            let address = format!("10.{}.{}.1", number >> 8 & 0x1f, number & 0xff);
            let address = Some(address.parse().unwrap());
            let origin = Origin::new(DeliveryClass::Stranger, address, None);
            let at = now + TimeDelta::microseconds(number.into());
            let mut bound = |value: sea_orm::Value| {
                values.push(value);
                match backend {
                    DbBackend::Postgres => format!("${}", values.len()),
                    _ => "?".to_owned(),
                }
            };
            let id = Uuid::from_u128(number.into());
            let columns = [
                bound(id.into()),
                "'code'".to_owned(),
                bound(id.into()),
                "0".to_owned(),
                bound(at.into()),
                bound((at + TimeDelta::minutes(5)).into()),
                // Half of them are parked.
                (1 + number % 2 * 2).to_string(),
                bound(origin.flow.unwrap().0.into()),
                (number / 8192).to_string(),
            ];
            rows.push(format!("({})", columns.join(", ")));
        }
        let sql = format!(
            "INSERT INTO outbox_messages (id, template, challenge_id, tries, due_at, expires_at, lane, \
             flow, turn) VALUES {}",
            rows.join(", ")
        );
        let statement = Statement::from_sql_and_values(backend, sql, values);
        db.execute_raw(statement).await.unwrap();
    }
    match backend {
        DbBackend::Sqlite => db.execute_unprepared("ANALYZE").await.unwrap(),
        DbBackend::Postgres => db.execute_unprepared("ANALYZE outbox_messages").await.unwrap(),
        _ => db
            .execute_unprepared("ANALYZE TABLE outbox_messages")
            .await
            .unwrap(),
    };

    let db = Remembering {
        connection: db,
        asked: Mutex::default(),
    };
    let lease = Duration::from_secs(30);
    let stranger = DeliveryClass::Stranger;
    let first = order::first(&db, &db, stranger, 12).await.unwrap();
    assert_eq!(first[0].id.0, Uuid::from_u128(0));
    // All of them are due.
    let later = now + TimeDelta::seconds(1);
    let longest = order::longest_waiting(&db, stranger, later).await.unwrap();
    assert_eq!(longest.unwrap().id, first[0].id);
    let parked = order::parked_due(&db, lease, 100, later).await.unwrap();
    assert_eq!(parked.len(), 100);
    order::unpark(&db, &first[0]).await.unwrap();
    let statements = db.asked.into_inner().unwrap();
    assert!(statements.len() >= 7, "{}", statements.len());
    for statement in &statements {
        let plan = plan(&db.connection, statement).await;
        // Messages of a clock that was ahead are a range of an index. There are none, so a planner may sort them.
        let is_ahead = statement.sql.contains("DESC") && statement.sql.contains(" > ");
        let is_walk = match backend {
            DbBackend::Sqlite => {
                plan.contains("SEARCH outbox_messages USING") && !plan.contains("TEMP B-TREE")
            }
            DbBackend::Postgres => {
                // An incremental sort reads an index, too, and stops when it has enough.
                let sorts = plan.contains("Sort") && !plan.contains("Presorted Key");
                plan.contains("Index") && !plan.contains("Seq Scan") && (is_ahead || !sorts)
            }
            _ => plan.contains("key=idx_outbox_messages") && (is_ahead || !plan.contains("filesort")),
        };
        assert!(is_walk, "{}\n{plan}", statement.sql);
    }
}
