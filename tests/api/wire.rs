//! What is below the RPCs: bytes that are no message, sizes, deadlines, metadata, health and reflection.

use std::time::Duration;

use http::uri::PathAndQuery;
use phone_identity::proto::v1;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::refusal::{assert_refused, refusal};
use crate::support::{
    OTHER_PASSWORD, PASSWORD, TestServer, UNTHROTTLED, channel, credentials, registration, validation,
};

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
async fn a_deadline_that_passes_is_said_in_our_words() {
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

/// As gRPC's compression specification says: UNIMPLEMENTED, and which encodings are accepted.
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
        // Of no encoding.
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

#[tokio::test]
async fn metadata_that_is_not_a_bearer_is_no_session() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    let token = &person.token;
    for value in [
        token.clone(),
        format!("Basic {token}"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {}", "x".repeat(10 * 1024)),
        format!("Bearer{token}"),
    ] {
        let mut request = Request::new(v1::ListSessionsRequest {});
        request
            .metadata_mut()
            .insert("authorization", value.parse().unwrap());
        assert_refused(
            client.list_sessions(request).await,
            Code::Unauthenticated,
            "SESSION_INVALID",
        );
    }
    // Bytes that are neither ASCII nor UTF-8, in every value that is read.
    let mut headers = http::HeaderMap::new();
    for name in ["authorization", "accept-language", "x-request-id"] {
        headers.insert(name, http::HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap());
    }
    let metadata = MetadataMap::from_headers(headers);
    let request = Request::from_parts(metadata, tonic::Extensions::default(), v1::ListSessionsRequest {});
    assert_refused(
        client.list_sessions(request).await,
        Code::Unauthenticated,
        "SESSION_INVALID",
    );
    // The scheme is read in any case.
    let mut request = Request::new(v1::ListSessionsRequest {});
    request
        .metadata_mut()
        .insert("authorization", format!("bEARER {token}").parse().unwrap());
    client.list_sessions(request).await.unwrap();
}

#[tokio::test]
async fn errors_speak_the_language_of_the_caller() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for (accepted, language, text) in [
        (None, "en", "The phone number or the password is wrong."),
        (Some("uz"), "uz", "Telefon raqami yoki parol notoʻgʻri."),
        (
            Some("ru-RU, en;q=0.5"),
            "ru",
            "Неверный номер телефона или пароль.",
        ),
        (Some("fr, tr;q=0.3"), "tr", "Telefon numarası veya parola yanlış."),
        (Some("fr"), "en", "The phone number or the password is wrong."),
    ] {
        let mut request = Request::new(credentials("+998901234567", PASSWORD));
        if let Some(accepted) = accepted {
            request
                .metadata_mut()
                .insert("accept-language", accepted.parse().unwrap());
        }
        let refusal = refusal(&client.authenticate(request).await.unwrap_err());
        assert_eq!(refusal.localized, (language.to_owned(), text.to_owned()));
    }
}

#[tokio::test]
async fn answers_have_a_request_id_and_the_callers_is_kept() {
    let server = TestServer::start().await;
    let person = server.person().await;
    let mut client = server.client().await;
    let id_of = |metadata: &MetadataMap| Some(metadata.get("x-request-id")?.to_str().unwrap().to_owned());
    let named = |token: &str| {
        let mut request = Request::new(validation(token));
        let id = "order-17".parse().unwrap();
        request.metadata_mut().insert("x-request-id", id);
        request
    };
    let listed = client
        .list_sessions(person.asks(v1::ListSessionsRequest {}))
        .await;
    let made = id_of(listed.unwrap().metadata()).unwrap();
    assert!(uuid::Uuid::parse_str(&made).is_ok(), "{made}");
    // A check that goes well has no line in the log that an id could lead to.
    let good = client.validate_session(validation(&person.token)).await.unwrap();
    assert_eq!(id_of(good.metadata()), None);
    let good = client.validate_session(named(&person.token)).await.unwrap();
    assert_eq!(id_of(good.metadata()).unwrap(), "order-17");
    let bad = client.validate_session(named("bad")).await.unwrap_err();
    assert_eq!(id_of(bad.metadata()).unwrap(), "order-17");
    let bad = client.validate_session(validation("bad")).await.unwrap_err();
    assert!(uuid::Uuid::parse_str(&id_of(bad.metadata()).unwrap()).is_ok());
}

/// An id of the caller is logged and stored, unless it may have a secret or a phone number in it.
#[tokio::test]
async fn a_request_id_that_may_have_a_secret_in_it_is_replaced() {
    let server = TestServer::start_with(&UNTHROTTLED).await;
    let person = server.person().await;
    let mut client = server.client().await;
    let device = "pdv_00000000000000000000017n42DGM5Tflk9n8mt7Fhc742FZm0";
    for (given, is_kept) in [
        ("orders/eu:42+retry=1", true),
        ("550e8400-e29b-41d4-a716-446655440000", true),
        ("0af7651916cd43dd8448eb211c80319c", true),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", true),
        (person.token.as_str(), false),
        (device, false),
        (&device.to_uppercase(), false),
        ("x:pis_1", false),
        (person.phone_number.as_str(), false),
        (&format!("user={}", &person.phone_number[1..]), false),
        ("tel:+998-90-123-45-67", false),
        ("two words", false),
        (&"x".repeat(65), false),
    ] {
        let mut request = Request::new(credentials(&person.phone_number, OTHER_PASSWORD));
        request
            .metadata_mut()
            .insert("x-request-id", given.parse().unwrap());
        let refused = client.authenticate(request).await.unwrap_err();
        let answered = refused.metadata().get("x-request-id").unwrap().to_str().unwrap();
        assert_eq!(answered == given, is_kept, "{given}: {answered}");
        assert!(is_kept || uuid::Uuid::parse_str(answered).is_ok(), "{answered}");
        let stored = format!("audit_events WHERE request_id = '{answered}'");
        assert_eq!(server.database.count(&stored).await, 1);
        let stored = format!("audit_events WHERE request_id = '{given}'");
        assert_eq!(
            server.database.count(&stored).await,
            i64::from(is_kept),
            "{given}"
        );
    }
}

#[tokio::test]
async fn health_is_serving_under_every_name() {
    let server = TestServer::start().await;
    let mut client = HealthClient::new(channel(server.address).await);
    for service in [
        "",
        "phone_identity.v1.PhoneIdentity",
        "phone_identity.v1.PhoneIdentityAdmin",
        "liveness",
        "readiness",
    ] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let status = client.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
    let unknown = client
        .check(HealthCheckRequest {
            service: "other".to_owned(),
        })
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

/// The protocol: SERVICE_UNKNOWN, on a stream that stays open.
#[tokio::test]
async fn a_watch_of_an_unknown_service_stays_open() {
    let server = TestServer::start().await;
    let mut client = HealthClient::new(channel(server.address).await);
    let request = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut open = Vec::new();
    for service in ["other", "phone_identity.v1", "Liveness", " ", &"x".repeat(4000)] {
        let mut watch = client.watch(request(service)).await.unwrap().into_inner();
        let status = watch.message().await.unwrap().unwrap().status();
        assert_eq!(status, ServingStatus::ServiceUnknown, "{service:?}");
        open.push(watch);
    }
    // A round trip on the same connection, after which an end of the streams would have come.
    client.check(request("readiness")).await.unwrap();
    for watch in &mut open {
        let silent = tokio::time::timeout(Duration::from_millis(1), watch.message()).await;
        assert!(silent.is_err(), "{silent:?}");
    }
    // A known one is told as before.
    let mut known = client.watch(request("liveness")).await.unwrap().into_inner();
    let status = known.message().await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::Serving);
}

#[tokio::test]
async fn reflection_lists_the_services_and_explains_errors() {
    let server = TestServer::start().await;
    let mut client = ServerReflectionClient::new(channel(server.address).await);
    let ask = |request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let questions = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(
            "google.rpc.ErrorInfo".to_owned(),
        )),
    ];
    let mut answers = client
        .server_reflection_info(futures_stream(questions))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"phone_identity.v1.PhoneIdentity"), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
    let file = answers.message().await.unwrap().unwrap().message_response;
    assert!(
        matches!(file, Some(MessageResponse::FileDescriptorResponse(_))),
        "{file:?}"
    );
}

fn futures_stream<T: Send + 'static>(items: Vec<T>) -> impl tokio_stream::Stream<Item = T> + Send {
    tokio_stream::iter(items)
}
