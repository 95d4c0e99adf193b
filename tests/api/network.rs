//! The network to the database: it fails, and it is not to be trusted. SQLite has none: see scripts/test.sh.

use std::env;
use std::time::Duration;

use tokio::time::{Instant, interval, timeout};
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::metrics::{Scraped, until, until_readyz_is};
use crate::replicas::{PATIENCE, check_until, revoke, sign_in};
use crate::support::binary::ServerProcess;
use crate::support::http;
use crate::support::place::Place;
use crate::support::proxy::Proxy;
use crate::support::refusal::refusal;
use crate::support::{
    PASSWORD, TestServer, channel, connect, credentials, next_phone_number, registration, validation,
};

/// As when a firewall has forgotten the connections, or a machine is gone: TCP would take a quarter of an hour to
/// notice.
#[tokio::test]
async fn connections_that_swallow_everything_are_given_up() {
    let place = Place::new().await;
    let Some(proxy) = Proxy::start(&place).await else {
        eprintln!("NOT RUN: SQLite has no network");
        return;
    };
    let server = TestServer::start_in(
        place,
        &[
            "--database-connections=2",
            "--database-acquire-timeout=500ms",
            "--database-statement-timeout=300ms",
        ],
        Some(&proxy),
    )
    .await;
    let person = server.person().await;
    let mut client = server.client().await;
    client
        .authenticate(credentials(&person.phone_number, PASSWORD))
        .await
        .unwrap();

    proxy.swallow();
    // The two connections, and more calls that wait for them.
    let calls = (0..4).map(|_| {
        let (mut client, request) = (client.clone(), credentials(&person.phone_number, PASSWORD));
        tokio::spawn(async move { timeout(Duration::from_secs(5), client.authenticate(request)).await })
    });
    let mut unavailable = 0;
    for call in calls.collect::<Vec<_>>() {
        // A late call may get a new connection.
        if let Err(status) = call.await.unwrap().expect("took too long") {
            let refusal = refusal(&status);
            assert_eq!(
                (refusal.code, refusal.reason.as_str()),
                (Code::Unavailable, "DATABASE_UNAVAILABLE")
            );
            assert!(refusal.retry_after.is_some());
            unavailable += 1;
        }
    }
    assert!(unavailable > 0);

    let mut ticks = interval(Duration::from_millis(10));
    let recovery = async {
        while client
            .authenticate(credentials(&person.phone_number, PASSWORD))
            .await
            .is_err()
        {
            ticks.tick().await;
        }
    };
    timeout(Duration::from_secs(5), recovery)
        .await
        .expect("does not recover");
}

/// After the network failed in any state of the connections, with and without waiting calls, the pool has as many
/// concurrent transactions as before.
#[tokio::test]
async fn all_connections_come_back() {
    const CONNECTIONS: usize = 4;
    let place = Place::new().await;
    let Some(proxy) = Proxy::start(&place).await else {
        eprintln!("NOT RUN: SQLite has no network");
        return;
    };
    let flags = [
        "--database-connections=4",
        "--database-acquire-timeout=2s",
        "--database-statement-timeout=2s",
    ];
    let server = TestServer::start_in(place, &flags, Some(&proxy)).await;
    let person = server.person().await;
    let client = server.client().await;
    let sign_in = |patience| {
        let (mut client, request) = (client.clone(), credentials(&person.phone_number, PASSWORD));
        tokio::spawn(timeout(
            patience,
            async move { client.authenticate(request).await },
        ))
    };
    for _ in 0..3 {
        // Callers that go away, spread over the time that a sign-in takes, and others that stay.
        let under_way: Vec<_> = (0..40_u64)
            .map(|number| match number % 5 {
                0 => sign_in(PATIENCE),
                _ => sign_in(Duration::from_millis(number)),
            })
            .collect();
        server
            .database
            .wait_for("SELECT 1 FROM sessions WHERE user_id = ?", &person)
            .await;
        proxy.swallow();
        for call in under_way {
            let _ = call.await.unwrap();
        }
        let mut ticks = interval(Duration::from_millis(10));
        let recovery = async {
            while !matches!(sign_in(PATIENCE).await.unwrap(), Ok(Ok(_))) {
                ticks.tick().await;
            }
        };
        timeout(PATIENCE, recovery).await.expect("does not recover");

        let held = server.database.hold_writes().await;
        let waiting: Vec<_> = (0..CONNECTIONS).map(|_| sign_in(PATIENCE)).collect();
        server.database.so_many_wait(CONNECTIONS).await;
        held.release().await;
        for call in waiting {
            call.await.unwrap().expect("took too long").unwrap();
        }
    }
}

/// Two servers on one database, of which one gets there by a network that can fail.
struct Replicas {
    proxy: Proxy,
    near: ServerProcess,
    far: ServerProcess,
    _place: Place,
}

impl Replicas {
    /// `None`: there is no network to the database.
    async fn start() -> Option<Self> {
        let place = Place::new().await;
        let proxy = Proxy::start(&place).await?;
        let url = format!("--database-url={}", proxy.url(&place));
        let flags = [
            url.as_str(),
            "--database-acquire-timeout=500ms",
            "--database-statement-timeout=500ms",
            "--metrics-listen=127.0.0.1:0",
        ];
        Some(Self {
            far: ServerProcess::start(&place, &flags).await,
            near: ServerProcess::start(&place, &[]).await,
            proxy,
            _place: place,
        })
    }
}

async fn health(client: &mut HealthClient<Channel>, service: &str) -> ServingStatus {
    let service = service.to_owned();
    let answer = client.check(HealthCheckRequest { service }).await;
    answer.unwrap().into_inner().status()
}

async fn until_ready_is(client: &mut HealthClient<Channel>, wanted: ServingStatus) {
    let mut ticks = interval(Duration::from_millis(10));
    let waiting = async {
        while health(client, "readiness").await != wanted {
            ticks.tick().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("did not become so");
}

#[tokio::test]
async fn a_server_without_its_database_says_so_and_does_not_guess_until_the_database_is_back() {
    let Some(replicas) = Replicas::start().await else {
        eprintln!("NOT RUN: SQLite has no network");
        return;
    };
    let mut client = connect(replicas.far.address).await;
    let mut other = connect(replicas.near.address).await;
    let mut probe = HealthClient::new(channel(replicas.far.address).await);
    let phone_number = next_phone_number();
    client
        .register(registration(&phone_number, PASSWORD))
        .await
        .unwrap();
    let revoked = sign_in(&mut client, &phone_number).await;
    let kept = sign_in(&mut client, &phone_number).await;
    for token in [&revoked, &revoked, &kept, &kept] {
        client.validate_session(validation(token)).await.unwrap();
    }
    until_ready_is(&mut probe, ServingStatus::Serving).await;
    let metrics = replicas.far.metrics.unwrap();
    let is_up = |up: f64| move |scraped: &Scraped| scraped.get("phone_identity_database_up") == up;
    until_readyz_is(metrics, 200).await;
    until(metrics, is_up(1.0)).await;

    replicas.proxy.cut();
    revoke(&mut other, &revoked).await;
    // The check has no result, since the state is unknown.
    check_until(&mut client, &revoked, Instant::now(), Code::Unavailable).await;
    until_ready_is(&mut probe, ServingStatus::NotServing).await;
    assert_eq!(health(&mut probe, "").await, ServingStatus::NotServing);
    assert_eq!(health(&mut probe, "liveness").await, ServingStatus::Serving);
    until_readyz_is(metrics, 503).await;
    assert_eq!(http::get(metrics, "/livez").await.0, 200);
    until(metrics, is_up(0.0)).await;
    let mut request = Request::new(credentials(&phone_number, PASSWORD));
    request.set_timeout(Duration::from_secs(5));
    let refused = refusal(&client.authenticate(request).await.unwrap_err());
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::Unavailable, "DATABASE_UNAVAILABLE")
    );
    assert!(refused.retry_after.is_some());

    replicas.proxy.mend();
    until_ready_is(&mut probe, ServingStatus::Serving).await;
    until_readyz_is(metrics, 200).await;
    until(metrics, is_up(1.0)).await;
    check_until(&mut client, &revoked, Instant::now(), Code::Unauthenticated).await;
    client.validate_session(validation(&kept)).await.unwrap();
    sign_in(&mut client, &phone_number).await;
}

/// The machine of the database stops: it neither responds nor closes connections.
#[tokio::test]
async fn a_server_with_a_silent_database_rejects_revoked_sessions_within_the_bound() {
    let Some(replicas) = Replicas::start().await else {
        eprintln!("NOT RUN: SQLite has no network");
        return;
    };
    let mut client = connect(replicas.far.address).await;
    let mut other = connect(replicas.near.address).await;
    let phone_number = next_phone_number();
    client
        .register(registration(&phone_number, PASSWORD))
        .await
        .unwrap();
    let token = sign_in(&mut client, &phone_number).await;
    for _ in 0..2 {
        client.validate_session(validation(&token)).await.unwrap();
    }
    replicas.proxy.swallow();
    revoke(&mut other, &token).await;
    check_until(&mut client, &token, Instant::now(), Code::Unauthenticated).await;
}

/// A load balancer or a failover closes the connections. Callers without a call in flight do not notice; other calls
/// fail once.
#[tokio::test]
async fn connections_that_were_closed_are_replaced() {
    let place = Place::new().await;
    let Some(proxy) = Proxy::start(&place).await else {
        eprintln!("NOT RUN: SQLite has no network");
        return;
    };
    let server = TestServer::start_in(place, &["--database-connections=1"], Some(&proxy)).await;
    let person = server.person().await;
    let mut client = server.client().await;
    for _ in 0..3 {
        proxy.drop_connections();
        // The one connection of the pool may be the first to notice.
        let mut outcome = Ok(());
        for _ in 0..2 {
            let request = credentials(&person.phone_number, PASSWORD);
            outcome = client.authenticate(request).await.map(drop);
            let Err(status) = &outcome else { break };
            assert_eq!(refusal(status).reason, "DATABASE_UNAVAILABLE");
        }
        outcome.unwrap();
    }
}

/// `TEST_DATABASE_CA` is what has signed the certificate of the server, which is for 127.0.0.1 and for no name.
#[tokio::test]
async fn the_certificate_of_the_server_is_verified_where_that_is_asked_for() {
    let place = Place::new().await;
    let (url, ca) = (place.url(), env::var("TEST_DATABASE_CA"));
    let (Some(server), Ok(ca)) = (place.server(), ca) else {
        eprintln!("NOT RUN: TEST_DATABASE_CA is not set");
        return;
    };
    let url = url.split('?').next().unwrap();
    let by_name = url.replace(&server, &server.replace("127.0.0.1", "localhost"));
    let is_postgres = url.starts_with("postgres");
    let [require, verify_ca, verify_full, ca] = if is_postgres {
        [
            "sslmode=require",
            "sslmode=verify-ca",
            "sslmode=verify-full",
            &format!("&sslrootcert={ca}"),
        ]
    } else {
        [
            "ssl-mode=REQUIRED",
            "ssl-mode=VERIFY_CA",
            "ssl-mode=VERIFY_IDENTITY",
            &format!("&ssl-ca={ca}"),
        ]
    };
    for (url, is_good) in [
        (format!("{url}?{require}"), true),
        (format!("{url}?{verify_ca}"), false),
        (format!("{url}?{verify_ca}{ca}"), true),
        (format!("{url}?{verify_full}"), false),
        (format!("{url}?{verify_full}{ca}"), true),
        (format!("{by_name}?{verify_ca}{ca}"), true),
        (format!("{by_name}?{verify_full}{ca}"), false),
    ] {
        let output = place
            .command()
            .env("DATABASE_URL", &url)
            .arg("migrate")
            .output()
            .unwrap();
        assert_eq!(output.status.success(), is_good, "{url}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(is_good || said.contains("certificate"), "{said}");
    }
}
