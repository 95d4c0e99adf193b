//! `phone-identity healthcheck`, as the HEALTHCHECK of an image runs it.

use std::net::TcpListener;
use std::process::Output;
use std::time::{Duration, Instant};

use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use crate::support::binary::ServerProcess;
use crate::support::place::Place;

/// The one line that it fails with, by exit code 1.
fn reason(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!((stderr.lines().count(), output.stdout.len()), (1, 0), "{stderr}");
    stderr
}

#[tokio::test]
async fn a_server_that_serves_is_healthy() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[]).await;
    // Until the database has answered, it waits in line.
    let address = format!("--address={}", server.address);
    let listen = format!("--listen=0.0.0.0:{}", server.address.port());
    for arguments in [
        vec![address.as_str()],
        vec![&address, "--service=liveness"],
        vec![&address, "--service=readiness"],
        vec![&address, "--service", "phone_identity.v1.PhoneIdentity"],
        // As the image has it: the same settings as the server.
        vec![&listen],
    ] {
        let mut all = vec!["healthcheck", "--timeout=20s"];
        all.extend(arguments);
        let output = place.run(&all, "").await;
        assert!(output.status.success(), "{all:?}: {output:?}");
        assert_eq!(output.stdout, b"SERVING\n");
    }
    let output = place
        .run(&["healthcheck", &address, "--service=unknown"], "")
        .await;
    assert!(reason(&output).contains("NotFound"), "{output:?}");
    // One that speaks no TLS.
    let output = place.run(&["healthcheck", &address, "--tls"], "").await;
    assert!(reason(&output).contains("no connection"), "{output:?}");
}

#[tokio::test]
async fn an_absent_server_and_a_silent_one_are_failures_within_the_timeout() {
    let place = Place::new().await;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("--address={}", silent.local_addr().unwrap());
    let begun = Instant::now();
    let output = place.run(&["healthcheck", &address, "--timeout=300ms"], "").await;
    assert!(reason(&output).contains("no answer in time"), "{output:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    drop(silent);
    let output = place.run(&["healthcheck", &address], "").await;
    assert!(reason(&output).contains("no connection"), "{output:?}");
}

#[tokio::test]
async fn a_bad_argument_is_one_clear_line() {
    let place = Place::new().await;
    for (arguments, expected) in [
        (vec!["--tls-ca=missing.pem"], "--tls-ca"),
        (vec!["--address=two words"], "two words"),
        (vec!["--timeout=0s"], "must be longer than 0"),
    ] {
        let mut all = vec!["healthcheck"];
        all.extend(arguments);
        let output = place.run(&all, "").await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.contains(expected) && stderr.lines().count() == 1,
            "{stderr}"
        );
    }
}

/// A server with TLS and a self-signed certificate.
#[tokio::test]
async fn by_tls_the_certificate_of_the_server_is_verified() {
    let place = Place::new().await;
    let made = rcgen::generate_simple_self_signed(["identity.test".to_owned()]).unwrap();
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("--address={}", listener.local_addr().unwrap());
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter
        .set_service_status("", tonic_health::ServingStatus::Serving)
        .await;
    let serving = Server::builder()
        .tls_config(ServerTlsConfig::new().identity(identity))
        .unwrap()
        .add_service(health)
        .serve_with_incoming(TcpIncoming::from(listener));
    let _serving = AbortOnDropHandle::new(tokio::spawn(serving));
    let file = place.path().join("ca.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    let ca = format!("--tls-ca={}", file.display());
    let ask = async |arguments: &[&str]| {
        let mut command = place.command();
        command
            .args(["healthcheck", "--timeout=20s", &address])
            .args(arguments);
        crate::support::binary::run(command, "").await
    };
    let trusted = ask(&[&ca, "--tls-domain=identity.test"]).await;
    assert!(trusted.status.success(), "{trusted:?}");
    assert_eq!(trusted.stdout, b"SERVING\n");
    // The certificate has another name or an unknown authority, or there is no TLS.
    for arguments in [
        &[ca.as_str(), "--tls-domain=other.test"][..],
        &[&ca],
        &["--tls", "--tls-domain=identity.test"],
        &[],
    ] {
        reason(&ask(arguments).await);
    }
}
