use std::future::ready;

use tokio::io::duplex;
use tokio_stream::wrappers::ReceiverStream;
use tower::service_fn;

use super::*;

#[test]
fn ages_differ_by_a_tenth_at_most() {
    let age = Duration::from_secs(1000);
    let ages: Vec<_> = (0..100).map(|_| jittered(age)).collect();
    assert!(
        ages.iter().all(|age| (900..=1100).contains(&age.as_secs())),
        "{ages:?}"
    );
    assert!(ages.iter().any(|age| *age != ages[0]), "{ages:?}");
}

/// Time stands still here, so nothing ends by itself.
#[tokio::test(start_paused = true)]
async fn clients_are_told_to_go_when_nobody_can_come_any_more() {
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
    let stop = Stop::default();
    let (accept, incoming) = tokio::sync::mpsc::channel(1);
    let service = service_fn(|_: Request<Body>| ready(Ok(Response::new(Body::empty()))));
    let metrics = Arc::new(Metrics::new().unwrap());
    let mut serving = pin!(serve(
        ReceiverStream::new(incoming),
        service,
        limits,
        metrics,
        stop.clone()
    ));
    let (ours, theirs) = duplex(65_536);
    accept.send(Ok(ready(Ok(theirs)))).await.unwrap();
    let begun = async {
        let (mut client, connection) = h2::client::handshake(ours).await.unwrap();
        let connection = tokio::spawn(connection);
        let (answer, _) = client.send_request(Request::new(()), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        (client, connection)
    };
    let (_client, connection) = tokio::select! {
        () = serving.as_mut() => panic!("it ended"),
        begun = begun => begun,
    };

    stop.orderly.cancel();
    // Every task is run, but not the one that has the listener.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!accept.is_closed());
    assert!(
        !connection.is_finished(),
        "told to go while others can still come"
    );

    let ((), told) = tokio::join!(serving, connection);
    told.unwrap().unwrap();
    assert!(accept.is_closed());
}
