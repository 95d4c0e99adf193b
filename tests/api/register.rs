//! Register.

use std::sync::Arc;
use std::time::Duration;

use phone_identity::proto::v1;
use tokio::sync::Barrier;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::support::refusal::{assert_refused, assert_violations, refusal};
use crate::support::{
    PASSWORD, SignedIn, TestServer, credentials, next_phone_number, registration, validation,
};

#[tokio::test]
async fn a_new_person_is_signed_in() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let request = v1::RegisterRequest {
        phone_number: "(90) 123-45-67".to_owned(),
        default_region: "uz".to_owned(),
        password: PASSWORD.to_owned(),
        client: Some(v1::ClientInfo {
            ip_address: "2001:DB8::1".to_owned(),
            user_agent: "\u{202E}Mozilla\u{200B}/5.0 \u{1F600}\n\u{2028}\u{FEFF}".to_owned(),
        }),
        ..v1::RegisterRequest::default()
    };
    let SignedIn { user, session, token } = client.register(request).await.unwrap().into_inner().into();

    assert_eq!(user.phone_number, "+998901234567");
    assert_eq!(user.status(), v1::UserStatus::Active);
    assert!(user.has_password && !user.is_staff && !user.is_superuser);
    assert_eq!((user.phone_verified_at, user.locale), (None, None));
    let now = Some(prost_types::Timestamp {
        seconds: 1_767_225_600,
        nanos: 0,
    });
    assert_eq!(
        (user.created_at, user.updated_at, user.last_login_at),
        (now, now, now)
    );
    assert_eq!(session.user_id, user.user_id);
    assert_eq!((session.created_at, session.last_seen_at), (now, now));
    let days = |days: i64| {
        Some(prost_types::Timestamp {
            seconds: 1_767_225_600 + days * 86_400,
            nanos: 0,
        })
    };
    assert_eq!(
        (session.expires_at, session.idle_expires_at),
        (days(30), days(14))
    );
    assert_eq!(
        session.auth_methods().collect::<Vec<_>>(),
        [v1::AuthMethod::Password]
    );
    let device = session.client.clone().unwrap();
    assert_eq!(
        (device.ip_address.as_str(), device.user_agent.as_str()),
        ("2001:db8::1", "Mozilla/5.0 \u{1F600}")
    );

    let valid = client
        .validate_session(validation(&token))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(valid.session.unwrap(), session);
    assert_eq!(valid.user.unwrap().user_id, user.user_id);
}

#[tokio::test]
async fn neither_password_nor_token_is_stored() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let dump = server.database.dump().await;
    assert!(
        dump.contains("users.password_hash=$argon2id$v=19$m=64,t=1,p=1$"),
        "{dump}"
    );
    assert!(
        !dump.contains(PASSWORD) && !dump.contains(&person.token),
        "{dump}"
    );
    // The token in hexadecimal is absent, too: columns of bytes are printed so.
    let hex: String = person.token.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(!dump.contains(&hex), "{dump}");
}

#[tokio::test]
async fn a_number_is_taken_once_however_it_is_written() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client
        .register(registration("+998901234567", PASSWORD))
        .await
        .unwrap();
    for written in ["+998 90 123-45-67", "\u{ff0b}998901234567", "+٩٩٨901234567"] {
        let again = client.register(registration(written, PASSWORD)).await;
        assert_refused(again, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    }
    assert_eq!(
        (
            server.database.count("users").await,
            server.database.count("sessions").await
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn one_of_64_concurrent_registrations_of_a_number_succeeds() {
    let server = TestServer::start().await;
    let barrier = Arc::new(Barrier::new(64));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (mut client, barrier) = (server.client().await, barrier.clone());
        calls.spawn(async move {
            barrier.wait().await;
            client.register(registration("+998901234567", PASSWORD)).await
        });
    }
    let (succeeded, refused): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((succeeded.len(), refused.len()), (1, 63));
    for outcome in refused {
        assert_refused(outcome, Code::AlreadyExists, "PHONE_NUMBER_TAKEN");
    }
    assert_eq!(
        (
            server.database.count("users").await,
            server.database.count("sessions").await
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn all_violations_come_at_once() {
    let server = TestServer::start().await;
    let request = v1::RegisterRequest {
        phone_number: "+1201555O123".to_owned(),
        default_region: String::new(),
        password: "short".to_owned(),
        client: Some(v1::ClientInfo {
            ip_address: "localhost".to_owned(),
            user_agent: String::new(),
        }),
        ..v1::RegisterRequest::default()
    };
    let outcome = server.client().await.register(request).await;
    assert_violations(
        outcome,
        &[
            ("phone_number", "PHONE_NUMBER_CHARACTER_NOT_ALLOWED"),
            ("password", "PASSWORD_TOO_SHORT"),
            ("client.ip_address", "IP_ADDRESS_INVALID"),
        ],
    );
    let empty = server
        .client()
        .await
        .register(v1::RegisterRequest::default())
        .await;
    assert_violations(empty, &[("phone_number", "REQUIRED"), ("password", "REQUIRED")]);
}

#[tokio::test]
async fn bad_phone_numbers_are_refused_and_nothing_is_written() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let long = "+998".repeat(75);
    for (input, reason) in [
        ("+99890123456x", "PHONE_NUMBER_CHARACTER_NOT_ALLOWED"),
        ("+998901234567\t", "PHONE_NUMBER_CHARACTER_NOT_ALLOWED"),
        ("+998901234567\0", "PHONE_NUMBER_CHARACTER_NOT_ALLOWED"),
        ("+998901234567 ext. 5", "PHONE_NUMBER_CHARACTER_NOT_ALLOWED"),
        ("1;phone-context=a;tel:", "PHONE_NUMBER_CHARACTER_NOT_ALLOWED"),
        (long.as_str(), "PHONE_NUMBER_INPUT_TOO_LONG"),
        ("901234567", "PHONE_NUMBER_REGION_REQUIRED"),
        ("+", "PHONE_NUMBER_NOT_A_NUMBER"),
        ("+999123456789", "PHONE_NUMBER_COUNTRY_CODE_UNKNOWN"),
        ("+99890123", "PHONE_NUMBER_TOO_SHORT"),
        ("+9989012345678901", "PHONE_NUMBER_TOO_LONG"),
        ("+998001234567", "PHONE_NUMBER_NOT_VALID"),
        ("+18002345678", "PHONE_NUMBER_LINE_TYPE_NOT_ALLOWED"),
    ] {
        let outcome = client.register(registration(input, PASSWORD)).await;
        let refusal = refusal(&outcome.unwrap_err());
        assert_eq!(
            refusal.violations,
            [("phone_number".to_owned(), reason.to_owned())],
            "{input:?}"
        );
    }
    let mut region = registration("901234567", PASSWORD);
    region.default_region = "Uzbekistan".to_owned();
    assert_violations(
        client.register(region).await,
        &[("default_region", "REGION_UNKNOWN")],
    );
    assert_eq!(server.database.count("users").await, 0);
}

#[tokio::test]
async fn bad_passwords_are_refused_by_the_rule_they_break() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let long = "horse battery staple, ".repeat(6);
    for (input, reason) in [
        ("", "REQUIRED"),
        ("zqvkxwj", "PASSWORD_TOO_SHORT"),
        (&long[..129], "PASSWORD_TOO_LONG"),
        ("zqvk\u{7}xwjy", "PASSWORD_CHARACTER_NOT_ALLOWED"),
        ("password123", "PASSWORD_TOO_COMMON"),
        ("90 123-45-67", "PASSWORD_CONTAINS_PHONE_NUMBER"),
    ] {
        let outcome = client.register(registration("+998901234567", input)).await;
        assert_violations(outcome, &[("password", reason)]);
    }
    assert_eq!(server.database.count("users").await, 0);
    client
        .register(registration("+998901234567", &long[..128]))
        .await
        .unwrap();
}

#[tokio::test]
async fn settings_change_the_accepted_numbers() {
    let flags = [
        "--default-region=UZ",
        "--allowed-line-types=fixed_line,toll_free",
        "--password-min-length=12",
    ];
    let server = TestServer::start_with(&flags).await;
    let mut client = server.client().await;
    client
        .register(registration("+18002345678", PASSWORD))
        .await
        .unwrap();
    client
        .register(registration("71 234 56 78", PASSWORD))
        .await
        .unwrap();
    let mobile = client.register(registration("90 123 45 67", "zqvkxwjyzqv")).await;
    assert_violations(
        mobile,
        &[
            ("phone_number", "PHONE_NUMBER_LINE_TYPE_NOT_ALLOWED"),
            ("password", "PASSWORD_TOO_SHORT"),
        ],
    );
}

#[tokio::test]
async fn a_full_hash_queue_is_reported_at_once() {
    let server = TestServer::start_with(&["--hash-queue=1"]).await;
    let held = server.hasher.hold();
    let (mut client, mut other) = (server.client().await, server.client().await);
    let first = credentials("+998901234567", PASSWORD);
    let waiting = tokio::spawn(async move { client.authenticate(first).await });
    server.waiting(1).await;
    let refused = other
        .authenticate(credentials("+998901234568", PASSWORD))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let refused = refusal(&refused);
    assert_eq!(refused.reason, "OVERLOADED");
    assert!(refused.retry_after >= Some(Duration::from_secs(1)), "{refused:?}");
    drop(held);
    assert_refused(
        waiting.await.unwrap(),
        Code::Unauthenticated,
        "INVALID_CREDENTIALS",
    );
    assert_eq!(server.hasher.snapshot().refused, 1);
}

/// As contact cards, pages and terminals give them.
#[tokio::test]
async fn a_pasted_number_is_accepted() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for paste in [
        |number: &str| format!("\u{202a}{number}\u{202c}"),
        |number: &str| format!("{}\u{a0}{}\u{202f}{}", &number[..4], &number[4..6], &number[6..]),
        |number: &str| format!("{number}\r\n"),
        |number: &str| format!("\u{2028}\u{feff}{}\u{200b}{}\n", &number[..5], &number[5..]),
    ] {
        let number = next_phone_number();
        let pasted = paste(&number);
        let made = client.register(registration(&pasted, PASSWORD)).await.unwrap();
        assert_eq!(made.into_inner().user.unwrap().phone_number, number, "{pasted:?}");
        for written in [&number, &pasted] {
            client.authenticate(credentials(written, PASSWORD)).await.unwrap();
        }
        let again = client.register(registration(&number, PASSWORD)).await;
        assert_eq!(refusal(&again.unwrap_err()).reason, "PHONE_NUMBER_TAKEN");
    }
}

/// In each language, and as metadata, since the character may be one that cannot be seen.
#[tokio::test]
async fn a_character_that_a_password_may_not_have_is_named() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for (language, text) in [
        ("en", "The password has a character that is not allowed: U+200B."),
        ("uz", "Parolda ruxsat etilmagan belgi bor: U+200B."),
        ("ru", "В пароле есть недопустимый символ: U+200B."),
        ("tr", "Parolada izin verilmeyen bir karakter var: U+200B."),
    ] {
        let mut request = Request::new(registration("+998901234567", "quiet\u{200b} lake\u{7}"));
        request
            .metadata_mut()
            .insert("accept-language", language.parse().unwrap());
        let status = client.register(request).await.unwrap_err();
        let refusal = refusal(&status);
        assert_eq!(refusal.metadata, [("character".to_owned(), "U+200B".to_owned())]);
        assert_eq!(
            refusal.message,
            "password has a character that is not allowed: U+200B"
        );
        let details = status.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.reason, "PASSWORD_CHARACTER_NOT_ALLOWED");
        assert_eq!(violation.localized_message.as_ref().unwrap().message, text);
    }
    // So is that of a sign-in.
    let refused = client
        .authenticate(credentials("+998901234567", "quiet\u{0}lake"))
        .await;
    let refused = refusal(&refused.unwrap_err());
    assert_eq!(refused.metadata, [("character".to_owned(), "U+0000".to_owned())]);
}

/// Characters of later Unicode than 6.3, and emoji sequences.
#[tokio::test]
async fn passwords_of_current_unicode_sign_in() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for password in [
        "quiet lake \u{20bd}",
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} at home",
        "press 1\u{fe0f}\u{20e3} twice",
        "\u{1f44b}\u{1f3fd} to the hill",
        "\u{2764}\u{fe0f}\u{1faf6} of stone",
    ] {
        let number = next_phone_number();
        client.register(registration(&number, password)).await.unwrap();
        client.authenticate(credentials(&number, password)).await.unwrap();
    }
}
