use std::future::ready;

use tokio::io::duplex;
use tokio_stream::wrappers::ReceiverStream;
use tower::service_fn;

use super::connection::jittered;
use super::*;

#[test]
fn jitter_is_at_most_a_tenth() {
    let age = Duration::from_secs(1000);
    let ages: Vec<_> = (0..100).map(|_| jittered(age)).collect();
    assert!(
        ages.iter().all(|age| (900..=1100).contains(&age.as_secs())),
        "{ages:?}"
    );
    assert!(ages.iter().any(|age| *age != ages[0]), "{ages:?}");
}

/// The clock is paused, so no timeout ends the connection.
#[tokio::test(start_paused = true)]
async fn clients_get_a_goaway_after_the_listener_is_closed() {
    let minute = Duration::from_secs(60);
    let limits = ServerSettings {
        connections: 10,
        concurrent_streams: 10,
        concurrent_calls: 10,
        header_bytes: 8192,
        message_bytes: 8192,
        receive_bytes: 65_536,
        handshake_timeout: minute,
        keepalive_interval: minute,
        keepalive_timeout: minute,
        idle: minute,
        age: minute,
        age_grace: minute,
        request_timeout: minute,
        default_language: Language::English,
    };
    let shutdown = Shutdown::default();
    let (accept, incoming) = tokio::sync::mpsc::channel(1);
    let service = service_fn(|_: Request<Body>| ready(Ok(Response::new(Body::empty()))));
    let metrics = Arc::new(Metrics::new().unwrap());
    let mut serving = pin!(serve(
        ReceiverStream::new(incoming),
        service,
        limits,
        metrics,
        shutdown.clone()
    ));
    let (ours, theirs) = duplex(65_536);
    accept.send(Ok(ready(Ok(theirs)))).await.unwrap();
    let begun = async {
        let (mut client, connection) = h2::client::handshake(ours).await.unwrap();
        let connection = tokio::spawn(connection);
        let (response, _) = client.send_request(Request::new(()), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        (client, connection)
    };
    let (_client, connection) = tokio::select! {
        () = serving.as_mut() => panic!("the server ended"),
        begun = begun => begun,
    };

    shutdown.graceful.cancel();
    // All tasks run except the one that has the listener.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!accept.is_closed());
    assert!(
        !connection.is_finished(),
        "GOAWAY was sent while the listener was open"
    );

    let ((), closed) = tokio::join!(serving, connection);
    closed.unwrap().unwrap();
    assert!(accept.is_closed());
}
