//! Authenticate.

use std::time::{Duration, Instant};

use phone_identity::proto::v1;
use tonic::Code;

use crate::support::refusal::{assert_refused, assert_violations, refusal};
use crate::support::{OTHER_PASSWORD, PASSWORD, SignedIn, TestServer, credentials, registration, validation};

#[tokio::test]
async fn the_right_password_signs_in() {
    let server = TestServer::start().await;
    let person = server.person().await;
    server.clock.advance(Duration::from_secs(90));
    let mut request = credentials(&person.phone_number, PASSWORD);
    request.client = Some(v1::ClientInfo {
        ip_address: "192.0.2.7".to_owned(),
        user_agent: "app/1".to_owned(),
    });
    let mut client = server.client().await;
    let SignedIn { user, session, token } = client.authenticate(request).await.unwrap().into_inner().into();
    let now = Some(prost_types::Timestamp {
        seconds: 1_767_225_690,
        nanos: 0,
    });
    assert_eq!(
        (user.user_id.as_str(), user.last_login_at),
        (person.user.user_id.as_str(), now)
    );
    assert_eq!(user.updated_at, person.user.updated_at, "signing in is no change");
    assert_eq!(
        (session.created_at, session.client.unwrap().ip_address.as_str()),
        (now, "192.0.2.7")
    );
    assert_ne!(token, person.token);
    client.validate_session(validation(&person.token)).await.unwrap();
    client.validate_session(validation(&token)).await.unwrap();
}

#[tokio::test]
async fn an_unknown_number_and_a_wrong_password_get_the_same_answer() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let deactivated = server.person().await;
    let mut client = server.client().await;
    client
        .deactivate_profile(deactivated.asks(v1::DeactivateProfileRequest::default()))
        .await
        .unwrap();
    let hashed = server.hasher.completed();
    let mut answers = Vec::new();
    // Unknown, known, deactivated, and one that can be looked up but not taken.
    for number in [
        "+998712345678",
        &person.phone_number,
        &deactivated.phone_number,
        "+18002345678",
    ] {
        let status = client
            .authenticate(credentials(number, OTHER_PASSWORD))
            .await
            .unwrap_err();
        assert_eq!(refusal(&status).reason, "INVALID_CREDENTIALS");
        answers.push((
            status.code(),
            status.message().to_owned(),
            status.details().to_vec(),
        ));
    }
    assert_eq!(answers[0].0, Code::Unauthenticated);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(server.hasher.completed() - hashed, 4, "each costs one hash");
}

/// A promise about the least time, which no slow machine breaks; there is none about the most.
#[tokio::test]
async fn a_failed_sign_in_is_answered_no_sooner_than_the_setting_says() {
    let server = TestServer::start_with(&["--min-failed-sign-in-duration=200ms"]).await;
    let person = server.person().await;
    let mut client = server.client().await;
    for number in ["+998712345678", &person.phone_number] {
        let asked = Instant::now();
        let refused = client.authenticate(credentials(number, OTHER_PASSWORD)).await;
        let answered = asked.elapsed();
        assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
        assert!(answered >= Duration::from_millis(200), "{number}: {answered:?}");
    }
}

#[tokio::test]
async fn a_password_is_the_same_on_every_keyboard_and_policy_is_for_new_ones_only() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client
        .register(registration("+998901234567", "caf\u{e9} au lait"))
        .await
        .unwrap();
    client
        .authenticate(credentials("+998901234567", "cafe\u{301} au\u{a0}lait"))
        .await
        .unwrap();
    let short = client.authenticate(credentials("+998901234567", "zqvkxwj")).await;
    assert_refused(short, Code::Unauthenticated, "INVALID_CREDENTIALS");
    let raised = server.restart_with(&["--password-min-length=20"]).await;
    raised
        .client()
        .await
        .authenticate(credentials("+998901234567", "café au lait"))
        .await
        .unwrap();
}

#[tokio::test]
async fn all_invalid_fields_are_reported_at_once() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let empty = client.authenticate(v1::AuthenticateRequest::default()).await;
    assert_violations(empty, &[("phone_number", "REQUIRED"), ("password", "REQUIRED")]);
    let mut request = credentials("901234567", &"x".repeat(129));
    request.default_region = "XX".to_owned();
    request.client = Some(v1::ClientInfo {
        ip_address: "1.2.3.4.5".to_owned(),
        user_agent: String::new(),
    });
    let violations = [
        ("default_region", "REGION_UNKNOWN"),
        ("password", "PASSWORD_TOO_LONG"),
        ("client.ip_address", "IP_ADDRESS_INVALID"),
    ];
    assert_violations(client.authenticate(request).await, &violations);
}

#[tokio::test]
async fn a_deactivated_person_is_told_so_only_after_the_right_password_and_can_come_back() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    client
        .deactivate_profile(person.asks(v1::DeactivateProfileRequest::default()))
        .await
        .unwrap();
    let mut request = credentials(&person.phone_number, PASSWORD);
    let refused = client.authenticate(request.clone()).await;
    assert_refused(refused, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
    request.reactivate = true;
    request.password = OTHER_PASSWORD.to_owned();
    assert_refused(
        client.authenticate(request.clone()).await,
        Code::Unauthenticated,
        "INVALID_CREDENTIALS",
    );
    assert_eq!(server.database.count("sessions").await, 0);
    request.password = PASSWORD.to_owned();
    let back: SignedIn = client.authenticate(request).await.unwrap().into_inner().into();
    assert_eq!(back.user.status(), v1::UserStatus::Active);
    client.validate_session(validation(&back.token)).await.unwrap();
    client
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await
        .unwrap();
}

#[tokio::test]
async fn raised_parameters_rehash_at_the_next_sign_in() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let weak = server.database.password_hash(&person).await;
    assert!(weak.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{weak}");
    let server = server
        .restart_with(&["--argon2-memory-kib=128", "--argon2-iterations=3"])
        .await;
    let wrong = server
        .client()
        .await
        .authenticate(credentials(&person.phone_number, OTHER_PASSWORD))
        .await;
    assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
    assert_eq!(server.database.password_hash(&person).await, weak);
    person.sign_in_again(&server).await;
    let strong = server.database.password_hash(&person).await;
    assert!(strong.starts_with("$argon2id$v=19$m=128,t=3,p=1$"), "{strong}");
    person.sign_in_again(&server).await;
    assert_eq!(
        server.database.password_hash(&person).await,
        strong,
        "once is enough"
    );
    let server = server.restart_with(&[]).await;
    person.sign_in_again(&server).await;
    assert_eq!(
        server.database.password_hash(&person).await,
        strong,
        "a stronger hash is kept"
    );
}

#[tokio::test]
async fn above_the_maximum_the_oldest_session_is_evicted() {
    let server = TestServer::start_with(&["--max-sessions=3"]).await;
    let mut people = vec![server.person().await];
    for _ in 0..3 {
        server.clock.advance(Duration::from_secs(1));
        people.push(people[0].sign_in_again(&server).await);
    }
    let mut client = server.client().await;
    let oldest = client.validate_session(validation(&people[0].token)).await;
    assert_refused(oldest, Code::Unauthenticated, "SESSION_INVALID");
    for newer in &people[1..] {
        client.validate_session(validation(&newer.token)).await.unwrap();
    }
    assert_eq!(server.database.count("sessions").await, 3);
}

#[tokio::test]
async fn an_ended_session_is_evicted_before_a_live_one() {
    let server = TestServer::start_with(&["--max-sessions=2", "--session-idle-lifetime=1h"]).await;
    let used = server.person().await;
    server.clock.advance(Duration::from_secs(60));
    let idle = used.sign_in_again(&server).await;
    let mut client = server.client().await;
    // The older one is used and the newer one is not.
    server.clock.advance(Duration::from_secs(58 * 60));
    client.validate_session(validation(&used.token)).await.unwrap();
    let seen = "SELECT 1 FROM sessions WHERE user_id = ? AND last_seen_at > created_at";
    server.database.wait_for(seen, &used).await;
    server.clock.advance(Duration::from_secs(5 * 60));
    let newest = used.sign_in_again(&server).await;
    client.validate_session(validation(&used.token)).await.unwrap();
    client.validate_session(validation(&newest.token)).await.unwrap();
    let gone = client.validate_session(validation(&idle.token)).await;
    assert_refused(gone, Code::Unauthenticated, "SESSION_INVALID");
}
