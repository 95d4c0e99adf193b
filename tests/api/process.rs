//! The process: how it starts, how it refuses to, and how it ends.

use std::net::TcpListener;

use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use phone_identity::proto::v1::phone_identity_client::PhoneIdentityClient;

use crate::support::binary::{ServerProcess, command};
use crate::support::database::TestDatabase;
use crate::support::place::{Place, write_secret};
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
    // A port that nobody listens on.
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

#[test]
fn a_bad_dotenv_is_refused_without_showing_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".env"), "DATABASE_URL='hunter2\n").unwrap();
    let line = refusal_to_start_in(folder.path(), &[], &[]);
    assert!(line.contains(".env") && !line.contains("hunter2"), "{line}");
}

#[test]
fn a_dollar_in_dotenv_is_refused_with_its_line_or_taken_literally() {
    let folder = tempfile::tempdir().unwrap();
    let dotenv = folder.path().join(".env");
    let key = "PHONE_IDENTITY_OPERATOR_KEY=hunter2-and-thirty-two-characters-";
    for (text, line) in [
        (format!("{key}abc$def\n"), 1),
        (format!("# $ in a comment\n\n{key}\"abc$def\"\n"), 3),
        (format!("A='$1'\nB=\\$2\n{key}${{HOME}}\n"), 3),
    ] {
        std::fs::write(&dotenv, text).unwrap();
        let refusal = refusal_to_start_in(folder.path(), &[], &[]);
        let expected = format!("error: line {line} of .env has a $ ");
        assert!(
            refusal.starts_with(&expected) && !refusal.contains("hunter2"),
            "{refusal}"
        );
    }
    for (value, file) in [
        ("'sqlite://a$b.db'", "a$b.db"),
        ("sqlite://c\\$d.db", "c$d.db"),
        ("\"sqlite://e\\$f.db\"", "e$f.db"),
    ] {
        // As an editor on Windows writes it.
        std::fs::write(&dotenv, format!("\u{feff}DATABASE_URL={value}\r\n")).unwrap();
        let output = command(folder.path()).arg("migrate").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(folder.path().join(file).exists(), "{value}");
    }
}

#[test]
fn an_unknown_variable_that_resembles_what_protects_is_refused() {
    for (name, similar) in [
        (
            "PHONE_IDENTITY_REQUIRE_SERVICE_KEYS",
            "(PHONE_IDENTITY_REQUIRE_SERVICE_KEY?)",
        ),
        ("PHONE_IDENTITY_TLS_CERT", ""),
        ("PHONE_IDENTITY_CLIENT_CAS", "(PHONE_IDENTITY_CLIENT_CA?)"),
        ("PHONE_IDENTITY_OPERATORKEY", "(PHONE_IDENTITY_OPERATOR_KEY?)"),
    ] {
        let line = refusal_to_start(&["--listen=127.0.0.1:0"], &[(name, "hunter2")]);
        assert!(
            line.contains(&format!("{name} {similar}").trim().to_owned()) && !line.contains("hunter2"),
            "{line}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let dotenv = "PHONE_IDENTITY_REQUIRE_SERVICEKEY=true\n";
    std::fs::write(folder.path().join(".env"), dotenv).unwrap();
    let line = refusal_to_start_in(folder.path(), &["--listen=127.0.0.1:0"], &[]);
    assert!(line.contains("PHONE_IDENTITY_REQUIRE_SERVICEKEY"), "{line}");
}

#[tokio::test]
async fn another_unknown_variable_is_a_warning_and_those_of_kubernetes_are_none() {
    let place = Place::new().await;
    let mut command = place.command();
    command.envs([
        ("PHONE_IDENTITY_LISTN", "127.0.0.1:1"),
        ("PHONE_IDENTITY_IMAGE_TAG", "1"),
        // Of a Service phone-identity, of phone-identity-tls, and of phone-identity-client-ca.
        ("PHONE_IDENTITY_SERVICE_HOST", "10.96.0.1"),
        ("PHONE_IDENTITY_SERVICE_PORT", "50051"),
        ("PHONE_IDENTITY_SERVICE_PORT_GRPC", "50051"),
        ("PHONE_IDENTITY_PORT", "tcp://10.96.0.1:50051"),
        ("PHONE_IDENTITY_PORT_50051_TCP", "tcp://10.96.0.1:50051"),
        ("PHONE_IDENTITY_TLS_SERVICE_HOST", "10.96.0.2"),
        ("PHONE_IDENTITY_TLS_PORT_50051_TCP_ADDR", "10.96.0.2"),
        ("PHONE_IDENTITY_CLIENT_CA_SERVICE_PORT", "50051"),
        // Empty means unset, and a name is a name.
        ("PHONE_IDENTITY_LOG_LEVEL", ""),
    ]);
    let server = ServerProcess::spawn(command, &["--listen=127.0.0.1:0"]).await;
    server.terminate();
    let (code, log) = server.ended().await;
    assert_eq!(code, Some(0), "{log}");
    let warnings: Vec<_> = log
        .lines()
        .filter(|line| line.contains("unknown variable"))
        .collect();
    assert_eq!(warnings.len(), 2, "{log}");
    for (name, similar) in [
        ("PHONE_IDENTITY_LISTN", "\"similar\":\"PHONE_IDENTITY_LISTEN\""),
        ("PHONE_IDENTITY_IMAGE_TAG", ""),
    ] {
        let is_told = |line: &&str| line.contains(name) && line.contains(similar) && line.contains("WARN");
        assert!(warnings.iter().any(is_told), "{warnings:?}");
    }
    assert!(!log.contains("127.0.0.1:1\""), "values are not shown: {log}");
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

/// A byte order mark, with which some editors begin a file, is part of no secret.
#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_a_secret() {
    let place = Place::new().await;
    let write = |name: &str, text: &str| {
        let path = place.path().join(name);
        write_secret(&path, format!("\u{feff}{text}\r\n"));
        path.display().to_string()
    };
    let operator_key = "an operator key of thirty-two characters";
    let flags = [
        format!("--operator-key-file={}", write("operator", operator_key)),
        format!(
            "--peppers-file={}",
            write("peppers", "k1:AAECAwQFBgcICQoLDA0ODw==")
        ),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut command = place.command();
    let url = write("url", &place.url());
    command.env_remove("DATABASE_URL").env("DATABASE_URL_FILE", url);
    let server = ServerProcess::spawn(command, &[&["--listen=127.0.0.1:0"], flags.as_slice()].concat()).await;
    let mut client = connect(server.address).await;
    let mut request = tonic::Request::new(phone_identity::proto::v1::CreateSuperuserRequest {
        phone_number: "+998901234567".to_owned(),
        default_region: String::new(),
        password: PASSWORD.to_owned(),
    });
    request
        .metadata_mut()
        .insert("x-operator-key", operator_key.parse().unwrap());
    client.create_superuser(request).await.unwrap();
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

/// SIGTERM while a call waits for the database: health says so first, the call finishes, and the exit code is 0.
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

    // On one connection, what is answered second shows that what was asked first has come.
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
