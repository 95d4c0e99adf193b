//! Limits on headers, messages and concurrent calls.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::{PATIENCE, REGISTER, VALIDATE_SESSION, call, h2_client, status_of};
use crate::support::raw::{CONTINUATION, HEADERS, RawConnection, call_fields, field, frame};
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{PASSWORD, TestServer, next_phone_number, registration, validation};
use crate::wire::frame as message_frame;

#[tokio::test]
async fn headers_above_the_limit_are_refused_and_endless_ones_end_the_connection() {
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
    // The connection works as before.
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
    // The size of a field is that of its name, its value, and 32. The request has `content-type: application/grpc` and
    // `te: trailers` anyway.
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

/// Starts this number of Register calls, which wait for the database, and returns their responses in order of arrival.
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
async fn calls_above_the_limit_are_refused_and_every_connection_has_reserved_ones() {
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
    // Other connections are not affected.
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
async fn large_messages_reserve_shared_memory_before_they_arrive() {
    let server = TestServer::start_with(&["--receive-memory-mib=8", "--request-timeout=1h"]).await;
    let (requests, connection) = h2_client(&server, &h2::client::Builder::new()).await;
    let mut requests = requests.ready().await.unwrap();
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        requests = requests.ready().await.unwrap();
        let (response, mut stream) = requests.send_request(call(REGISTER), false).unwrap();
        // The header of a message of 64 KiB, without its content.
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
