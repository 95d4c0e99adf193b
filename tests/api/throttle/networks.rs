//! Limits by network: the /64s of a /48 together get four times what one address gets, and aliases of an address what
//! it gets itself.

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::{Code, Status};

use super::from;
use crate::support::codes::{codes, start_with_codes, wanted};
use crate::support::refusal::refusal;
use crate::support::{OTHER_PASSWORD, TestServer, next_phone_number, registration};

/// 192.0.2.33, and the same as a mapped, a NAT64, a 6to4 and a Teredo address.
pub(super) const ALIASES: [&str; 5] = [
    "192.0.2.33",
    "::ffff:192.0.2.33",
    "64:ff9b::192.0.2.33",
    "2002:c000:221::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdde",
];

/// An address of a /64 of 2001:db8:1::/48. Sixteen that follow each other are in one /56.
pub(super) fn of_site(subnet: usize) -> String {
    format!("2001:db8:1:{:x}::1", subnet / 16 * 256 + subnet % 16)
}

pub(super) fn client(address: &str) -> Option<v1::ClientInfo> {
    Some(v1::ClientInfo {
        ip_address: address.to_owned(),
        ..v1::ClientInfo::default()
    })
}

/// Returns whether a call was rejected by the rate limit, and for no other reason.
fn is_refused(status: &Status, reason: &str) -> bool {
    let refusal = refusal(status);
    if refusal.code != Code::ResourceExhausted {
        return false;
    }
    assert_eq!(refusal.reason, reason, "{refusal:?}");
    true
}

/// Returns the number of hashed guesses, with one guess from each address.
async fn guess(server: &TestServer, addresses: impl IntoIterator<Item = String>) -> u64 {
    let before = server.hasher.completed();
    let mut guessed = 0;
    for address in addresses {
        let request = from(&address, &next_phone_number(), OTHER_PASSWORD);
        let refused = server.client().await.authenticate(request).await.unwrap_err();
        guessed += u64::from(!is_refused(&refused, "TOO_MANY_ATTEMPTS"));
    }
    assert_eq!(server.hasher.completed() - before, guessed);
    guessed
}

#[tokio::test]
async fn guesses_from_the_subnets_of_a_site_are_four_times_those_of_one_address() {
    let server = TestServer::start_with(&[
        "--throttle-address-attempts=3",
        "--min-failed-sign-in-duration=0s",
    ])
    .await;
    // Addresses of a /64, then of the rest of its /56, then of the rest of the /48.
    assert_eq!(guess(&server, vec![of_site(0); 5]).await, 3);
    assert_eq!(guess(&server, (0..16).map(of_site)).await, 3);
    assert_eq!(guess(&server, (0..64).map(of_site)).await, 6);
    assert_eq!(guess(&server, vec!["2001:db8:2::1".to_owned(); 5]).await, 3);
    let aliases = ALIASES.iter().cycle().take(15);
    assert_eq!(guess(&server, aliases.map(|alias| (*alias).to_owned())).await, 3);
}

/// Returns the number of sent codes, with one request from each address.
async fn ask(server: &TestServer, number: &str, addresses: impl IntoIterator<Item = String>) -> usize {
    let mut sent = 0;
    for address in addresses {
        let request = v1::SendCodeRequest {
            client: client(&address),
            ..wanted(CodePurpose::SignIn, number)
        };
        match codes(server).await.send_code(request).await {
            Ok(_) => sent += 1,
            Err(refused) => assert!(is_refused(&refused, "TOO_MANY_ATTEMPTS"), "{refused:?}"),
        }
    }
    sent
}

#[tokio::test]
async fn codes_asked_for_from_the_subnets_of_a_site_are_four_times_those_of_one_address() {
    let flags = [
        "--throttle-code-attempts=2",
        "--sms-limit-number=none",
        "--sms-pumping-codes=0",
    ];
    let server = start_with_codes(&flags).await;
    let number = next_phone_number();
    assert_eq!(ask(&server, &number, vec![of_site(0); 3]).await, 2);
    assert_eq!(ask(&server, &number, (0..64).map(of_site)).await, 6);
    assert_eq!(
        ask(&server, &number, vec!["2001:db8:2::1".to_owned(); 3]).await,
        2
    );
    assert_eq!(ask(&server, &number, ALIASES.map(str::to_owned)).await, 2);
    assert_eq!(ask(&server, &next_phone_number(), vec![of_site(0); 3]).await, 2);
}

/// Returns the number of messages of Register, with one registration of a new number from each address.
async fn register(server: &TestServer, addresses: impl IntoIterator<Item = String>) -> i64 {
    let before = server.database.count("challenges").await;
    let mut sent = 0;
    for address in addresses {
        let request = v1::RegisterRequest {
            client: client(&address),
            ..registration(&next_phone_number(), "")
        };
        let refused = server.client().await.register(request).await.unwrap_err();
        let is_sent = !is_refused(&refused, "SMS_LIMIT_REACHED");
        if is_sent {
            assert_eq!(refusal(&refused).reason, "VERIFICATION_REQUIRED");
        }
        sent += i64::from(is_sent);
    }
    assert_eq!(server.database.count("challenges").await - before, sent);
    sent
}

#[tokio::test]
async fn messages_of_register_from_the_subnets_of_a_site_are_four_times_those_of_one_address() {
    let flags = [
        "--registration=verified",
        "--sms-limit-address=5/h",
        "--sms-limit-prefix=none",
        "--sms-pumping-codes=0",
    ];
    let server = start_with_codes(&flags).await;
    let subnets = (0..14).map(|subnet| of_site(subnet * 16));
    assert_eq!(register(&server, subnets.cycle().take(60)).await, 20);
    assert_eq!(register(&server, vec!["2001:db8:2::1".to_owned(); 7]).await, 5);
    let aliases = ALIASES.iter().cycle().take(15);
    assert_eq!(
        register(&server, aliases.map(|alias| (*alias).to_owned())).await,
        5
    );
}
