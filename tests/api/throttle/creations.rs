//! Created accounts count by network, whichever way a stranger creates them, and are not given back.

use std::time::Duration;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::{Code, Response, Status};

use super::networks::{ALIASES, client, of_site};
use super::wait_of;
use crate::support::codes::{another, code_of, codes, offered, start_with_codes, wanted};
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{PASSWORD, TestServer, next_phone_number, registration};

const RECOVERY: Duration = Duration::from_mins(2);

type Outcome = Result<Response<v1::RegisterResponse>, Status>;

async fn register(server: &TestServer, address: &str, number: &str) -> Outcome {
    let request = v1::RegisterRequest {
        client: client(address),
        ..registration(number, PASSWORD)
    };
    server.client().await.register(request).await
}

async fn register_new(server: &TestServer, address: &str) -> Outcome {
    register(server, address, &next_phone_number()).await
}

#[tokio::test]
async fn by_default_an_address_creates_a_hundred_accounts_and_then_thirty_an_hour() {
    let server = TestServer::start().await;
    for _ in 0..100 {
        register_new(&server, "192.0.2.7").await.unwrap();
    }
    let hashed = server.hasher.completed();
    assert_eq!(wait_of(register_new(&server, "192.0.2.7").await), RECOVERY);
    assert_eq!(
        server.hasher.completed(),
        hashed,
        "was hashed while it was refused"
    );
    register_new(&server, "192.0.2.8").await.unwrap();
    for _ in 0..3 {
        server.clock.advance(RECOVERY);
        register_new(&server, "192.0.2.7").await.unwrap();
        assert_eq!(wait_of(register_new(&server, "192.0.2.7").await), RECOVERY);
    }
}

#[tokio::test]
async fn by_default_a_site_creates_four_hundred_accounts() {
    let server = TestServer::start().await;
    let mut created = 0;
    for subnet in 0..14 {
        let address = of_site(subnet * 16);
        while created < 400 && register_new(&server, &address).await.is_ok() {
            created += 1;
        }
    }
    assert_eq!(created, 400);
    // The /48 forgets one in half a minute, which is in time for a /64 that has created none.
    assert_eq!(wait_of(register_new(&server, &of_site(999)).await), RECOVERY / 4);
    register_new(&server, "2001:db8:2::1").await.unwrap();
    server.clock.advance(RECOVERY / 4);
    register_new(&server, &of_site(999)).await.unwrap();
    assert_eq!(wait_of(register_new(&server, &of_site(998)).await), RECOVERY / 4);
}

#[tokio::test]
async fn a_registration_that_fails_creates_nothing_and_aliases_share_what_there_is() {
    let server = TestServer::start_with(&["--throttle-creation-attempts=2"]).await;
    let taken = server.person().await.phone_number;
    for address in ALIASES {
        let refused = register(&server, address, &taken).await;
        assert_refused(refused, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    }
    register_new(&server, ALIASES[0]).await.unwrap();
    register_new(&server, ALIASES[1]).await.unwrap();
    for address in ALIASES {
        assert_eq!(
            wait_of(register_new(&server, address).await),
            RECOVERY,
            "{address}"
        );
    }
    // Without an address there is no limit.
    for _ in 0..5 {
        register_new(&server, "").await.unwrap();
    }
}

/// A challenge for a new number, and its code.
async fn challenge(server: &TestServer, purpose: CodePurpose) -> (String, String) {
    let number = next_phone_number();
    let id = if purpose == CodePurpose::Register {
        let refused = server.client().await.register(registration(&number, "")).await;
        let metadata = refusal(&refused.unwrap_err()).metadata;
        metadata
            .into_iter()
            .find(|(key, _)| key == "challengeId")
            .unwrap()
            .1
    } else {
        let sent = codes(server).await.send_code(wanted(purpose, &number)).await;
        sent.unwrap().into_inner().challenge_id
    };
    let code = code_of(&id, purpose, &number, None);
    (id, code)
}

async fn verify(
    server: &TestServer,
    purpose: CodePurpose,
    (id, code): (&str, &str),
) -> Result<v1::VerifyCodeResponse, Status> {
    let mut request = offered(id, purpose, code);
    request.client = client("192.0.2.7");
    if purpose == CodePurpose::Register {
        request.new_password = PASSWORD.to_owned();
    }
    Ok(codes(server).await.verify_code(request).await?.into_inner())
}

#[tokio::test]
async fn an_account_that_is_created_by_a_code_counts_and_a_wrong_code_does_not() {
    for (purpose, flag) in [
        (CodePurpose::Register, "--registration=verified"),
        (CodePurpose::SignIn, "--sign-up-by-code"),
    ] {
        let server = start_with_codes(&[flag, "--throttle-creation-attempts=1"]).await;
        let (first, second) = (
            challenge(&server, purpose).await,
            challenge(&server, purpose).await,
        );
        let wrong = verify(&server, purpose, (&first.0, &another(&first.1))).await;
        assert_eq!(refusal(&wrong.unwrap_err()).reason, "CODE_INVALID");
        let created = verify(&server, purpose, (&first.0, &first.1)).await.unwrap();
        let refused = verify(&server, purpose, (&second.0, &second.1)).await;
        assert_eq!(wait_of(refused.map(Response::new)), RECOVERY);
        // An existing account is not rejected.
        let user = created.user.unwrap();
        let sent = codes(&server)
            .await
            .send_code(wanted(CodePurpose::SignIn, &user.phone_number))
            .await;
        let id = sent.unwrap().into_inner().challenge_id;
        let code = code_of(&id, CodePurpose::SignIn, &user.phone_number, Some(&user.user_id));
        verify(&server, CodePurpose::SignIn, (&id, &code)).await.unwrap();
        server.clock.advance(RECOVERY);
        verify(&server, purpose, (&second.0, &second.1)).await.unwrap();
    }
}
