//! Probes for liveness and readiness, and how the listener ends.

use std::time::Duration;

use phone_identity::proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{LISTEN, NUMBER, Scraped, until, until_readyz_is};
use crate::support::binary::ServerProcess;
use crate::support::place::Place;
use crate::support::{PASSWORD, connect, credentials, http, registration, with_bearer};

/// A revoked session is not alive, and a call that its caller has left is CANCELLED.
#[tokio::test]
async fn a_process_that_is_stopping_is_not_alive() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[LISTEN, "--cleanup-interval=200ms"]).await;
    let metrics = server.metrics.unwrap();
    let mut client = connect(server.address).await;
    let token = client
        .register(registration(NUMBER, PASSWORD))
        .await
        .unwrap()
        .into_inner()
        .session_token;
    let alive = |count: f64| {
        move |scraped: &Scraped| scraped.values.get("phone_identity_sessions_alive") == Some(&count)
    };
    client.authenticate(credentials(NUMBER, PASSWORD)).await.unwrap();
    until(metrics, alive(2.0)).await;
    let others = v1::RevokeSessionsRequest {
        all_others: true,
        ..Default::default()
    };
    client.revoke_sessions(with_bearer(&token, others)).await.unwrap();
    until(metrics, alive(1.0)).await;
}

#[tokio::test]
async fn probes_agree_with_health_until_the_process_ends() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[LISTEN, "--shutdown-delay=1h"]).await;
    let metrics = server.metrics.unwrap();
    assert_eq!(http::get(metrics, "/livez").await, (200, "ok\n".to_owned()));
    until_readyz_is(metrics, 200).await;
    let checked = place
        .run(&["healthcheck", &format!("--address={}", server.address)], "")
        .await;
    assert!(checked.status.success(), "{checked:?}");

    server.terminate();
    until_readyz_is(metrics, 503).await;
    assert_eq!(http::get(metrics, "/livez").await.0, 200);
    let checked = place
        .run(&["healthcheck", &format!("--address={}", server.address)], "")
        .await;
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    assert_eq!(String::from_utf8(checked.stderr).unwrap(), "error: NOT_SERVING\n");
    server.terminate();
    assert_eq!(server.ended().await.0, Some(0));
}

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[LISTEN]).await;
    let metrics = server.metrics.unwrap();
    assert_eq!(http::get(metrics, "/").await.0, 404);
    assert_eq!(http::get(metrics, "/metrics/../etc/passwd").await.0, 404);
    let (status, ..) = http::ask(metrics, "POST", "/unknown").await;
    assert_eq!(status, 405);
    let (status, head, _) = http::ask(metrics, "POST", "/metrics").await;
    assert_eq!(status, 405);
    assert!(head.contains("allow: GET, HEAD"), "{head}");
    let (status, _, body) = http::ask(metrics, "HEAD", "/livez").await;
    assert_eq!((status, body.as_str()), (200, ""));
    // Neither oversized headers nor bytes that are no HTTP get a response with metrics.
    for bytes in [
        format!("GET /metrics HTTP/1.1\r\nx: {}", "x".repeat(64 * 1024)),
        "PRI *".repeat(9),
    ] {
        let mut stream = TcpStream::connect(metrics).await.unwrap();
        // The other side may have heard enough.
        let _ = stream.write_all(bytes.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer))
            .await
            .expect("the connection stays open");
        assert!(!String::from_utf8_lossy(&answer).contains("phone_identity"));
    }
}

/// Silent clients keep their connections for some seconds. Others wait no longer than that.
#[tokio::test]
async fn silent_clients_block_others_only_for_seconds() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[LISTEN]).await;
    let metrics = server.metrics.unwrap();
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(metrics).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
        silent.push(stream);
    }
    assert_eq!(http::get(metrics, "/livez").await.0, 200);
    // And calls are not concerned at all.
    connect(server.address)
        .await
        .register(registration(NUMBER, PASSWORD))
        .await
        .unwrap();
}
