//! Bounds on messages are no weapon: who uses them up keeps no owner of a number out who can show anything, be it only
//! that they are somewhere else.

use std::time::Duration;

use phone_identity::proto::v1::{ClientInfo, CodePurpose, SendCodeRequest};

use super::limits::{DAY, HOUR, ask, ask_as, assert_waits, file, start};
use super::sending::again;
use super::{Challenge, verify};
use crate::support::codes::{CodesClient, codes, start_with_codes, wanted};
use crate::support::refusal::assert_refused;
use crate::support::{PASSWORD, Person, TestServer, credentials, next_phone_number};

/// Codes to a person on a device that they signed in on before.
pub(super) async fn on_known_device(server: &TestServer, person: &Person) -> SendCodeRequest {
    let mut request = credentials(&person.phone_number, PASSWORD);
    request.remember_device = true;
    let signed_in = server.client().await.authenticate(request).await.unwrap();
    let mut request = wanted(CodePurpose::SignIn, &person.phone_number);
    request.device_token = signed_in.into_inner().device_token;
    request
}

#[tokio::test]
async fn strangers_do_not_use_up_what_the_owner_of_a_number_gets() {
    let server = start(&["--sms-limit-number=3/d", "--sms-limit-prefix=6/d"]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    for _ in 0..3 {
        ask(&mut client, &person.phone_number).await.unwrap();
    }
    let refused = ask(&mut client, &person.phone_number).await;
    assert_waits(refused, "SMS_LIMIT_REACHED", DAY);
    // With their session.
    let of_session = || person.asks(wanted(CodePurpose::VerifyPhone, ""));
    ask_as(&mut client, of_session()).await.unwrap();
    let challenge = Challenge::of(&mut client, CodePurpose::VerifyPhone, &person).await;
    client.verify_code(person.asks(challenge.met())).await.unwrap();
    // The prefix is used up, which is not the fault of a known device of somebody who has shown to hold their number.
    let refused = ask(&mut client, &next_phone_number()).await;
    assert_waits(refused, "SMS_LIMIT_REACHED", DAY);
    let on_device = on_known_device(&server, &person).await;
    ask_as(&mut client, on_device.clone()).await.unwrap();
    // That was the third. Nobody has more by having more devices, or sessions.
    let on_another = on_known_device(&server, &person).await;
    assert_ne!(on_device.device_token, on_another.device_token);
    for request in [on_device, on_another] {
        assert_waits(ask_as(&mut client, request).await, "SMS_LIMIT_REACHED", DAY);
    }
    assert_waits(ask_as(&mut client, of_session()).await, "SMS_LIMIT_REACHED", DAY);
    // But whoever registered a number may have thousands of such.
    let other = server.person().await;
    let request = on_known_device(&server, &other).await;
    assert_waits(ask_as(&mut client, request).await, "SMS_LIMIT_REACHED", DAY);
}

/// Each sign-in may have a device remembered, and each device would have the delays of a new one.
#[tokio::test]
async fn delays_of_codes_are_those_of_all_known_devices_together() {
    let server = start_with_codes(&["--sms-limit-number=none"]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let mut got = 0;
    for _ in 0..12 {
        let request = on_known_device(&server, &person).await;
        match ask_as(&mut client, request).await {
            Ok(()) => got += 1,
            Err(refused) => assert_eq!(refused.reason, "TOO_MANY_ATTEMPTS"),
        }
    }
    // By default.
    assert_eq!(got, 5);
}

/// With all bounds as they are: strangers ask as often as they can, and the owner still gets a code with their session.
#[tokio::test]
async fn strangers_keep_nobody_with_a_session_from_verifying_their_number() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    for _ in 0..20 {
        let _ = ask(&mut client, &person.phone_number).await;
    }
    let refused = ask(&mut client, &person.phone_number).await.unwrap_err();
    assert_eq!(refused.reason, "TOO_MANY_ATTEMPTS");
    let challenge = Challenge::of(&mut client, CodePurpose::VerifyPhone, &person).await;
    server.clock.advance(Duration::from_secs(30));
    ask_as(&mut client, again(&challenge.id)).await.unwrap();
    client.verify_code(person.asks(challenge.met())).await.unwrap();
    // But neither do they have more of them than anybody else.
    let mut refused = 0;
    for _ in 0..10 {
        refused += usize::from(
            ask_as(&mut client, person.asks(wanted(CodePurpose::VerifyPhone, "")))
                .await
                .is_err(),
        );
    }
    assert!(refused >= 5, "{refused}");
}

/// A code to a number, asked for from an address.
pub(super) fn from(address: &str, number: &str) -> SendCodeRequest {
    let mut request = wanted(CodePurpose::SignIn, number);
    request.client = Some(ClientInfo {
        ip_address: address.to_owned(),
        user_agent: String::new(),
    });
    request
}

/// With all bounds as they are: from one address somebody asks every minute of a day, and from another the owner gets
/// codes whenever they want to, without a session and on a new device.
#[tokio::test]
async fn one_address_does_not_use_up_what_a_number_gets() {
    let server = start_with_codes(&[]).await;
    let mut client = codes(&server).await;
    let number = server.person().await.phone_number;
    let mut got = 0;
    for minute in 0..24 * 60 {
        got += u32::from(ask_as(&mut client, from("192.0.2.1", &number)).await.is_ok());
        if minute % 240 == 239 {
            ask_as(&mut client, from("2001:db8::1", &number)).await.unwrap();
        }
        server.clock.advance(Duration::from_secs(60));
    }
    // A third of 20.
    assert_eq!(got, 7);
}

#[tokio::test]
async fn an_address_gets_a_third_of_what_a_number_and_its_neighbours_get() {
    let server = start(&["--sms-limit-number=5/h", "--sms-limit-prefix=9/h"]).await;
    let mut client = codes(&server).await;
    let (one, other) = ("+998901110001", "+998901110002");
    for address in ["192.0.2.1", "192.0.2.2"] {
        for _ in 0..2 {
            ask_as(&mut client, from(address, one)).await.unwrap();
        }
        let refused = ask_as(&mut client, from(address, one)).await;
        assert_waits(refused, "SMS_LIMIT_REACHED", HOUR);
        ask_as(&mut client, from(address, other)).await.unwrap();
        // Three to these neighbours.
        let refused = ask_as(&mut client, from(address, "+998901110003")).await;
        assert_waits(refused, "SMS_LIMIT_REACHED", HOUR);
        ask_as(&mut client, from(address, "+998901120001")).await.unwrap();
    }
    // A line has many networks of IPv6.
    for address in ["2001:db8::1", "2001:db8:0:1::1"] {
        ask_as(&mut client, from(address, "+998901130001")).await.unwrap();
    }
    let refused = ask_as(&mut client, from("2001:db8:0:ffff::1", "+998901130001")).await;
    assert_waits(refused, "SMS_LIMIT_REACHED", HOUR);
    // The fifth to the number, from a third address, and the last.
    ask_as(&mut client, from("192.0.2.3", one)).await.unwrap();
    let refused = ask_as(&mut client, from("192.0.2.3", one)).await;
    assert_waits(refused, "SMS_LIMIT_REACHED", HOUR);
}

/// With all bounds as they are. Whether somebody has the numbers makes no difference.
#[tokio::test]
async fn one_address_does_not_have_a_prefix_paused() {
    let server = start_with_codes(&["--throttle-address-attempts=0"]).await;
    let mut client = codes(&server).await;
    let invented = |index: u32| format!("+99890111{index:04}");
    // Again after each of its own pauses.
    for round in 0..8 {
        for index in 0..12 {
            ask_as(&mut client, from("192.0.2.1", &invented(100 * round + index)))
                .await
                .unwrap();
        }
        server.clock.advance(Duration::from_mins(10));
        let refused = ask_as(&mut client, from("192.0.2.1", &invented(100 * round + 40))).await;
        assert_waits(refused, "SMS_PAUSED", HOUR);
        ask_as(&mut client, from("192.0.2.2", &invented(100 * round + 41)))
            .await
            .unwrap();
        // For one of a number that is not of this prefix it is not paused.
        ask_as(&mut client, from("192.0.2.1", &format!("+99890112{round:04}")))
            .await
            .unwrap();
        server.clock.advance(HOUR);
    }
    // Three addresses do: each has ten that count, and the one of the owner had eight.
    for address in ["192.0.2.3", "192.0.2.4"] {
        for index in 0..10 {
            ask_as(&mut client, from(address, &invented(index)))
                .await
                .unwrap();
        }
    }
    server.clock.advance(Duration::from_mins(10));
    let refused = ask_as(&mut client, from("192.0.2.5", &invented(42))).await;
    assert_waits(refused, "SMS_PAUSED", HOUR);
}

/// Use counts for the address that asked for a code, wherever that is given.
#[tokio::test]
async fn a_code_counts_as_used_for_whoever_asked_for_it() {
    let server = start(&["--sms-pumping-codes=12", "--sms-pumping-percent=25"]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let mobile = "192.0.2.1";
    for _ in 0..3 {
        ask_as(&mut client, from(mobile, &next_phone_number()))
            .await
            .unwrap();
    }
    let sent = client
        .send_code(from(mobile, &person.phone_number))
        .await
        .unwrap();
    let challenge = Challenge::known(sent.into_inner().challenge_id, CodePurpose::SignIn, &person);
    let mut offer = challenge.met();
    offer.client = from("198.51.100.1", "").client;
    client.verify_code(offer).await.unwrap();
    // One of four, which pause it if none is used.
    server.clock.advance(Duration::from_mins(10));
    ask_as(&mut client, from(mobile, &next_phone_number()))
        .await
        .unwrap();
}

/// Those that nobody tells apart leave something to those that are told apart.
#[tokio::test]
async fn who_says_no_address_does_not_use_up_what_a_number_gets() {
    let server = start(&["--sms-limit-number=5/d"]).await;
    let mut client = codes(&server).await;
    let number = next_phone_number();
    for _ in 0..4 {
        ask(&mut client, &number).await.unwrap();
    }
    assert_waits(ask(&mut client, &number).await, "SMS_LIMIT_REACHED", DAY);
    ask_as(&mut client, from("192.0.2.1", &number)).await.unwrap();

    let server = start(&["--sms-limit-country=10/d"]).await;
    let mut client = codes(&server).await;
    // Of the eight that are for strangers.
    for _ in 0..7 {
        ask(&mut client, &next_phone_number()).await.unwrap();
    }
    let refused = ask(&mut client, &next_phone_number()).await;
    assert_waits(refused, "SMS_LIMIT_REACHED", DAY);
    ask_as(&mut client, from("192.0.2.1", &next_phone_number()))
        .await
        .unwrap();
}

/// Who is refused from ever new addresses does not fill the database.
#[tokio::test]
async fn what_is_refused_is_not_counted() {
    let server = start(&["--sms-limit-number=1/d", "--sms-limit-address=5/d"]).await;
    let mut client = codes(&server).await;
    let number = next_phone_number();
    ask_as(&mut client, from("192.0.2.1", &number)).await.unwrap();
    let counted = async || -> Vec<i64> {
        let sql = "SELECT day_count FROM sms_counters ORDER BY id";
        let rows = server.database.rows(sql).await;
        rows.iter()
            .map(|row| row.try_get("", "day_count").unwrap())
            .collect()
    };
    // The number, also from here, and the address.
    assert_eq!(counted().await, [1, 1, 1]);
    for host in 2..10 {
        let refused = ask_as(&mut client, from(&format!("192.0.2.{host}"), &number)).await;
        assert_waits(refused, "SMS_LIMIT_REACHED", DAY);
    }
    assert_eq!(counted().await, [1, 1, 1]);
}

/// An address that many people share is not paused by those of them who use their codes.
#[tokio::test]
async fn an_address_whose_codes_are_used_is_not_paused() {
    let server = start(&["--sms-pumping-codes=30", "--sms-pumping-percent=10"]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let shared = "192.0.2.1";
    for _ in 0..4 {
        for _ in 0..10 {
            ask_as(&mut client, from(shared, &next_phone_number()))
                .await
                .unwrap();
        }
        // Two of twelve. Of the prefix of all they are as many.
        for _ in 0..2 {
            let sent = client
                .send_code(from(shared, &person.phone_number))
                .await
                .unwrap();
            let challenge = Challenge::known(sent.into_inner().challenge_id, CodePurpose::SignIn, &person);
            let mut offer = challenge.met();
            offer.client = from(shared, "").client;
            client.verify_code(offer).await.unwrap();
        }
        server.clock.advance(Duration::from_mins(5));
    }
    ask_as(&mut client, from(shared, &next_phone_number()))
        .await
        .unwrap();
}

/// Nine strangers ask for codes to the prefix and use none; when their time is over, it is paused.
async fn assert_nine_more_pause_the_prefix(server: &TestServer, client: &mut CodesClient) {
    for _ in 0..9 {
        ask(client, &next_phone_number()).await.unwrap();
    }
    server.clock.advance(Duration::from_mins(10));
    assert_waits(ask(client, &next_phone_number()).await, "SMS_PAUSED", HOUR);
}

/// A right code that gives nothing, for another reason, is used once, when it gives something.
#[tokio::test]
async fn a_code_counts_as_used_once() {
    let server = start(&["--sms-pumping-codes=10", "--sms-pumping-percent=20"]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    let challenge = Challenge::of(&mut client, CodePurpose::ResetPassword, &person).await;
    let mut offer = challenge.met();
    offer.new_password.clone_from(&person.phone_number);
    for _ in 0..3 {
        assert_refused(
            client.verify_code(offer.clone()).await,
            tonic::Code::InvalidArgument,
            "INVALID_INPUT",
        );
    }
    client.verify_code(challenge.met()).await.unwrap();
    // One of ten.
    assert_nine_more_pause_the_prefix(&server, &mut client).await;
}

/// What is not held against a prefix does not speak for it either.
#[tokio::test]
async fn codes_on_known_devices_say_nothing_of_a_prefix() {
    let server = start(&["--sms-pumping-codes=10", "--sms-pumping-percent=20"]).await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    verify(&server, &mut client, &person).await;
    let request = on_known_device(&server, &person).await;
    for _ in 0..5 {
        let sent = client.send_code(request.clone()).await.unwrap();
        let challenge = Challenge::known(sent.into_inner().challenge_id, CodePurpose::SignIn, &person);
        client.verify_code(challenge.met()).await.unwrap();
    }
    // With the one by which the person verified their number.
    assert_nine_more_pause_the_prefix(&server, &mut client).await;
}

/// A server with one bound on what all share. Each message costs 0.10.
async fn start_with_bound(flag: &str) -> TestServer {
    let prices = file("*\t0.10\n");
    let prices = format!("--sms-prices-file={}", prices.path().display());
    // They are given with a budget only.
    let prices = flag.starts_with("--sms-budget").then_some(&*prices);
    let flags: Vec<&str> = [flag].into_iter().chain(prices).collect();
    start(&flags).await
}

/// Of what all share, one address cannot use up what there is for strangers.
#[tokio::test]
async fn one_address_does_not_use_up_what_all_share() {
    for (flag, reason) in [
        ("--sms-limit-country=15/d", "SMS_LIMIT_REACHED"),
        ("--sms-limit-service=15/d", "SMS_LIMIT_REACHED"),
        ("--sms-budget=1.50", "SMS_BUDGET_EXHAUSTED"),
    ] {
        let server = start_with_bound(flag).await;
        let mut client = codes(&server).await;
        // A third of twelve each.
        for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            for _ in 0..4 {
                ask_as(&mut client, from(address, &next_phone_number()))
                    .await
                    .unwrap();
            }
            let refused = ask_as(&mut client, from(address, &next_phone_number())).await;
            assert_waits(refused, reason, DAY);
        }
        let refused = ask_as(&mut client, from("192.0.2.4", &next_phone_number())).await;
        assert_waits(refused, reason, DAY);
    }
}

/// Of what all share, strangers cannot use up the last fifth.
#[tokio::test]
async fn something_is_left_for_those_who_have_shown_to_hold_their_number() {
    for (flag, reason) in [
        ("--sms-limit-country=5/d", "SMS_LIMIT_REACHED"),
        ("--sms-limit-service=5/d", "SMS_LIMIT_REACHED"),
        ("--sms-budget=0.50", "SMS_BUDGET_EXHAUSTED"),
    ] {
        let server = start_with_bound(flag).await;
        let mut client = codes(&server).await;
        let person = server.person().await;
        // By a code, of those of today.
        verify(&server, &mut client, &person).await;
        let on_device = on_known_device(&server, &person).await;
        for host in 1..4 {
            let request = from(&format!("192.0.2.{host}"), &next_phone_number());
            ask_as(&mut client, request).await.unwrap();
        }
        let refused = ask_as(&mut client, from("192.0.2.4", &next_phone_number())).await;
        assert_waits(refused, reason, DAY);
        ask_as(&mut client, on_device.clone()).await.unwrap();
        assert_waits(ask_as(&mut client, on_device).await, reason, DAY);
    }
}
