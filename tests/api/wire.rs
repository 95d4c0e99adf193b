//! The wire below the RPCs: invalid messages, sizes and deadlines.

mod health;
mod metadata;

use std::time::Duration;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::support::refusal::{assert_refused, refusal};
use crate::support::{PASSWORD, TestServer, channel, credentials, registration, validation};

/// A message with bytes where the contract has text.
#[derive(Clone, PartialEq, Message)]
struct Bytes {
    #[prost(bytes = "vec", tag = "1")]
    field: Vec<u8>,
}

/// Calls a path with a message that is not the one of its RPC.
async fn call_raw<M: Message + Default + 'static>(
    channel: Channel,
    path: &'static str,
    message: M,
) -> Result<Response<Bytes>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = ProstCodec::<M, Bytes>::default();
    grpc.unary(Request::new(message), PathAndQuery::from_static(path), codec)
        .await
}

const REGISTER: &str = "/phone_identity.v1.PhoneIdentity/Register";

#[tokio::test]
async fn bytes_that_are_no_message_are_malformed() {
    let server = TestServer::start().await;
    let not_utf8 = call_raw(
        channel(server.address).await,
        REGISTER,
        Bytes {
            field: vec![0xff, 0xfe],
        },
    )
    .await;
    assert_refused(not_utf8, Code::InvalidArgument, "MALFORMED_MESSAGE");
    /// A number where the contract has text.
    #[derive(Clone, PartialEq, Message)]
    struct Number {
        #[prost(uint64, tag = "1")]
        field: u64,
    }
    let wrong_type = call_raw(channel(server.address).await, REGISTER, Number { field: 7 }).await;
    assert_refused(wrong_type, Code::InvalidArgument, "MALFORMED_MESSAGE");
}

#[tokio::test]
async fn a_message_over_64_kib_is_too_large() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for size in [64 * 1024, 1024 * 1024] {
        let outcome = client
            .register(registration("+998901234567", &"x".repeat(size)))
            .await;
        let refusal = refusal(&outcome.unwrap_err());
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
        );
        assert_eq!(refusal.metadata, [("maxBytes".to_owned(), "65536".to_owned())]);
    }
    // The largest that still fits is judged by its content.
    let fits = client
        .register(registration("+998901234567", &"x".repeat(64 * 1024 - 100)))
        .await;
    assert_refused(fits, Code::InvalidArgument, "INVALID_INPUT");
}

#[tokio::test]
async fn an_unknown_rpc_is_not_implemented() {
    let server = TestServer::start().await;
    for path in [
        "/phone_identity.v1.PhoneIdentity/Nothing",
        "/no.such.Service/Register",
    ] {
        let outcome = call_raw(channel(server.address).await, path, Bytes::default()).await;
        assert_refused(outcome, Code::Unimplemented, "NOT_IMPLEMENTED");
    }
}

#[tokio::test]
async fn a_passed_deadline_has_an_error_reason() {
    let server = TestServer::start_with(&["--request-timeout=100ms"]).await;
    let held = server.database.hold_writes().await;
    let refused = server
        .client()
        .await
        .register(registration("+998901234567", PASSWORD))
        .await;
    assert_refused(refused, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    held.release().await;
}

/// Sends a call frame by frame and gives the headers of the answer; tonic's client would end it by itself at the
/// deadline that it sends, and would not send broken frames.
pub(crate) async fn call_by_frames(
    server: &TestServer,
    path: &str,
    timeout: Option<&str>,
    body: &[u8],
) -> http::HeaderMap {
    let timeout = timeout.map(|timeout| ("grpc-timeout", timeout));
    call_with_headers(server, path, timeout.as_slice(), body).await
}

/// The same with these headers besides the ones of each call.
pub(crate) async fn call_with_headers(
    server: &TestServer,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> http::HeaderMap {
    let socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let (requests, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::post(format!("http://{}{path}", server.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut requests = requests.ready().await.unwrap();
    let (response, mut stream) = requests.send_request(request.body(()).unwrap(), false).unwrap();
    stream
        .send_data(prost::bytes::Bytes::copy_from_slice(body), true)
        .unwrap();
    response.await.unwrap().into_parts().0.headers
}

/// A message behind the five bytes that gRPC puts before it.
pub(crate) fn frame(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap();
    [&[0], length.to_be_bytes().as_slice(), &message].concat()
}

#[tokio::test]
async fn the_callers_deadline_is_kept_too() {
    let server = TestServer::start().await;
    let held = server.database.hold_writes().await;
    for timeout in ["200m", "1m", "0n"] {
        let body = frame(&registration("+998901234567", PASSWORD));
        let headers = call_by_frames(&server, REGISTER, Some(timeout), &body).await;
        let status = Status::from_header_map(&headers).unwrap();
        assert_refused(
            Err::<Response<()>, _>(status),
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
        );
    }
    held.release().await;
}

#[tokio::test]
async fn frames_that_are_broken_are_malformed() {
    let server = TestServer::start().await;
    let good = frame(&registration("+998901234567", PASSWORD));
    let unknown_flag = [&[7], &good[1..]].concat();
    for body in [&good[..good.len() - 1], &good[..3], &unknown_flag, &[]] {
        let headers = call_by_frames(&server, REGISTER, None, body).await;
        let status = Status::from_header_map(&headers).unwrap();
        assert_refused(
            Err::<Response<()>, _>(status),
            Code::InvalidArgument,
            "MALFORMED_MESSAGE",
        );
    }
    assert_eq!(server.database.count("users").await, 0);
    let status = Status::from_header_map(&call_by_frames(&server, REGISTER, None, &good).await);
    assert!(status.is_none(), "{status:?}");
}

/// The compression specification of gRPC requires UNIMPLEMENTED and the accepted encodings.
#[tokio::test]
async fn a_compressed_message_is_refused_with_the_encodings_that_are_accepted() {
    const VALIDATE_SESSION: &str = "/phone_identity.v1.PhoneIdentity/ValidateSession";
    let server = TestServer::start().await;
    let mut compressed = frame(&validation("bad"));
    compressed[0] = 1;
    for path in [
        REGISTER,
        VALIDATE_SESSION,
        "/phone_identity.v1.PhoneIdentityAdmin/ListUsers",
        "/phone_identity.v1.PhoneVerification/SendCode",
    ] {
        for encoding in ["gzip", "deflate", "zstd", "snappy", "GZIP", ""] {
            let headers = [("grpc-encoding", encoding)];
            let headers = call_with_headers(&server, path, &headers, &compressed).await;
            assert_eq!(headers["grpc-accept-encoding"], "identity", "{path} {encoding}");
            let status = Status::from_header_map(&headers).unwrap();
            assert_refused(
                Err::<Response<()>, _>(status),
                Code::Unimplemented,
                "COMPRESSION_NOT_SUPPORTED",
            );
        }
        // The message has no encoding.
        let headers = call_with_headers(&server, path, &[], &compressed).await;
        let status = Status::from_header_map(&headers).unwrap();
        assert_refused(
            Err::<Response<()>, _>(status),
            Code::InvalidArgument,
            "MALFORMED_MESSAGE",
        );
    }
    // `identity` is none, and a client that accepts others need not get them.
    let headers = [
        ("grpc-encoding", "identity"),
        ("grpc-accept-encoding", "gzip,identity"),
    ];
    let body = frame(&registration("+998901234567", PASSWORD));
    let headers = call_with_headers(&server, REGISTER, &headers, &body).await;
    assert!(Status::from_header_map(&headers).is_none(), "{headers:?}");
    // An unknown RPC is one, compressed or not.
    let headers = [("grpc-encoding", "gzip")];
    let headers = call_with_headers(&server, "/no.such.Service/Register", &headers, &compressed).await;
    let status = Status::from_header_map(&headers).unwrap();
    assert_refused(
        Err::<Response<()>, _>(status),
        Code::Unimplemented,
        "NOT_IMPLEMENTED",
    );
}

#[tokio::test]
async fn a_database_that_is_busy_for_too_long_is_unavailable() {
    let server = TestServer::start_with(&["--database-acquire-timeout=300ms"]).await;
    let held = server.database.hold_writes().await;
    let status = server
        .client()
        .await
        .register(registration("+998901234567", PASSWORD))
        .await
        .unwrap_err();
    let refusal = refusal(&status);
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::Unavailable, "DATABASE_UNAVAILABLE")
    );
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
    held.release().await;
}

#[tokio::test]
async fn a_fault_tells_nothing() {
    let server = TestServer::start().await;
    let person = server.person().await;
    server
        .database
        .execute("UPDATE users SET password_hash = 'broken' WHERE id = ?", &person)
        .await;
    let status = server
        .client()
        .await
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await
        .unwrap_err();
    let refusal = refusal(&status);
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::Internal, "INTERNAL")
    );
    assert_eq!(refusal.message, "internal error");
    assert!(!format!("{status:?}").contains("hash"), "{status:?}");
}
