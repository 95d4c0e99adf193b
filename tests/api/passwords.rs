//! New passwords: which are rejected, and that nothing costly happens to one before its attempt was reserved.

mod breached;
mod throttled;

use phone_identity::proto::v1;
use phone_identity::proto::v1::CodePurpose;
use tonic::Code;
use uuid::Uuid;

use crate::codes::Challenge;
use crate::support::codes::{codes, offered, start_with_codes};
use crate::support::refusal::{assert_refused, assert_violations};
use crate::support::{OTHER_PASSWORD, PASSWORD, TestServer, credentials, next_phone_number, registration};

const COMMON: [&str; 4] = ["Passw0rd!", "Password123!", "toshkent", "пароль123"];

/// Returns the work of the hashing threads and of the policy: completed, dropped and waiting jobs, and checked
/// passwords.
fn work(server: &TestServer) -> (u64, u64, usize, u64) {
    let hasher = server.hasher.snapshot();
    (
        hasher.completed,
        hasher.dropped,
        hasher.depth,
        server.passwords.checked(),
    )
}

#[tokio::test]
async fn common_passwords_are_rejected_in_all_languages() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for password in COMMON {
        let rejected = client
            .register(registration(&next_phone_number(), password))
            .await;
        assert_violations(rejected, &[("password", "PASSWORD_TOO_COMMON")]);
    }
    assert_eq!(server.hasher.completed(), 0);
}

/// A user that needs several tries to find an acceptable password has guessed nothing. Only the address counts: see
/// below.
#[tokio::test]
async fn a_rejected_password_uses_up_no_attempts() {
    let flags = [
        "--throttle-phone-claim-attempts=1",
        "--throttle-number-attempts=1",
        "--throttle-creation-attempts=1",
    ];
    let server = TestServer::start_with(&flags).await;
    let mut client = server.client().await;
    let number = next_phone_number();
    let at_address = |password: &str| v1::RegisterRequest {
        client: Some(v1::ClientInfo {
            ip_address: "203.0.113.9".to_owned(),
            ..v1::ClientInfo::default()
        }),
        ..registration(&number, password)
    };
    for _ in 0..5 {
        let rejected = client.register(at_address(COMMON[0])).await;
        assert_violations(rejected, &[("password", "PASSWORD_TOO_COMMON")]);
    }
    let registered = client.register(at_address(PASSWORD)).await.unwrap().into_inner();
    for _ in 0..5 {
        let update = v1::UpdateProfileRequest {
            new_password: Some(COMMON[1].to_owned()),
            ..v1::UpdateProfileRequest::default()
        };
        let update = crate::support::with_bearer(&registered.session_token, update);
        let rejected = client.update_profile(update).await;
        assert_violations(rejected, &[("new_password", "PASSWORD_TOO_COMMON")]);
    }
    client.authenticate(credentials(&number, PASSWORD)).await.unwrap();
}

/// Each such call writes to the database, so a stranger must not make them without end.
#[tokio::test]
async fn rejected_passwords_count_for_the_client_address() {
    let server = TestServer::start_with(&["--throttle-address-attempts=3"]).await;
    let mut client = server.client().await;
    let mut register = async |address: &str| {
        let request = v1::RegisterRequest {
            client: Some(v1::ClientInfo {
                ip_address: address.to_owned(),
                ..v1::ClientInfo::default()
            }),
            ..registration(&next_phone_number(), COMMON[0])
        };
        client.register(request).await
    };
    for _ in 0..3 {
        let rejected = register("203.0.113.9").await;
        assert_violations(rejected, &[("password", "PASSWORD_TOO_COMMON")]);
    }
    let refused = register("203.0.113.9").await;
    assert_refused(refused, Code::ResourceExhausted, "TOO_MANY_ATTEMPTS");
    let other = register("203.0.113.10").await;
    assert_violations(other, &[("password", "PASSWORD_TOO_COMMON")]);
}

#[tokio::test]
async fn a_rejected_password_leaves_the_code_valid() {
    let server = start_with_codes(&["--code-attempts=2"]).await;
    let person = server.person().await;
    let mut client = codes(&server).await;
    let challenge = Challenge::of(&mut client, CodePurpose::ResetPassword, &person).await;
    let with = |password: &str| v1::VerifyCodeRequest {
        new_password: password.to_owned(),
        ..challenge.met()
    };
    for _ in 0..5 {
        let rejected = client.verify_code(with(COMMON[0])).await;
        assert_violations(rejected, &[("new_password", "PASSWORD_TOO_COMMON")]);
    }
    client.verify_code(with(OTHER_PASSWORD)).await.unwrap();
}

/// Without this order a stranger would have passwords checked for nothing but a made-up challenge.
#[tokio::test]
async fn a_password_is_checked_after_the_code_or_the_current_password_was_right() {
    let server = start_with_codes(&["--code-attempts=5"]).await;
    let person = server.person().await;
    let mut client = codes(&server).await;
    let before = work(&server);
    for purpose in [CodePurpose::ResetPassword, CodePurpose::Register] {
        for password in COMMON {
            let mut request = offered(&Uuid::new_v4().to_string(), purpose, "123456");
            request.new_password = password.to_owned();
            assert_refused(
                client.verify_code(request).await,
                Code::InvalidArgument,
                "CODE_INVALID",
            );
        }
    }
    let challenge = Challenge::of(&mut client, CodePurpose::ResetPassword, &person).await;
    let mut wrong = challenge.met();
    wrong.code = crate::support::codes::another(&wrong.code);
    wrong.new_password = COMMON[0].to_owned();
    assert_refused(
        client.verify_code(wrong).await,
        Code::InvalidArgument,
        "CODE_INVALID",
    );
    assert_eq!(work(&server), before);

    let update = person.asks(v1::UpdateProfileRequest {
        current_password: Some(OTHER_PASSWORD.to_owned()),
        new_password: Some(COMMON[0].to_owned()),
        ..v1::UpdateProfileRequest::default()
    });
    let refused = server.client().await.update_profile(update).await;
    assert_refused(refused, Code::PermissionDenied, "CURRENT_PASSWORD_WRONG");
    // The current password was hashed, and the new one was not looked at.
    let (completed, dropped, depth, checked) = before;
    assert_eq!(work(&server), (completed + 1, dropped, depth, checked));
}
