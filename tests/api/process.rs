//! The process: how it starts, how it refuses to, and how it ends.

mod environment;

use std::net::TcpListener;

use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use phone_identity::proto::v1::phone_identity_client::PhoneIdentityClient;

use crate::support::binary::{ServerProcess, command};
use crate::support::database::TestDatabase;
use crate::support::place::Place;
use crate::support::{PASSWORD, channel, connect, credentials, registration};

/// Runs `serve` with these flags and environment, and gives the one line that it fails with.
fn refusal_to_start(flags: &[&str], environment: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    refusal_to_start_in(folder.path(), flags, environment)
}

pub(crate) fn refusal_to_start_in(
    folder: &std::path::Path,
    flags: &[&str],
    environment: &[(&str, &str)],
) -> String {
    let output = command(folder)
        .args(flags)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let lines: Vec<_> = stderr.lines().filter(|line| !line.starts_with('{')).collect();
    let [line] = lines.as_slice() else {
        panic!("not one line:\n{stderr}")
    };
    (*line).to_owned()
}

#[test]
fn a_bad_setting_is_one_clear_line() {
    for (flags, environment, expected) in [
        (vec!["--listen=nowhere"], vec![], "--listen"),
        (vec!["--session-lifetime=soon"], vec![], "--session-lifetime"),
        (vec!["--session-lifetime=0s"], vec![], "must be longer than 0"),
        (vec!["--session-lifetime=3651d"], vec![], "longer than ten years"),
        (
            vec!["--session-lifetime=15M"],
            vec![],
            "its units are w, d, h, m, s and ms",
        ),
        (
            vec!["--throttle-max-delay=1month"],
            vec![],
            "its units are w, d, h, m, s and ms",
        ),
        (vec!["audit", "--since=5M"], vec![], "nor a duration such as 24h"),
        (
            vec!["calibrate", "--target=100us"],
            vec![],
            "its units are w, d, h, m, s and ms",
        ),
        (vec!["--listen=example.com:50051"], vec![], "or localhost:50051"),
        (vec!["--health-listen=:50052"], vec![], "or localhost:50051"),
        (vec!["--metrics-listen=9464"], vec![], "or localhost:50051"),
        (vec!["--code-lifetime=31m"], vec![], "longer than 30m"),
        (vec!["--code-lifetime=0s"], vec![], "must be longer than 0"),
        (vec!["--database-statement-timeout=2h"], vec![], "not in 1ms..=1h"),
        (vec!["--default-region=Narnia"], vec![], "is not a known region"),
        (
            vec!["--allowed-line-types=mobile,smoke_signal"],
            vec![],
            "is not a line type",
        ),
        (
            vec!["--argon2-memory-kib=8", "--argon2-parallelism=2"],
            vec![],
            "Argon2 parameters",
        ),
        (vec!["--password-min-length=7"], vec![], "not in 8..=128"),
        (
            vec!["--min-failed-sign-in-duration=10s", "--request-timeout=10s"],
            vec![],
            "--min-failed-sign-in-duration is not less than --request-timeout",
        ),
        (vec!["--max-connections=0"], vec![], "--max-connections"),
        (vec!["--max-connection-age=0s"], vec![], "must be longer than 0"),
        (vec!["--no-such-setting"], vec![], "--no-such-setting"),
        (vec!["serve", "--log-format=xml"], vec![], "--log-format"),
        (
            vec![],
            vec![("PHONE_IDENTITY_MAX_SESSIONS", "0")],
            "--max-sessions",
        ),
        (
            vec![],
            vec![("DATABASE_URL", "hunter2")],
            "DATABASE_URL cannot be used: it is not of the form",
        ),
        (
            vec![],
            vec![("DATABASE_URL", "oracle://me:hunter2@db")],
            "DATABASE_URL cannot be used: its scheme is not",
        ),
        (
            vec![],
            vec![("DATABASE_URL", "sqlite:")],
            "DATABASE_URL cannot be used: it names no file",
        ),
        (
            vec![],
            vec![("DATABASE_URL", "sqlite://a.db?hunter=2")],
            "DATABASE_URL cannot be used: its parameter hunter is unknown",
        ),
        (
            vec![],
            vec![("DATABASE_URL", "sqlite://a.db?cache=shared&mode=hunter2")],
            "DATABASE_URL cannot be used: the value of its parameter mode is not valid",
        ),
        (
            vec![],
            vec![("DATABASE_URL", "postgres://me:hunter2@db:far/identity")],
            "DATABASE_URL cannot be used: its user, password, host, port or path is not valid",
        ),
        (
            vec![],
            vec![(
                "DATABASE_URL",
                "postgres://me@db/identity?sslmod=require&password=hunter2",
            )],
            "DATABASE_URL cannot be used: its parameter sslmod is unknown",
        ),
        (
            vec![],
            vec![(
                "DATABASE_URL",
                "postgres://me@db/identity?user=me&sslmode=hunter2",
            )],
            "DATABASE_URL cannot be used: the value of its parameter sslmode is not valid",
        ),
        (
            vec![],
            vec![(
                "DATABASE_URL",
                "postgres://me@a,b/identity?target_session_attrs=hunter2",
            )],
            "DATABASE_URL cannot be used: the value of its parameter target_session_attrs is not valid",
        ),
        (
            vec![],
            vec![("DATABASE_URL", "postgres://me:what?hunter2@db/identity")],
            "DATABASE_URL cannot be used: a parameter of it is unknown: write a ? in a password as %3F",
        ),
        (
            vec![],
            vec![("DATABASE_URL", "mysql://me:hunter2@db/identity?ssl-mode=hunter2")],
            "DATABASE_URL cannot be used: the value of its parameter ssl-mode is not valid",
        ),
        (
            vec![],
            vec![("DATABASE_URL", "mysql://me:hunter2@db")],
            "DATABASE_URL cannot be used: it names no database",
        ),
        (
            vec![],
            vec![("DATABASE_URL", "sqlite:a.db"), ("DATABASE_URL_FILE", "url")],
            "both given",
        ),
        (
            vec![],
            vec![("DATABASE_URL_FILE", "missing")],
            "DATABASE_URL_FILE",
        ),
    ] {
        let line = refusal_to_start(&flags, &environment);
        assert!(
            line.starts_with("error: ") && line.contains(expected),
            "{expected}: {line}"
        );
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[test]
fn a_server_that_is_not_there_is_one_clear_line() {
    // A port without a listener.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for scheme in ["postgres", "mysql"] {
        let url = format!("{scheme}://me:hunter2@{address}/identity");
        let flags = [
            "--listen=127.0.0.1:0",
            "--database-acquire-timeout=100ms",
            "--database-start-timeout=400ms",
            "--log-level=trace",
        ];
        let line = refusal_to_start(&flags, &[("DATABASE_URL", &url)]);
        assert!(
            line.starts_with("error: the database of DATABASE_URL cannot be used: database unavailable: "),
            "{line}"
        );
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[tokio::test]
async fn localhost_is_an_address_to_listen_on() {
    let place = Place::new().await;
    let flags = ["--listen=localhost:0", "--metrics-listen=LOCALHOST:0"];
    let server = ServerProcess::start_listening(&place, &flags).await;
    assert!(server.address.ip().is_loopback() && server.metrics.unwrap().ip().is_loopback());
    let mut client = connect(server.address).await;
    client
        .register(registration("+998901234567", PASSWORD))
        .await
        .unwrap();
}

#[test]
fn a_port_that_is_taken_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = refusal_to_start(&["--listen", &address], &[]);
    assert!(
        line.contains("cannot listen on") && line.contains(&address),
        "{line}"
    );
}

#[test]
fn neither_help_nor_an_error_shows_the_database_url() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [["--help"], ["--nonsense"]] {
        let output = command(folder.path())
            .args(arguments)
            .env("DATABASE_URL", "sqlite://hunter2.db")
            .output()
            .unwrap();
        let shown = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8(shown).unwrap().contains("hunter2"));
    }
}

/// SIGTERM while a call waits for the database: health changes first, the call finishes, and the exit code is 0.
#[tokio::test]
async fn sigterm_lets_calls_in_flight_finish() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[]).await;
    let held = TestDatabase::open(&place).await.hold_writes().await;

    let mut watcher = HealthClient::new(channel(server.address).await);
    let request = || HealthCheckRequest {
        service: "readiness".to_owned(),
    };
    let mut health = watcher.watch(request()).await.unwrap().into_inner();
    assert_eq!(
        health.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );

    // On one connection, the response to the second call shows that the first one has arrived.
    let caller = channel(server.address).await;
    let (mut client, mut prober) = (
        PhoneIdentityClient::new(caller.clone()),
        HealthClient::new(caller),
    );
    let mut call = Box::pin(client.register(registration("+998901234567", PASSWORD)));
    tokio::select! {
        biased;
        outcome = &mut call => panic!("nothing could be written: {outcome:?}"),
        checked = prober.check(request()) => drop(checked.unwrap()),
    }

    server.terminate();
    let told = async { health.message().await.unwrap().unwrap().status() };
    assert_eq!(
        tokio::select! { status = told => status, _ = &mut call => panic!("ended first") },
        ServingStatus::NotServing
    );
    drop(health);
    drop(watcher);
    held.release().await;
    let registered = call.await.unwrap().into_inner();
    drop((client, prober));
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");

    let server = ServerProcess::start(&place, &[]).await;
    let mut client = connect(server.address).await;
    let known = client
        .authenticate(credentials("+998901234567", PASSWORD))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(known.user.unwrap().user_id, registered.user.unwrap().user_id);
}

#[tokio::test]
async fn the_wait_for_calls_in_flight_is_bounded() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &["--shutdown-timeout=50ms"]).await;
    let held = TestDatabase::open(&place).await.hold_writes().await;
    let caller = channel(server.address).await;
    let mut client = PhoneIdentityClient::new(caller.clone());
    let mut prober = HealthClient::new(caller);
    let mut call = Box::pin(client.register(registration("+998901234567", PASSWORD)));
    tokio::select! {
        biased;
        outcome = &mut call => panic!("nothing could be written: {outcome:?}"),
        checked = prober.check(HealthCheckRequest::default()) => drop(checked.unwrap()),
    }
    server.terminate();
    let cut_off = call.await.unwrap_err();
    assert!(
        matches!(cut_off.code(), Code::Unavailable | Code::Unknown),
        "{cut_off:?}"
    );
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("did not finish in time"), "{log}");
    held.release().await;
}

#[tokio::test]
async fn a_stopped_server_refuses_connections() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[]).await;
    let address = server.address;
    let mut client = connect(address).await;
    server.terminate();
    assert_eq!(server.ended().await.0, Some(0));
    let status = client
        .register(registration("+998901234567", PASSWORD))
        .await
        .unwrap_err();
    assert!(
        matches!(status.code(), Code::Unavailable | Code::Unknown),
        "{status:?}"
    );
}

#[tokio::test]
async fn migrate_does_so_once() {
    let place = Place::new().await;
    for _ in 0..2 {
        let output = place.run(&["migrate"], "").await;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "the database is up to date\n"
        );
    }
}
