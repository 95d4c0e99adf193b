//! Detection of SMS pumping: sending to a prefix is paused if too few of its codes are used, for one address or for
//! all.

use std::time::Duration;

use phone_identity::proto::v1::CodePurpose;

use super::limits::{HOUR, ask, ask_as, assert_waits, start};
use super::owners::{from, on_known_device};
use super::{Challenge, verify};
use crate::support::codes::{CodesClient, codes, start_with_codes, wanted};
use crate::support::refusal::assert_refused;
use crate::support::{PASSWORD, TestServer, credentials, next_phone_number, registration};

#[tokio::test]
async fn a_prefix_with_unused_codes_is_paused() {
    let server = start(&[
        "--sms-pumping-codes=10",
        "--sms-pumping-percent=20",
        "--sms-pumping-pause=2h",
    ])
    .await;
    let mut client = codes(&server).await;
    let person = server.person().await;
    verify(&server, &mut client, &person).await;
    let on_device = on_known_device(&server, &person).await;
    // Ten of another prefix, of which two are used.
    let used = |index: u32| format!("+99890777{index:04}");
    for index in 0..10 {
        let number = used(index);
        if index < 2 {
            server
                .client()
                .await
                .register(registration(&number, PASSWORD))
                .await
                .unwrap();
            let mut signed_in = server
                .client()
                .await
                .authenticate(credentials(&number, PASSWORD))
                .await
                .unwrap();
            let user_id = signed_in.get_mut().user.take().unwrap().user_id;
            let sent = client
                .send_code(wanted(CodePurpose::SignIn, &number))
                .await
                .unwrap();
            let id = sent.into_inner().challenge_id;
            let code = crate::support::codes::code_of(&id, CodePurpose::SignIn, &number, Some(&user_id));
            let offer = crate::support::codes::offered(&id, CodePurpose::SignIn, &code);
            client.verify_code(offer).await.unwrap();
        } else {
            ask(&mut client, &number).await.unwrap();
        }
    }
    // Nine to the prefix of the user, with the codes of its verification and its own.
    for _ in 0..30 {
        ask(&mut client, &next_phone_number()).await.unwrap();
    }
    // There is still time to use them.
    for later in [300, 299] {
        server.clock.advance(Duration::from_secs(later));
        ask(&mut client, &next_phone_number()).await.unwrap();
    }
    server.clock.advance(Duration::from_secs(1));
    for number in [&next_phone_number(), &person.phone_number] {
        assert_waits(ask(&mut client, number).await, "SMS_PAUSED", 2 * HOUR);
    }
    ask(&mut client, &used(10)).await.unwrap();
    ask_as(&mut client, on_device).await.unwrap();
    let of_session = person.asks(wanted(CodePurpose::VerifyPhone, ""));
    ask_as(&mut client, of_session).await.unwrap();
    server.clock.advance(2 * HOUR);
    ask(&mut client, &next_phone_number()).await.unwrap();
}

/// All limits have their defaults. Users with and without an account have the same limits.
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
async fn a_code_counts_as_used_for_the_address_that_requested_it() {
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

/// An address that many users share is not paused while enough of them use their codes.
#[tokio::test]
async fn an_address_with_used_codes_is_not_paused() {
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
        // Two of twelve. The prefix has the same counts over all addresses.
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

/// A code that does not count as sent does not count as used, either.
#[tokio::test]
async fn codes_on_known_devices_do_not_count_for_a_prefix() {
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
    // This includes the code that verified the number of the user.
    assert_nine_more_pause_the_prefix(&server, &mut client).await;
}
