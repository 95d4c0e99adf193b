//! Limits on connections. A malicious or faulty client reaches each one.

mod messages;

use std::time::Duration;

use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::raw::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, OPENING, PING, RST_STREAM, RawConnection,
    call_fields, frame, frames,
};
use crate::support::refusal::assert_refused;
use crate::support::{PASSWORD, TestServer, channel, registration, validation};
use crate::wire::frame as message_frame;

const REGISTER: &str = "/phone_identity.v1.PhoneIdentity/Register";
const VALIDATE_SESSION: &str = "/phone_identity.v1.PhoneIdentity/ValidateSession";
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection of the h2 crate: a client that answers pings and otherwise acts as the test does.
async fn h2_client(
    server: &TestServer,
    builder: &h2::client::Builder,
) -> (
    h2::client::SendRequest<prost::bytes::Bytes>,
    tokio::task::JoinHandle<Result<(), h2::Error>>,
) {
    let socket = TcpStream::connect(server.address).await.unwrap();
    let (requests, connection) = builder.handshake(socket).await.unwrap();
    (requests, tokio::spawn(connection))
}

fn call(path: &str) -> Request<()> {
    Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

fn status_of(headers: &HeaderMap) -> Status {
    Status::from_header_map(headers).expect("no status")
}

/// Sends the bytes one by one, again and again, until the server has closed the connection.
async fn drip_until_closed(mut connection: RawConnection, bytes: &[u8], period: Duration) {
    let mut drops = tokio::time::interval(period);
    for byte in bytes.iter().cycle() {
        drops.tick().await;
        if connection.send(&[*byte]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_begin_is_not_waited_for() {
    let server = TestServer::start_with(&["--handshake-timeout=200ms"]).await;
    // Nothing at all; the half of a preface; and a preface without the frame that belongs to it.
    for begun in [0, 12, 24] {
        let mut connection = RawConnection::connect(server.address).await;
        connection.send(&OPENING[..begun]).await.unwrap();
        connection.closed().await;
    }
    // One byte now and then is no beginning either.
    let connection = RawConnection::connect(server.address).await;
    drip_until_closed(connection, OPENING, Duration::from_millis(20)).await;
}

#[tokio::test]
async fn a_connection_without_http2_is_closed_at_once() {
    let server = TestServer::start_with(&["--handshake-timeout=1h"]).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        // The first bytes of TLS.
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        let mut connection = RawConnection::connect(server.address).await;
        connection.send(bytes).await.unwrap();
        connection.closed().await;
    }
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_a_frame_is_closed() {
    let server = TestServer::start_with(&["--keepalive-interval=100ms", "--keepalive-timeout=100ms"]).await;
    let headers = frame(HEADERS, END_HEADERS, 1, &call_fields(VALIDATE_SESSION));
    // In the head of a frame, in its payload, and between two frames of one header block.
    let open_block = frame(HEADERS, 0, 1, &call_fields(VALIDATE_SESSION));
    for begun in [&headers[..5], &headers[..headers.len() - 1], &open_block] {
        let mut connection = RawConnection::open(server.address).await;
        connection.send(begun).await.unwrap();
        connection.closed().await;
    }
    // A client that sends its headers byte by byte sends nothing else, and cannot.
    let connection = RawConnection::open(server.address).await;
    drip_until_closed(connection, &headers, Duration::from_millis(5)).await;
}

#[tokio::test]
async fn a_message_that_comes_too_slowly_is_answered_by_the_deadline() {
    let server = TestServer::start_with(&["--request-timeout=300ms"]).await;
    let (requests, connection) = h2_client(&server, &h2::client::Builder::new()).await;
    let mut requests = requests.ready().await.unwrap();
    for path in [REGISTER, VALIDATE_SESSION] {
        let (response, mut stream) = requests.send_request(call(path), false).unwrap();
        let mut response = Box::pin(response);
        let bytes = message_frame(&registration("+998901234567", PASSWORD));
        let mut drops = tokio::time::interval(Duration::from_millis(30));
        let mut bytes = bytes.iter().cycle();
        let answer = loop {
            tokio::select! {
                answer = &mut response => break answer.unwrap(),
                _ = drops.tick() => {
                    let byte = prost::bytes::Bytes::copy_from_slice(&[*bytes.next().unwrap()]);
                    let _ = stream.send_data(byte, false);
                }
            }
        };
        assert_refused(
            Err::<tonic::Response<()>, _>(status_of(answer.headers())),
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
        );
    }
    drop(requests);
    connection.abort();
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_is_closed() {
    let server = TestServer::start_with(&[
        "--request-timeout=2s",
        "--keepalive-timeout=200ms",
        "--max-connection-age=1h",
    ])
    .await;
    let person = server.person().await;
    // It answers pings, but lets nothing be sent.
    let (requests, connection) = h2_client(&server, h2::client::Builder::new().initial_window_size(0)).await;
    let mut requests = requests.ready().await.unwrap();
    let (response, mut stream) = requests.send_request(call(VALIDATE_SESSION), false).unwrap();
    let bytes = message_frame(&validation(&person.token));
    stream.send_data(bytes.into(), true).unwrap();
    let answer = response.await.unwrap();
    let ended = timeout(PATIENCE, connection).await.expect("it is not closed");
    drop((answer, ended));
}

#[tokio::test]
async fn a_connection_without_a_call_is_closed_and_one_with_a_watch_is_not() {
    let server = TestServer::start_with(&["--max-connection-idle=100ms"]).await;
    let mut watcher = HealthClient::new(channel(server.address).await);
    let mut health = watcher
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    health.message().await.unwrap().unwrap();
    let mut connection = RawConnection::open(server.address).await;
    // It gets GOAWAY with a reason, and is disconnected if it does not close.
    connection.send(&frame(4, 1, 0, &[])).await.unwrap();
    drop(connection);
    let (requests, connection) = h2_client(&server, &h2::client::Builder::new()).await;
    timeout(PATIENCE, connection)
        .await
        .expect("it is not closed")
        .unwrap()
        .expect("not an orderly end");
    assert!(requests.ready().await.is_err());
    // The watch has been open all the time, and for longer than another connection was kept.
    let silent = timeout(Duration::from_millis(1), health.message()).await;
    assert!(silent.is_err(), "{silent:?}");
}

#[tokio::test]
async fn an_idle_client_that_does_not_go_is_cut_off() {
    let server =
        TestServer::start_with(&["--max-connection-idle=100ms", "--max-connection-age-grace=100ms"]).await;
    let sent = RawConnection::open(server.address).await.closed().await;
    let goaways = frames(&sent).into_iter().filter(|(kind, ..)| *kind == GOAWAY);
    assert!(goaways.count() >= 1);
}

/// Frames that a client sent before it received GOAWAY cause no reset, which would discard unread responses.
#[tokio::test]
async fn a_client_that_gets_goaway_may_finish_its_calls() {
    let server = TestServer::start_with(&["--max-connection-age=100ms"]).await;
    let mut connection = RawConnection::open(server.address).await;
    let asked = connection.received(PING).await;
    connection.send(&frame(PING, ACK, 0, &asked)).await.unwrap();
    connection.heard_out().await;
    let headers = frame(HEADERS, END_HEADERS, 1, &call_fields(VALIDATE_SESSION));
    for _ in 0..3 {
        // A reset by one of them would be the error of the next.
        connection.send(&headers).await.unwrap();
    }
    // The server does not wait forever, though.
    drip_until_closed(connection, &headers, Duration::from_millis(20)).await;
}

#[tokio::test]
async fn an_old_connection_ends_and_calls_on_it_finish() {
    let server =
        TestServer::start_with(&["--max-connection-age=300ms", "--max-connection-age-grace=1h"]).await;
    let held = server.database.hold_writes().await;
    let (requests, connection) = h2_client(&server, &h2::client::Builder::new()).await;
    let mut requests = requests.ready().await.unwrap();
    let (response, mut stream) = requests.send_request(call(REGISTER), false).unwrap();
    let bytes = message_frame(&registration("+998901234567", PASSWORD));
    stream.send_data(bytes.into(), true).unwrap();
    // The GOAWAY: no more calls here.
    let closing = async {
        while requests.clone().ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, closing).await.expect("no GOAWAY");
    held.release().await;
    let answer = response.await.unwrap();
    assert!(Status::from_header_map(answer.headers()).is_none(), "{answer:?}");
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data.unwrap().len()).unwrap();
    }
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    drop((requests, body));
    timeout(PATIENCE, connection)
        .await
        .expect("it is not closed")
        .unwrap()
        .expect("not an orderly end");
    // A client that knows HTTP/2 does not notice: its next call goes over a new connection.
    assert_eq!(server.database.count("users").await, 1);
}

#[tokio::test]
async fn streams_of_health_end_with_their_connection() {
    let server = TestServer::start_with(&["--max-connection-age=200ms"]).await;
    for service in ["", "unknown"] {
        let mut watcher = HealthClient::new(channel(server.address).await);
        let service = service.to_owned();
        let watch = watcher.watch(HealthCheckRequest { service }).await;
        let mut health = watch.unwrap().into_inner();
        health.message().await.unwrap().unwrap();
        let ended = timeout(PATIENCE, health.message())
            .await
            .expect("it is not ended");
        assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn connections_above_the_limit_are_closed_at_once() {
    let server = TestServer::start_with(&["--max-connections=2"]).await;
    let mut first = server.client().await;
    let second = server.client().await;
    RawConnection::connect(server.address).await.closed().await;
    // Open connections are served, and the next client gets a free place.
    assert_refused(
        first.validate_session(validation("bad")).await,
        Code::Unauthenticated,
        "SESSION_INVALID",
    );
    drop(second);
    let served = async {
        loop {
            let mut third = RawConnection::open(server.address).await;
            let call = frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &call_fields(VALIDATE_SESSION),
            );
            if third.send(&call).await.is_ok() && third.is_open().await {
                return;
            }
        }
    };
    timeout(PATIENCE, served)
        .await
        .expect("the place is not given away");
}

#[tokio::test]
async fn idle_connections_give_way_when_nearly_all_are_taken() {
    let server = TestServer::start_with(&[
        "--max-connections=10",
        "--max-connection-idle=1h",
        "--max-connection-age-grace=100ms",
        "--handshake-timeout=300ms",
    ])
    .await;
    // No connection is closed while there is room, and none with a call in flight is closed at all.
    let mut watcher = HealthClient::new(channel(server.address).await);
    let mut health = watcher
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    health.message().await.unwrap().unwrap();
    let mut idle = Vec::new();
    for _ in 0..9 {
        idle.push(RawConnection::open(server.address).await);
    }
    for connection in idle {
        connection.closed().await;
    }
    let silent = timeout(Duration::from_millis(1), health.message()).await;
    assert!(silent.is_err(), "{silent:?}");
    server.client().await;
}

#[tokio::test]
async fn a_connection_has_so_many_streams_and_more_are_refused() {
    let server = TestServer::start_with(&["--max-concurrent-streams=3"]).await;
    let mut connection = RawConnection::open(server.address).await;
    for number in 0..5 {
        let headers = frame(HEADERS, END_HEADERS, 2 * number + 1, &call_fields(REGISTER));
        connection.send(&headers).await.unwrap();
    }
    // So that it is closed, and all that was sent before can be read.
    connection
        .send(&frame(DATA, 0, 0, b"no stream has number 0"))
        .await
        .unwrap();
    let sent = connection.closed().await;
    let refused: Vec<_> = frames(&sent)
        .into_iter()
        .filter(|(kind, _, payload)| *kind == RST_STREAM && payload == &[0, 0, 0, 7])
        .map(|(_, stream, _)| stream)
        .collect();
    assert_eq!(refused, [7, 9]);
}

#[tokio::test]
async fn a_connection_has_few_streams_of_health() {
    let server = TestServer::start_with(&["--max-concurrent-calls=0"]).await;
    let channel = channel(server.address).await;
    let mut streams = Vec::new();
    for number in 0..16 {
        // A watch of an unknown service counts, too: it stays open.
        let service = if number % 2 == 0 { "" } else { "unknown" }.to_owned();
        let watch = HealthClient::new(channel.clone())
            .watch(HealthCheckRequest { service })
            .await;
        streams.push(watch.unwrap());
    }
    let more = HealthClient::new(channel.clone())
        .watch(HealthCheckRequest::default())
        .await;
    assert_refused(more, Code::Unavailable, "OVERLOADED");
    // Calls have a limit of their own.
    HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .unwrap();
}
