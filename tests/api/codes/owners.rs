//! Limits on messages cannot be used against the owner of a number. An attacker that uses up the limits does not stop
//! an owner with any proof, even if that is only another address.

use std::time::Duration;

use phone_identity::proto::v1::{ClientInfo, CodePurpose, SendCodeRequest};

use super::limits::{DAY, HOUR, ask, ask_as, assert_waits, file, start};
use super::sending::again;
use super::{Challenge, verify};
use crate::support::codes::{codes, start_with_codes, wanted};
use crate::support::{PASSWORD, Person, TestServer, credentials, next_phone_number};

/// Requests codes to a user on a known device.
pub(super) async fn on_known_device(server: &TestServer, person: &Person) -> SendCodeRequest {
    let mut request = credentials(&person.phone_number, PASSWORD);
    request.remember_device = true;
    let signed_in = server.client().await.authenticate(request).await.unwrap();
    let mut request = wanted(CodePurpose::SignIn, &person.phone_number);
    request.device_token = signed_in.into_inner().device_token;
    request
}

#[tokio::test]
async fn strangers_do_not_use_up_the_limit_of_the_owner() {
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
    // The prefix has no messages left. That does not count for a known device of a user with a verified number.
    let refused = ask(&mut client, &next_phone_number()).await;
    assert_waits(refused, "SMS_LIMIT_REACHED", DAY);
    let on_device = on_known_device(&server, &person).await;
    ask_as(&mut client, on_device.clone()).await.unwrap();
    // That was the third. More devices or sessions give no more messages.
    let on_another = on_known_device(&server, &person).await;
    assert_ne!(on_device.device_token, on_another.device_token);
    for request in [on_device, on_another] {
        assert_waits(ask_as(&mut client, request).await, "SMS_LIMIT_REACHED", DAY);
    }
    assert_waits(ask_as(&mut client, of_session()).await, "SMS_LIMIT_REACHED", DAY);
    // A user that registered a number could have thousands of devices.
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
async fn strangers_do_not_stop_a_session_from_verifying_its_number() {
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
    // They have no more messages than other users, either.
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

/// All limits have their defaults. One address requests a code every minute for a day. From another address, the owner
/// gets codes at any time, without a session and on a new device.
#[tokio::test]
async fn one_address_does_not_use_up_the_limit_of_a_number() {
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
async fn an_address_gets_a_third_of_the_limit_of_a_number_and_a_prefix() {
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

/// Requests without an address leave a part of the limit to requests with one.
#[tokio::test]
async fn requests_without_an_address_do_not_use_up_the_limit_of_a_number() {
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
    // This is of the eight for strangers.
    for _ in 0..7 {
        ask(&mut client, &next_phone_number()).await.unwrap();
    }
    let refused = ask(&mut client, &next_phone_number()).await;
    assert_waits(refused, "SMS_LIMIT_REACHED", DAY);
    ask_as(&mut client, from("192.0.2.1", &next_phone_number()))
        .await
        .unwrap();
}

/// Rejected requests from ever new addresses do not fill the database.
#[tokio::test]
async fn rejected_requests_are_not_counted() {
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

/// A server with one bound on what all share. Each message costs 0.10.
async fn start_with_bound(flag: &str) -> TestServer {
    let prices = file("*\t0.10\n");
    let prices = format!("--sms-prices-file={}", prices.path().display());
    // They are given with a budget only.
    let prices = flag.starts_with("--sms-budget").then_some(&*prices);
    let flags: Vec<&str> = [flag].into_iter().chain(prices).collect();
    start(&flags).await
}

/// One address cannot use up the part of the shared limit that is for strangers.
#[tokio::test]
async fn one_address_does_not_use_up_a_shared_limit() {
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

/// Strangers cannot use up the last fifth of the shared limit.
#[tokio::test]
async fn a_part_of_the_limit_is_reserved_for_verified_users() {
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
