//! The network to the database: it fails, and it is not to be trusted. SQLite has none: see scripts/test.sh.

use std::env;
use std::time::Duration;

use tokio::time::{interval, timeout};
use tonic::Code;

use crate::support::place::Place;
use crate::support::proxy::Proxy;
use crate::support::refusal::refusal;
use crate::support::{PASSWORD, TestServer, credentials};

/// As when a firewall has forgotten the connections, or a machine is gone: TCP would take a quarter of an hour to notice.
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
    // The two connections, and more who wait for them.
    let calls = (0..4).map(|_| {
        let (mut client, request) = (client.clone(), credentials(&person.phone_number, PASSWORD));
        tokio::spawn(async move { timeout(Duration::from_secs(5), client.authenticate(request)).await })
    });
    let mut unavailable = 0;
    for call in calls.collect::<Vec<_>>() {
        // One that comes late may get a new connection.
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
