//! Unreachable providers: the log has the reason for the operator, and a private certificate authority is a setting.

use std::fs;
use std::net::TcpListener as StdListener;

use phone_identity::proto::v1::CodePurpose;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::providers::{SECRET, TAKEN, secret, send, start, twilio, webhook};
use super::sending::{left, outcomes};
use crate::support::binary::ServerProcess;
use crate::support::certificates::Authority;
use crate::support::codes::{CEILING, flag_of_keys, wanted};
use crate::support::place::Place;
use crate::support::stub::{Answer, Stub};
use crate::support::{PASSWORD, channel, connect, registration};

/// A file with the certificate of an authority.
fn ca_file(authority: &Authority) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), &authority.pem).unwrap();
    file
}

/// A port with nothing behind it.
fn unused_port() -> u16 {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Sends a code through a gateway at this URL. Returns the lines of the log about it.
async fn problem_of(url: &str, more: &[String]) -> String {
    let place = Place::new().await;
    let key = secret(SECRET);
    let mut flags = webhook(url, &key);
    flags.extend([
        flag_of_keys(),
        "--sms-providers=webhook".to_owned(),
        "--sms-timeout=10s".to_owned(),
    ]);
    flags.extend(CEILING.map(str::to_owned));
    flags.extend(more.iter().cloned());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = ServerProcess::start(&place, &flags).await;
    let number = "+998901234567";
    let mut client = connect(server.address).await;
    client.register(registration(number, PASSWORD)).await.unwrap();
    let channel = channel(server.address).await;
    let mut codes =
        phone_identity::proto::v1::phone_verification_client::PhoneVerificationClient::new(channel);
    codes
        .send_code(wanted(CodePurpose::SignIn, number))
        .await
        .unwrap();
    server.has_logged("message not taken", 1).await;
    server.terminate();
    let (_, log) = server.ended().await;
    assert!(!log.contains(number), "{log}");
    let line = log
        .lines()
        .find(|line| line.contains("message not taken"))
        .unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line["error"].as_str().unwrap().to_owned()
}

/// A server that returns these bytes for every request.
async fn answering(bytes: &'static [u8]) -> (u16, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let _ = socket.read(&mut buffer).await;
            let _ = socket.write_all(bytes).await;
            let _ = socket.shutdown().await;
            // Until the client has read it: a close with unread bytes would reset the connection.
            while socket.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
        }
    });
    (port, AbortOnDropHandle::new(serving))
}

#[tokio::test]
async fn the_log_tells_why_a_provider_is_not_reached() {
    let authority = Authority::new();
    let private = Stub::start_tls(TAKEN, authority.sign(&["localhost"]).acceptor()).await;
    let other = Stub::start_tls(TAKEN, authority.sign(&["other.internal"]).acceptor()).await;
    let trusted = ca_file(&authority);
    let trusted = [format!("--sms-ca={}", trusted.path().display())];
    let silent = Stub::start(&[Answer::Nothing]).await;
    let (plain, _plain) = answering(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
    // The alert of a TLS server, RFC 8446 section 6: a record of version 1.2 with a fatal decode_error.
    let (tls, _tls) = answering(&[21, 3, 3, 0, 2, 2, 50]).await;
    let unresolvable = format!("http://{}.invalid", "x".repeat(64));
    let localhost = |stub: &Stub| format!("https://localhost:{}", stub.address.port());
    let cases = [
        (unresolvable, &[][..], "its host name cannot be resolved"),
        (
            format!("http://127.0.0.1:{}", unused_port()),
            &[],
            "the connection was refused",
        ),
        (
            format!("https://127.0.0.1:{}", unused_port()),
            &[],
            "the connection was refused",
        ),
        (
            localhost(&private),
            &[],
            "its certificate has an unknown issuer: add a private authority to --sms-ca",
        ),
        (
            localhost(&other),
            &trusted,
            "its certificate is for another host name",
        ),
        (
            format!("https://127.0.0.1:{plain}"),
            &[],
            "it does not speak TLS: its URL may need http://",
        ),
        (
            format!("http://127.0.0.1:{tls}"),
            &[],
            "its response is not HTTP: its URL may need https://",
        ),
        (silent.url(), &[], "it closed the connection without a response"),
    ];
    for (url, flags, expected) in cases {
        let problem = problem_of(&url, flags).await;
        assert_eq!(problem, format!("unreachable: {expected}"), "{url}");
    }
}

#[tokio::test]
async fn a_gateway_of_a_private_authority_is_reached_with_the_setting() {
    let authority = Authority::new();
    let stub = Stub::start_tls(TAKEN, authority.sign(&["localhost"]).acceptor()).await;
    let (key, trusted) = (secret(SECRET), ca_file(&authority));
    let mut flags = webhook(&format!("https://localhost:{}", stub.address.port()), &key);
    flags.push(format!("--sms-ca={}", trusted.path().display()));
    let server = start("webhook", &[flags]).await;
    let person = server.person().await;
    let challenge = send(&server, &person).await;
    left(&server, 0).await;
    assert_eq!(outcomes(&server).await, [("done".to_owned(), None)]);
    assert!(stub.requests()[0].contains(&challenge.code));
}

#[tokio::test]
async fn a_file_of_authorities_that_cannot_be_used_is_one_clear_line() {
    let place = Place::new().await;
    let (key, keys) = (secret(SECRET), flag_of_keys());
    let mut flags = webhook("https://localhost", &key);
    flags.extend([keys, "--sms-providers=webhook".to_owned()]);
    flags.extend(CEILING.map(str::to_owned));
    let not_pem = secret("no certificate");
    let broken = secret("-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----");
    for (file, expected) in [
        ("missing", "the file of --sms-ca cannot be read"),
        (
            not_pem.path().to_str().unwrap(),
            "the file of --sms-ca is not PEM, or has no certificate or an invalid one",
        ),
        (
            broken.path().to_str().unwrap(),
            "the file of --sms-ca is not PEM, or has no certificate or an invalid one",
        ),
    ] {
        let ca = format!("--sms-ca={file}");
        let mut arguments = vec!["serve", "--listen=127.0.0.1:0", &ca];
        arguments.extend(flags.iter().map(String::as_str));
        let output = place.run(&arguments, "").await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains(expected) && said.lines().count() == 1 && !said.contains("hunter2"),
            "{file}: {said}"
        );
    }
}

/// Twilio's description lists the statuses of a message; three of them say that it will not be delivered.
#[tokio::test]
async fn a_success_that_reports_a_failed_message_is_a_refusal() {
    let description = include_str!("../../data/twilio_messages_openapi.json");
    let description: serde_json::Value = serde_json::from_str(description).unwrap();
    let statuses = &description["components"]["schemas"]["message_enum_status"]["enum"];
    let statuses: Vec<&str> = statuses
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    assert_eq!(statuses.len(), 13);
    let failed = ["failed", "undelivered", "canceled"];
    assert!(failed.iter().all(|status| statuses.contains(status)));
    let body = |status: &str| format!(r#"{{"sid":"SM1","status":"{status}","error_code":null,"body":"x"}}"#);
    let mut bodies: Vec<String> = statuses.iter().map(|status| body(status)).collect();
    bodies.extend([
        r#"{"sid":"SM1","status":"failed","error_code":30007}"#.to_owned(),
        // An unknown or unreadable body does not change the meaning of the HTTP status.
        body("on_its_way"),
        r#"{"status":201}"#.to_owned(),
        r#"{"status":"failed""#.to_owned(),
        r#"["failed"]"#.to_owned(),
        String::new(),
    ]);
    let answers: Vec<Answer> = bodies
        .iter()
        .map(|body| Answer::Status(201, body.clone().leak()))
        .collect();
    let stub = Stub::start(answers.leak()).await;
    let token = secret("the auth token");
    let mut flags = twilio(&stub.url(), "Shop", &token);
    flags.extend(["number", "prefix", "address"].map(|limit| format!("--sms-limit-{limit}=none")));
    let server = start("twilio", &[flags]).await;
    let mut refusals = 0;
    for (count, body) in bodies.iter().enumerate() {
        let person = server.person().await;
        send(&server, &person).await;
        left(&server, 0).await;
        assert_eq!(stub.requests().len(), count + 1, "{body}");
        refusals += usize::from(
            failed
                .iter()
                .any(|status| body.contains(&format!("\"status\":\"{status}\","))),
        );
        let outcomes = outcomes(&server).await;
        let refused = ("refused".to_owned(), Some("SMS_NOT_DELIVERED".to_owned()));
        let refused = outcomes.iter().filter(|outcome| **outcome == refused).count();
        assert_eq!((outcomes.len(), refused), (count + 1, refusals), "{body}");
    }
    assert_eq!(refusals, 4);
}

/// A missing body does not change a success: sending the message again would cost money.
#[tokio::test]
async fn a_success_without_its_body_is_a_success() {
    let stub = Stub::start(&[Answer::Stalled(201)]).await;
    let token = secret("the auth token");
    let server = start("twilio", &[twilio(&stub.url(), "Shop", &token)]).await;
    let person = server.person().await;
    send(&server, &person).await;
    left(&server, 0).await;
    assert_eq!(outcomes(&server).await, [("done".to_owned(), None)]);
    assert_eq!(stub.requests().len(), 1);
}
