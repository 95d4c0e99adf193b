//! Limits on messages, which stop fraud by messages that cost money.

use std::io::Write as _;
use std::time::Duration;

use phone_identity::proto::v1::CodePurpose;
use tempfile::NamedTempFile;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::Challenge;
use super::owners::from;
use super::sending::{again, left};
use crate::support::codes::{CodesClient, codes, flags_of_codes, start_with_codes, wanted};
use crate::support::place::Place;
use crate::support::refusal::{Refusal, refusal};
use crate::support::{PASSWORD, TestServer, next_phone_number, registration};
use crate::throttle::until_rows;

/// Only what each test is about.
const UNBOUND: &[&str] = &[
    "--throttle-code-attempts=0",
    "--throttle-address-attempts=0",
    "--sms-limit-number=none",
    "--sms-limit-prefix=none",
    "--sms-limit-address=none",
    "--sms-pumping-codes=0",
];

pub(super) async fn start(flags: &[&str]) -> TestServer {
    start_with_codes(&[UNBOUND, flags].concat()).await
}

/// The time to midnight at the beginning, which is at 00:00.
pub(super) const DAY: Duration = Duration::from_hours(24);
pub(super) const HOUR: Duration = Duration::from_hours(1);

pub(super) async fn ask(client: &mut CodesClient, number: &str) -> Result<(), Refusal> {
    ask_as(client, wanted(CodePurpose::SignIn, number)).await
}

pub(super) async fn ask_as(
    client: &mut CodesClient,
    request: impl tonic::IntoRequest<phone_identity::proto::v1::SendCodeRequest>,
) -> Result<(), Refusal> {
    let sent = client.send_code(request).await;
    sent.map(drop).map_err(|status: Status| refusal(&status))
}

/// It was refused by this reason, until then.
pub(super) fn assert_waits(outcome: Result<(), Refusal>, reason: &str, wait: Duration) {
    let refused = outcome.expect_err("was not refused");
    assert_eq!(
        (refused.code, refused.reason.as_str(), refused.retry_after),
        (Code::ResourceExhausted, reason, Some(wait)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_number_has_hourly_and_daily_limits() {
    let server = start(&["--sms-limit-number=2/h,3/d"]).await;
    let mut client = codes(&server).await;
    let known = server.person().await.phone_number;
    // A number without an account and a number that gets no messages have the same limits.
    for number in [&known, &next_phone_number(), "+998712345678"] {
        for _ in 0..2 {
            ask(&mut client, number).await.unwrap();
        }
    }
    server.clock.advance(Duration::from_secs(60));
    for number in [&known, &next_phone_number()] {
        for _ in 0..2 {
            let _ = ask(&mut client, number).await;
        }
        assert_waits(
            ask(&mut client, number).await,
            "SMS_LIMIT_REACHED",
            Duration::from_secs(3540),
        );
    }
    server.clock.advance(HOUR);
    ask(&mut client, &known).await.unwrap();
    let rest = DAY - HOUR - Duration::from_secs(60);
    assert_waits(ask(&mut client, &known).await, "SMS_LIMIT_REACHED", rest);
    server.clock.advance(rest);
    ask(&mut client, &known).await.unwrap();
}

#[tokio::test]
async fn a_resend_counts_as_well() {
    let server = start(&["--sms-limit-number=2/d"]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let challenge = Challenge::of(&mut client, CodePurpose::SignIn, &person).await;
    server.clock.advance(Duration::from_secs(30));
    ask_as(&mut client, again(&challenge.id)).await.unwrap();
    server.clock.advance(Duration::from_secs(30));
    let refused = ask_as(&mut client, again(&challenge.id)).await;
    assert_waits(refused, "SMS_LIMIT_REACHED", DAY - Duration::from_secs(60));
    // The sent code is valid nevertheless.
    client.verify_code(challenge.met()).await.unwrap();
}

#[tokio::test]
async fn neighbouring_numbers_share_a_limit() {
    let server = start(&["--sms-limit-prefix=3/h"]).await;
    let mut client = codes(&server).await;
    for number in ["+998901110001", "+998901110002", "+998901119999"] {
        ask(&mut client, number).await.unwrap();
    }
    assert_waits(ask(&mut client, "+998901115555").await, "SMS_LIMIT_REACHED", HOUR);
    ask(&mut client, "+998901120001").await.unwrap();
}

#[tokio::test]
async fn an_address_a_service_and_a_country_have_limits() {
    let server = start(&["--sms-limit-address=1/h", "--sms-limit-country=9/d"]).await;
    let mut client = codes(&server).await;
    let from = |address: &str| from(address, &next_phone_number());
    ask_as(&mut client, from("2001:db8::1")).await.unwrap();
    assert_waits(
        ask_as(&mut client, from("2001:db8::2")).await,
        "SMS_LIMIT_REACHED",
        HOUR,
    );
    ask_as(&mut client, from("2001:db8:0:1::1")).await.unwrap();
    // A request without an address has no limit per address. Eight are for strangers.
    for _ in 0..6 {
        ask(&mut client, &next_phone_number()).await.unwrap();
    }
    assert_waits(
        ask(&mut client, &next_phone_number()).await,
        "SMS_LIMIT_REACHED",
        DAY,
    );
    ask(&mut client, "+77012345678").await.unwrap();

    let server = start(&["--sms-limit-service=1/h"]).await;
    let mut client = codes(&server).await;
    ask(&mut client, &next_phone_number()).await.unwrap();
    assert_waits(
        ask(&mut client, &next_phone_number()).await,
        "SMS_LIMIT_REACHED",
        HOUR,
    );
}

/// Ten in total: eight for strangers, of which one network gets three. The last two are for users with a verified
/// number.
#[tokio::test]
async fn all_messages_have_a_limit_together() {
    let server = start(&["--sms-limit-total=10/d"]).await;
    let mut client = codes(&server).await;
    let from = |network: usize| from(&format!("2001:db8:{network}::1"), &next_phone_number());
    for network in 0..2 {
        for _ in 0..3 {
            ask_as(&mut client, from(network)).await.unwrap();
        }
        assert_waits(ask_as(&mut client, from(network)).await, "SMS_LIMIT_REACHED", DAY);
    }
    for country in ["+998902345678", "+77012345678"] {
        ask(&mut client, country).await.unwrap();
    }
    assert_waits(ask_as(&mut client, from(9)).await, "SMS_LIMIT_REACHED", DAY);
    server.clock.advance(DAY);
    ask_as(&mut client, from(9)).await.unwrap();
}

#[tokio::test]
async fn countries_that_are_not_listed_get_nothing() {
    let server = start(&["--sms-countries=UZ,KZ"]).await;
    let mut client = codes(&server).await;
    server
        .client()
        .await
        .register(registration("+14155552671", PASSWORD))
        .await
        .unwrap();
    ask(&mut client, &next_phone_number()).await.unwrap();
    ask(&mut client, "+77012345678").await.unwrap();
    for number in ["+14155552671", "+14155552672", "+79161234567"] {
        let refused = ask(&mut client, number).await.unwrap_err();
        assert_eq!(
            (refused.code, refused.reason.as_str(), refused.retry_after),
            (Code::FailedPrecondition, "SMS_COUNTRY_NOT_ALLOWED", None)
        );
    }
    assert_eq!(server.database.count("challenges").await, 2);
}

/// A setting lists the line types that get messages. The response is the same for all.
#[tokio::test]
async fn line_types_that_are_not_listed_get_nothing() {
    let server = start(&["--sms-line-types=fixed_line"]).await;
    let mut client = codes(&server).await;
    let landline = "+998712345678";
    server
        .client()
        .await
        .register(registration(landline, PASSWORD))
        .await
        .unwrap();
    let person = server.person().await;
    for number in [landline, &person.phone_number] {
        ask(&mut client, number).await.unwrap();
    }
    left(&server, 0).await;
    assert_eq!(super::sending::outcomes(&server).await.len(), 1);
}

pub(super) fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// The budget counts every request, with and without an account, so its end reveals nothing about a number.
#[tokio::test]
async fn a_day_has_a_budget() {
    let prices = file("# EUR\nUZ\t0.4\nKZ\t0.1\n*\t5\n");
    let prices = format!("--sms-prices-file={}", prices.path().display());
    for is_known in [true, false] {
        let server = start(&["--sms-budget=1.25", &prices]).await;
        let mut client = codes(&server).await;
        let mut numbers = vec![next_phone_number(), next_phone_number()];
        if is_known {
            numbers = vec![
                server.person().await.phone_number,
                server.person().await.phone_number,
            ];
            let kazakh = registration("+77012345678", PASSWORD);
            server.client().await.register(kazakh).await.unwrap();
        }
        // Each request is from another address: an address has a share, but not less than one message.
        let mut host = 0;
        let mut from_another = |number: &str| {
            host += 1;
            from(&format!("192.0.2.{host}"), number)
        };
        for number in &numbers {
            ask_as(&mut client, from_another(number)).await.unwrap();
        }
        // Strangers may spend 1.00. They have spent 0.80, which is too much for one more message, but not for one to
        // another country.
        for number in [&numbers[0], "+14155552671"] {
            let refused = ask_as(&mut client, from_another(number)).await;
            assert_waits(refused, "SMS_BUDGET_EXHAUSTED", DAY);
        }
        let kazakh = "+77012345678";
        for _ in 0..2 {
            ask_as(&mut client, from_another(kazakh)).await.unwrap();
        }
        let refused = ask_as(&mut client, from_another(kazakh)).await;
        assert_waits(refused, "SMS_BUDGET_EXHAUSTED", DAY);
        server.clock.advance(DAY);
        ask(&mut client, &numbers[0]).await.unwrap();
    }
}

#[tokio::test]
async fn many_at_once_and_replicas_count_together() {
    let server = start(&["--sms-limit-country=20/d"]).await;
    let flags = flags_of_codes(&[UNBOUND, &["--sms-limit-country=20/d"]].concat());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let replica = server.replica(&flags).await;
    let clients = [codes(&server).await, codes(&replica).await];
    let mut asking = JoinSet::new();
    for index in 0..64 {
        let mut client: CodesClient = clients[index % 2].clone();
        let request = from(&format!("192.0.2.{index}"), &next_phone_number());
        asking.spawn(async move { ask_as(&mut client, request).await });
    }
    let mut sent = 0;
    while let Some(outcome) = asking.join_next().await {
        match outcome.unwrap() {
            Ok(()) => sent += 1,
            refused => assert_waits(refused, "SMS_LIMIT_REACHED", DAY),
        }
    }
    // A fifth is not for strangers.
    assert_eq!(sent, 16);
    assert_eq!(server.database.count("challenges").await, 16);
}

#[tokio::test]
async fn unneeded_counters_are_removed() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    ask(&mut client, &next_phone_number()).await.unwrap();
    // The number, its prefix, and the requests for both without an address.
    assert_eq!(server.database.count("sms_counters").await, 4);
    server.clock.advance(8 * DAY);
    let flags = flags_of_codes(&["--cleanup-interval=50ms"]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = server.restart_with(&flags).await;
    server.clock.advance(8 * DAY);
    until_rows(&server, "sms_counters", 0).await;
}

#[tokio::test]
async fn ineffective_settings_are_reported() {
    let place = Place::new().await;
    let prices = file("UZ\t0.4\n*\t5\n");
    let prices = format!("--sms-prices-file={}", prices.path().display());
    let bad = file("UZ 0.4\n");
    let bad = format!("--sms-prices-file={}", bad.path().display());
    for (flags, expected) in [
        (
            vec!["--sms-budget=10"],
            "--sms-budget and --sms-prices-file are given together",
        ),
        (
            vec![&*prices],
            "--sms-budget and --sms-prices-file are given together",
        ),
        (vec!["--sms-budget=10", &bad], "line 1 is not COUNTRY<TAB>PRICE"),
        (
            vec!["--sms-budget=10", "--sms-prices-file=/nowhere"],
            "--sms-prices-file cannot be read",
        ),
        // An endless file is not read to its end.
        (
            vec!["--sms-budget=10", "--sms-prices-file=/dev/zero"],
            "longer than 65536 bytes",
        ),
        (vec!["--sms-budget=ten", &prices], "not an amount such as 12.50"),
        (vec!["--sms-countries=Uzbekistan"], "Uzbekistan"),
        (vec!["--sms-line-types=carrier_pigeon"], "carrier_pigeon"),
        (vec!["--sms-limit-number=many"], "not limits such as 5/h,20/d"),
        (vec!["--sms-pumping-codes=9"], "not 0 or in 10..=1000000"),
        (vec!["--sms-pumping-percent=51"], "51 is not in 1..=50"),
        (vec!["--sms-pumping-pause=8d"], "longer than a week"),
        (
            vec!["--twilio-url=https://sms.example.com/?key=1"],
            "has a query, after which no path can be appended",
        ),
    ] {
        let mut arguments = vec!["serve", "--listen=127.0.0.1:0", "--sms-providers=log"];
        arguments.extend(flags);
        let output = place.run(&arguments, "").await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
