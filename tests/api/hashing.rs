//! The hashing threads as callers and operators see them: what is not hashed, the engines, and peppers.

use std::fs;

use tonic::{Code, Response, Status};

use crate::support::binary::ServerProcess;
use crate::support::place::{Place, write_secret};
use crate::support::refusal::assert_refused;
use crate::support::{OTHER_PASSWORD, PASSWORD, TestServer, connect, credentials, registration};
use crate::wire::{call_by_frames, frame};

/// `key-id:secret` of two peppers.
const OLD: &str = "old:b25lIHBlcHBlciB0aGF0IG5vYm9keSBzZWVz";
const NEW: &str = "new:YW5vdGhlciBwZXBwZXIgb2YgdGhpcyB0ZXN0";

#[tokio::test]
async fn a_call_that_is_cancelled_is_not_hashed() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let hashed = server.hasher.completed();
    let held = server.hasher.hold();
    let (mut client, request) = (server.client().await, credentials(&person.phone_number, PASSWORD));
    let call = tokio::spawn(async move { client.authenticate(request).await });
    server.waiting(1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    server.waiting(0).await;
    drop(held);
    person.sign_in_again(&server).await;
    let counted = server.hasher.snapshot();
    assert_eq!((counted.completed - hashed, counted.dropped), (1, 1));
}

#[tokio::test]
async fn a_call_after_its_deadline_is_not_hashed() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let hashed = server.hasher.completed();
    let held = server.hasher.hold();
    // By frames, since tonic's client would cancel the call by itself.
    let path = "/phone_identity.v1.PhoneIdentity/Authenticate";
    let body = frame(&credentials(&person.phone_number, PASSWORD));
    let headers = call_by_frames(&server, path, Some("50m"), &body).await;
    let call = Err::<Response<()>, _>(Status::from_header_map(&headers).unwrap());
    assert_refused(call, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    server.waiting(0).await;
    drop(held);
    person.sign_in_again(&server).await;
    let counted = server.hasher.snapshot();
    assert_eq!((counted.completed - hashed, counted.dropped), (1, 1));
}

#[tokio::test]
async fn each_engine_reads_what_the_other_wrote() {
    let server = TestServer::start_with(&["--hash-engine=portable"]).await;
    assert_eq!(server.hasher.setup().engine.name(), "argon2");
    let person = server.person().await;
    let server = server.restart_with(&["--hash-engine=auto"]).await;
    assert_eq!(server.hasher.setup().engine.name(), "argon2-rust");
    person.sign_in_again(&server).await;
    let other = server.person().await;
    let server = server.restart_with(&["--hash-engine=portable"]).await;
    other.sign_in_again(&server).await;
}

#[tokio::test]
async fn peppers_are_added_and_exchanged_at_the_next_sign_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peppers");
    let flag = format!("--peppers-file={}", file.display());
    let server = TestServer::start().await;
    let person = server.person().await;
    let plain = server.database.password_hash(&person).await;
    assert!(!plain.contains("keyid"), "{plain}");

    write_secret(&file, OLD);
    let server = server.restart_with(&[&flag]).await;
    let wrong = server
        .client()
        .await
        .authenticate(credentials(&person.phone_number, OTHER_PASSWORD))
        .await;
    assert_refused(wrong, Code::Unauthenticated, "INVALID_CREDENTIALS");
    assert_eq!(server.database.password_hash(&person).await, plain);
    person.sign_in_again(&server).await;
    let peppered = server.database.password_hash(&person).await;
    assert!(peppered.contains(",keyid=b2xk$"), "{peppered}");
    person.sign_in_again(&server).await;
    assert_eq!(server.database.password_hash(&person).await, peppered);

    write_secret(&file, format!("{NEW}\n{OLD}\n"));
    let server = server.restart_with(&[&flag]).await;
    person.sign_in_again(&server).await;
    let exchanged = server.database.password_hash(&person).await;
    assert!(exchanged.contains(",keyid=bmV3$"), "{exchanged}");

    write_secret(&file, OLD);
    let server = server.restart_with(&[&flag]).await;
    for password in [PASSWORD, OTHER_PASSWORD] {
        let unknown = server
            .client()
            .await
            .authenticate(credentials(&person.phone_number, password))
            .await;
        assert_refused(unknown, Code::Internal, "INTERNAL");
    }
    assert_eq!(server.database.password_hash(&person).await, exchanged);
}

/// All output of a server with peppers, of help and of errors: none contains the secrets.
#[tokio::test]
async fn a_pepper_is_shown_nowhere() {
    let place = Place::new().await;
    let dotenv = place.path().join(".env");
    write_secret(&dotenv, format!("PHONE_IDENTITY_PEPPERS='{OLD}'\n"));
    let flags = ["--log-level=trace"];
    let server = ServerProcess::start(&place, &flags).await;
    let mut client = connect(server.address).await;
    client
        .register(registration("+998901234567", PASSWORD))
        .await
        .unwrap();
    server.terminate();
    let (_, mut shown) = server.ended().await;
    assert!(shown.contains(r#""message":"hashing","engine":"#), "{shown}");

    write_secret(&dotenv, format!("PHONE_IDENTITY_PEPPERS='{NEW}'\n"));
    let server = ServerProcess::start(&place, &flags).await;
    let mut client = connect(server.address).await;
    let unknown = client.authenticate(credentials("+998901234567", PASSWORD)).await;
    assert_refused(unknown, Code::Internal, "INTERNAL");
    server.terminate();
    let log = server.ended().await.1;
    assert!(
        log.contains(r#"key id \"old\", which is not in PHONE_IDENTITY_PEPPERS"#),
        "{log}"
    );
    shown.push_str(&log);

    let secret = OLD.split_once(':').unwrap().1;
    fs::remove_file(&dotenv).unwrap();
    for (arguments, peppers, expected) in [
        ("--help", OLD.to_owned(), "--peppers-file"),
        ("--nonsense", OLD.to_owned(), "--nonsense"),
        (
            "serve",
            secret.to_owned(),
            "PHONE_IDENTITY_PEPPERS: entry 1 is not",
        ),
        ("serve", format!("k1:{secret}!"), "entry 1 is not base64"),
        (
            "serve",
            format!("{OLD},k2:{}", &secret[..8]),
            "entry 2 does not have 16",
        ),
        ("--peppers-file=there", OLD.to_owned(), "are both given"),
    ] {
        let output = place
            .command()
            .args(["--listen=127.0.0.1:0", arguments])
            .env("PHONE_IDENTITY_PEPPERS", peppers)
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains(expected), "{expected}: {said}");
        shown.push_str(&said);
    }
    for secret in [OLD, NEW].map(|pepper| pepper.split_once(':').unwrap().1) {
        assert!(!shown.contains(&secret[..8]));
    }
    assert!(!shown.contains("one pepper that nobody sees"));
}
