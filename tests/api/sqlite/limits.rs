//! The bounds on connections, each reached by somebody who means no good or is not well.

use std::time::Duration;

use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::raw::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, OPENING, PING, RST_STREAM,
    RawConnection, call_fields, field, frame, frames,
};
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{PASSWORD, TestServer, channel, next_phone_number, registration, validation};
use crate::wire::frame as message_frame;

const REGISTER: &str = "/phone_identity.v1.PhoneIdentity/Register";
const VALIDATE_SESSION: &str = "/phone_identity.v1.PhoneIdentity/ValidateSession";
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection of the h2 crate: a client that answers pings, and does what a test says.
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
async fn what_is_not_http2_is_closed_at_once() {
    let server = TestServer::start_with(&["--handshake-timeout=1h"]).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        // What TLS begins with.
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
    // One that sends its headers byte by byte says nothing else, and cannot.
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
    // It is told to go, and why, and cut off when it does not.
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

/// What a client has sent before it knew that the server is done is no reason for a reset, which would take answers
/// from it that it has not read.
#[tokio::test]
async fn a_client_that_is_told_to_go_may_end_what_it_was_saying() {
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
    // But not for ever.
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
async fn connections_above_the_bound_are_closed_at_once() {
    let server = TestServer::start_with(&["--max-connections=2"]).await;
    let mut first = server.client().await;
    let second = server.client().await;
    RawConnection::connect(server.address).await.closed().await;
    // Those that are there are served, and a place that is free is given to the next.
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
    // Nobody gives way while there is room; and one with an open call never does.
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
async fn headers_above_the_bound_are_refused_and_endless_ones_end_the_connection() {
    let server = TestServer::start_with(&["--max-header-bytes=4096"]).await;
    let mut client = server.client().await;
    let mut request = tonic::Request::new(validation("bad"));
    let long = "x".repeat(5000);
    request.metadata_mut().insert("x-long", long.parse().unwrap());
    let refused = refusal(&client.validate_session(request).await.unwrap_err());
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::ResourceExhausted, "METADATA_TOO_LARGE")
    );
    assert_eq!(refused.metadata, [("maxBytes".to_owned(), "4096".to_owned())]);
    // Above four times the limit h2 answers by itself, with HTTP 431.
    let mut request = tonic::Request::new(validation("bad"));
    request
        .metadata_mut()
        .insert("x-long", "x".repeat(20_000).parse().unwrap());
    let status = client.validate_session(request).await.unwrap_err();
    assert_ne!(status.code(), Code::Unauthenticated, "{status:?}");
    // The connection is as good as before.
    assert_refused(
        client.validate_session(validation("bad")).await,
        Code::Unauthenticated,
        "SESSION_INVALID",
    );
    let mut connection = RawConnection::open(server.address).await;
    let block = [call_fields(REGISTER), field("x-long", &"x".repeat(200))].concat();
    let mut sent = connection.send(&frame(HEADERS, 0, 1, &block)).await;
    let mut count = 0;
    while sent.is_ok() {
        count += 1;
        assert!(count < 100_000, "headers have no end");
        sent = connection
            .send(&frame(CONTINUATION, 0, 1, &field("x", "y")))
            .await;
    }
}

/// Whatever the metadata consists of, and whatever is called, one more byte than the limit is refused.
#[tokio::test]
async fn metadata_above_the_limit_is_refused_with_a_reason() {
    let server = TestServer::start().await;
    // What each field counts: its name, its value and 32. `content-type: application/grpc` and `te: trailers` are there
    // anyway.
    let others = (12 + 16 + 32) + (2 + 8 + 32);
    let left = 16 * 1024 - others;
    let one = |length: usize| vec![("x-long".to_owned(), "x".repeat(length - 6 - 32))];
    let many = |count: usize| vec![("x-name".to_owned(), "value".to_owned()); count];
    let body = message_frame(&validation("bad"));
    for (headers, is_too_large) in [
        (one(left), false),
        (one(left + 1), true),
        (one(40_000), true),
        (many(left / 43), false),
        (many(left / 43 + 1), true),
    ] {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        for path in [
            REGISTER,
            VALIDATE_SESSION,
            "/grpc.health.v1.Health/Check",
            "/no.such.Service/Call",
        ] {
            let answer = crate::wire::call_with_headers(&server, path, &headers, &body).await;
            let reason = Status::from_header_map(&answer).map(|status| status.message().to_owned());
            let is_refused = reason.as_deref() == Some("metadata too large");
            assert_eq!(
                is_refused,
                is_too_large,
                "{path}: {} fields: {reason:?}",
                headers.len()
            );
            if is_too_large {
                let refusal = refusal(&status_of(&answer));
                assert_eq!(
                    (refusal.code, refusal.reason.as_str()),
                    (Code::ResourceExhausted, "METADATA_TOO_LARGE")
                );
                assert_eq!(refusal.metadata, [("maxBytes".to_owned(), "16384".to_owned())]);
            }
        }
    }
    // A path is no metadata, and has the same limit.
    for (length, reason) in [
        (16 * 1024, "NOT_IMPLEMENTED"),
        (16 * 1024 + 1, "METADATA_TOO_LARGE"),
    ] {
        let path = format!("/no.such.Service/{}", "x".repeat(length - 17));
        let answer = crate::wire::call_with_headers(&server, &path, &[], &body).await;
        assert_eq!(refusal(&status_of(&answer)).reason, reason, "{length}");
    }
}

#[tokio::test]
async fn a_message_size_above_the_setting_is_refused() {
    let server = TestServer::start_with(&["--max-message-bytes=8192"]).await;
    for path in [REGISTER, VALIDATE_SESSION] {
        let body = message_frame(&registration("+998901234567", &"x".repeat(8192)));
        let headers = crate::wire::call_by_frames(&server, path, None, &body).await;
        let refusal = refusal(&status_of(&headers));
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
        );
        assert_eq!(refusal.metadata, [("maxBytes".to_owned(), "8192".to_owned())]);
    }
}

/// Begins so many calls of Register that wait for the database, and gives their answers in the order in which they
/// come.
async fn held_calls(
    server: &TestServer,
    count: usize,
) -> (
    tokio::task::JoinSet<HeaderMap>,
    h2::client::SendRequest<prost::bytes::Bytes>,
) {
    let (requests, _connection) = h2_client(server, &h2::client::Builder::new()).await;
    let mut requests = requests.ready().await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..count {
        requests = requests.ready().await.unwrap();
        let (response, mut stream) = requests.send_request(call(REGISTER), false).unwrap();
        let bytes = message_frame(&registration(&next_phone_number(), PASSWORD));
        stream.send_data(bytes.into(), true).unwrap();
        calls.spawn(async move { response.await.unwrap().headers().clone() });
    }
    (calls, requests)
}

#[tokio::test]
async fn calls_above_the_bound_are_refused_and_every_connection_has_some_of_its_own() {
    let server = TestServer::start_with(&["--max-concurrent-calls=2"]).await;
    let person = server.person().await;
    let held = server.database.hold_writes().await;
    let (mut greedy, greedy_connection) = held_calls(&server, 13).await;
    for _ in 0..3 {
        let refusal = refusal(&status_of(&greedy.join_next().await.unwrap().unwrap()));
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::Unavailable, "OVERLOADED")
        );
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
    }
    let (mut modest, modest_connection) = held_calls(&server, 9).await;
    let refusal = refusal(&status_of(&modest.join_next().await.unwrap().unwrap()));
    assert_eq!(refusal.reason, "OVERLOADED");
    // Nobody else notices.
    let checked = server
        .client()
        .await
        .validate_session(validation(&person.token))
        .await;
    checked.unwrap();
    held.release().await;
    let mut finished = 0;
    for calls in [&mut greedy, &mut modest] {
        while let Some(headers) = calls.join_next().await {
            assert!(Status::from_header_map(&headers.unwrap()).is_none());
            finished += 1;
        }
    }
    assert_eq!(finished, 18);
    drop((greedy_connection, modest_connection));
}

#[tokio::test]
async fn large_messages_take_of_what_all_connections_share_before_they_come() {
    let server = TestServer::start_with(&["--receive-memory-mib=8", "--request-timeout=1h"]).await;
    let (requests, connection) = h2_client(&server, &h2::client::Builder::new()).await;
    let mut requests = requests.ready().await.unwrap();
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        requests = requests.ready().await.unwrap();
        let (response, mut stream) = requests.send_request(call(REGISTER), false).unwrap();
        // A message of 64 KiB, of which nothing comes.
        let announced = prost::bytes::Bytes::from_static(&[0, 0, 1, 0, 0]);
        stream.send_data(announced, false).unwrap();
        answers.spawn(async move {
            let answer = response.await;
            drop(stream);
            answer.map(|answer| answer.headers().clone())
        });
    }
    // 8 MiB are 136 times 60 KiB: of each message 4 KiB are not counted.
    for _ in 136..200 {
        let answer = timeout(PATIENCE, answers.join_next())
            .await
            .expect("all were taken");
        let refusal = refusal(&status_of(&answer.unwrap().unwrap().unwrap()));
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::Unavailable, "OVERLOADED")
        );
    }
    // Small ones are taken all the while, and large ones again when there is room.
    let mut client = server.client().await;
    assert_refused(
        client.validate_session(validation("bad")).await,
        Code::Unauthenticated,
        "SESSION_INVALID",
    );
    let large = || registration("+998901234567", &"x".repeat(60_000));
    assert_refused(client.register(large()).await, Code::Unavailable, "OVERLOADED");
    connection.abort();
    drop(requests);
    let taken = async {
        while client.register(large()).await.unwrap_err().code() != Code::InvalidArgument {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, taken)
        .await
        .expect("what was taken is not given back");
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
    // Calls are counted by themselves.
    HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .unwrap();
}
