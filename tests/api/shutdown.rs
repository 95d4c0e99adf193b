//! Shutdown: health changes first, new connections are served for a while, and then all connections get GOAWAY.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use phone_identity::proto::v1::phone_identity_client::PhoneIdentityClient;

use crate::support::binary::ServerProcess;
use crate::support::database::TestDatabase;
use crate::support::place::Place;
use crate::support::raw::{GOAWAY, RawConnection, frames};
use crate::support::{PASSWORD, channel, connect, registration, validation};

const PATIENCE: Duration = Duration::from_secs(30);

/// An open Watch that has returned SERVING.
async fn watch(channel: Channel) -> tonic::Streaming<tonic_health::pb::HealthCheckResponse> {
    let request = HealthCheckRequest {
        service: "readiness".to_owned(),
    };
    let mut health = HealthClient::new(channel)
        .watch(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        health.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    health
}

/// Waits for NOT_SERVING.
async fn not_serving(health: &mut tonic::Streaming<tonic_health::pb::HealthCheckResponse>) {
    let told = timeout(PATIENCE, health.message())
        .await
        .expect("nothing is said");
    assert_eq!(told.unwrap().unwrap().status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn sigterm_says_not_serving_goes_on_accepting_and_then_ends_streams_and_connections() {
    let place = Place::new().await;
    // It would take an hour, but for the second signal.
    let server = ServerProcess::start(&place, &["--shutdown-delay=1h", "--shutdown-timeout=1h"]).await;
    let held = TestDatabase::open(&place).await.hold_writes().await;
    let mut health = watch(channel(server.address).await).await;

    // A stream of reflection with an open request side.
    let (questions, asked) = tokio::sync::mpsc::channel(1);
    let mut reflection = ServerReflectionClient::new(channel(server.address).await);
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    questions.send(question).await.unwrap();
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut answers = reflection
        .server_reflection_info(asked)
        .await
        .unwrap()
        .into_inner();
    answers.message().await.unwrap().unwrap();

    // A call in flight: the response to a later call on the same connection shows that it has arrived.
    let caller = channel(server.address).await;
    let mut client = PhoneIdentityClient::new(caller.clone());
    let mut prober = HealthClient::new(caller);
    let mut call = Box::pin(client.register(registration("+998901234567", PASSWORD)));
    tokio::select! {
        biased;
        outcome = &mut call => panic!("nothing could be written: {outcome:?}"),
        checked = prober.check(HealthCheckRequest::default()) => drop(checked.unwrap()),
    }
    // Clients that know nothing of all this: one does not even begin, and one never answers.
    let silent = RawConnection::connect(server.address).await;
    let deaf = RawConnection::open(server.address).await;

    server.terminate();
    not_serving(&mut health).await;
    // Clients that have not read the health status yet are served, on old and new connections.
    for _ in 0..3 {
        let refused = connect(server.address)
            .await
            .validate_session(validation("bad"))
            .await;
        assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    }

    server.terminate();
    for ended in [
        timeout(PATIENCE, health.message())
            .await
            .expect("Watch goes on")
            .map(drop),
        timeout(PATIENCE, answers.message())
            .await
            .expect("reflection goes on")
            .map(drop),
    ] {
        assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    }
    silent.closed().await;
    let said = frames(&deaf.closed().await);
    assert!(said.iter().any(|(kind, ..)| *kind == GOAWAY), "{said:?}");
    // The port has no listener any more.
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
    held.release().await;
    call.await.unwrap();
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(
        log.contains("without more delay") && !log.contains("did not finish in time"),
        "{log}"
    );
}

#[tokio::test]
async fn the_delay_passes_by_itself() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &["--shutdown-delay=300ms"]).await;
    let mut health = watch(channel(server.address).await).await;
    server.terminate();
    not_serving(&mut health).await;
    let refused = connect(server.address)
        .await
        .validate_session(validation("bad"))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("without more delay"), "{log}");
}

#[tokio::test]
async fn it_ends_while_clients_keep_calling() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &["--shutdown-delay=100ms"]).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = connect(server.address).await;
        callers.spawn(async move {
            let mut answered = 0;
            loop {
                match client.validate_session(validation("bad")).await.unwrap_err() {
                    status if status.code() == Code::Unauthenticated => answered += 1,
                    // No call in flight is interrupted. A client that connects after the end is refused.
                    status => {
                        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                        return answered;
                    }
                }
            }
        });
    }
    let mut health = watch(channel(server.address).await).await;
    server.terminate();
    not_serving(&mut health).await;
    while let Some(answered) = callers.join_next().await {
        assert!(answered.unwrap() > 0);
    }
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("did not finish in time"), "{log}");
}
