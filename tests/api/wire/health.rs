//! The standard services: gRPC health checking and server reflection.

use std::time::Duration;

use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::{TestServer, channel};

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
    // A round trip on the same connection. An end of the streams would have arrived before its response.
    client.check(request("readiness")).await.unwrap();
    for watch in &mut open {
        let silent = tokio::time::timeout(Duration::from_millis(1), watch.message()).await;
        assert!(silent.is_err(), "{silent:?}");
    }
    // A watch of a known service works as before.
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
