//! Traces, as a collector gets them.

use std::collections::HashMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use phone_identity::proto::v1;
use phone_identity::proto::v1::phone_verification_client::PhoneVerificationClient;
use tonic::{Code, Request};

use crate::logs::calls::every_rpc;
use crate::logs::{SUPERUSER, assert_tells_nothing};
use crate::support::binary::ServerProcess;
use crate::support::codes::{CEILING, flag_of_keys, wanted};
use crate::support::collector::{Collector, attribute};
use crate::support::place::{Backend, Place, write_secret};
use crate::support::stub::{Answer, Stub};
use crate::support::{OTHER_PASSWORD, PASSWORD, channel, connect, credentials, registration, validation};

const NUMBER: &str = "+998901234567";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// A request of a caller with the span [`CALLER`] in [`TRACE`].
fn traced<T>(message: T, is_sampled: bool) -> Request<T> {
    let mut request = Request::new(message);
    let traceparent = format!("00-{TRACE}-{CALLER}-0{}", u8::from(is_sampled));
    request
        .metadata_mut()
        .insert("traceparent", traceparent.parse().unwrap());
    request
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names of the spans from one up to the caller's.
fn path<'a>(spans: &'a [Span], span: &'a Span) -> Vec<&'a str> {
    let by_id: HashMap<&[u8], &Span> = spans.iter().map(|span| (&span.span_id[..], span)).collect();
    let mut path = vec![span.name.as_str()];
    let mut above = &span.parent_span_id;
    while let Some(next) = by_id.get(&above[..]) {
        path.push(&next.name);
        above = &next.parent_span_id;
    }
    assert_eq!(hex(above), CALLER, "{path:?} does not lead to the caller");
    path
}

/// All spans are one tree, from that of the caller to the statements and the hash.
#[tokio::test]
async fn a_call_is_one_trace_from_its_caller_to_the_database() {
    let (place, collector) = (Place::new().await, Collector::start().await);
    let server = ServerProcess::start(&place, &[&collector.flag(), "--trace-sampling=0"]).await;
    let mut client = connect(server.address).await;
    client.register(registration(NUMBER, PASSWORD)).await.unwrap();
    client
        .authenticate(traced(credentials(NUMBER, PASSWORD), true))
        .await
        .unwrap();
    // The last of what waits is sent at the end.
    server.terminate();
    assert_eq!(server.ended().await.0, Some(0));
    let spans = collector.spans();

    assert!(
        spans.iter().all(|span| hex(&span.trace_id) == TRACE),
        "{spans:#?}"
    );
    let paths: Vec<_> = spans.iter().map(|span| path(&spans, span)).collect();
    let rpc = "phone_identity.v1.PhoneIdentity/Authenticate";
    for expected in [
        vec![rpc],
        vec!["accounts.authenticate", rpc],
        vec!["hash queue", "accounts.authenticate", rpc],
        vec!["hash", "accounts.authenticate", rpc],
        vec!["SELECT", "accounts.authenticate", rpc],
        vec!["INSERT", "accounts.authenticate", rpc],
        vec!["database transaction", "accounts.authenticate", rpc],
        vec!["UPDATE", "database transaction", "accounts.authenticate", rpc],
        vec!["INSERT", "database transaction", "accounts.authenticate", rpc],
    ] {
        assert!(paths.contains(&expected), "{expected:?} is not in {paths:#?}");
    }

    let call = spans.iter().find(|span| span.name == rpc).unwrap();
    assert_eq!(call.kind, SpanKind::Server as i32);
    for (name, value) in [
        ("rpc.system", "grpc"),
        ("rpc.service", "phone_identity.v1.PhoneIdentity"),
        ("rpc.method", "Authenticate"),
        ("rpc.grpc.status_code", "0"),
    ] {
        assert_eq!(attribute(call, name).as_deref(), Some(value), "{name}");
    }
    let system = match Backend::of_this_run() {
        Backend::Sqlite => "sqlite",
        Backend::Postgres => "postgresql",
        Backend::MySql => "mysql",
    };
    let statements = spans.iter().filter(|span| span.kind == SpanKind::Client as i32);
    let mut count = 0;
    for statement in statements {
        count += 1;
        assert_eq!(attribute(statement, "db.system.name").as_deref(), Some(system));
        assert_eq!(
            attribute(statement, "db.operation.name").as_deref(),
            Some(statement.name.as_str())
        );
        assert_eq!(statement.attributes.len(), 2, "{statement:?}");
    }
    assert!(count >= 4, "{spans:#?}");
    // Each is within the one that it belongs to. Clocks of one machine, and a millisecond for what is measured apart.
    for span in &spans {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert!(
            span.start_time_unix_nano + 1_000_000 >= call.start_time_unix_nano,
            "{span:?}"
        );
    }
}

/// Also if several calls share a query that none of them sends.
#[tokio::test]
async fn a_check_that_asks_the_database_is_one_trace() {
    let (place, collector) = (Place::new().await, Collector::start().await);
    let server = ServerProcess::start(&place, &[&collector.flag(), "--trace-sampling=0"]).await;
    let mut client = connect(server.address).await;
    let token = client
        .register(registration(NUMBER, PASSWORD))
        .await
        .unwrap()
        .into_inner()
        .session_token;
    let mut strong = validation(&token);
    strong.set_consistency(v1::Consistency::Strong);
    client.validate_session(traced(strong, true)).await.unwrap();
    client
        .validate_session(traced(validation("pid_none"), true))
        .await
        .unwrap_err();
    server.terminate();
    assert_eq!(server.ended().await.0, Some(0));
    let spans = collector.spans();
    let rpc = "phone_identity.v1.PhoneIdentity/ValidateSession";
    let paths: Vec<_> = spans.iter().map(|span| path(&spans, span)).collect();
    let expected = vec!["SELECT", "sessions.validate", rpc];
    assert!(paths.contains(&expected), "{paths:#?}");
    let codes: Vec<_> = spans
        .iter()
        .filter(|span| span.name == rpc)
        .filter_map(|span| attribute(span, "rpc.grpc.status_code"))
        .collect();
    assert_eq!(codes, ["0", &(Code::Unauthenticated as i32).to_string()]);
}

#[tokio::test]
async fn the_decision_of_the_caller_is_honoured_and_else_the_ratio_decides() {
    let place = Place::new().await;
    for (sampling, of_callers_that_say_nothing) in [("0", 0), ("1", 2)] {
        let collector = Collector::start().await;
        let flag = format!("--trace-sampling={sampling}");
        let server = ServerProcess::start(&place, &[&collector.flag(), &flag]).await;
        let mut client = connect(server.address).await;
        let unknown = || credentials("+998901234500", PASSWORD);
        client.authenticate(traced(unknown(), false)).await.unwrap_err();
        client
            .validate_session(traced(validation("x"), false))
            .await
            .unwrap_err();
        client.authenticate(unknown()).await.unwrap_err();
        client.validate_session(validation("x")).await.unwrap_err();
        client.authenticate(traced(unknown(), true)).await.unwrap_err();
        server.terminate();
        assert_eq!(server.ended().await.0, Some(0));
        let spans = collector.spans();
        let calls = spans.iter().filter(|span| span.kind == SpanKind::Server as i32);
        let (of_caller, others): (Vec<_>, Vec<_>) = calls.partition(|span| hex(&span.trace_id) == TRACE);
        assert_eq!((of_caller.len(), others.len()), (1, of_callers_that_say_nothing));
        assert!(
            others.iter().all(|span| span.parent_span_id.is_empty()),
            "{others:?}"
        );
        // No span is of a trace of its own.
        let roots = spans.iter().filter(|span| span.parent_span_id.is_empty());
        assert_eq!(roots.count(), others.len());
    }
}

#[tokio::test]
async fn lines_of_a_traced_call_say_so_in_both_formats() {
    let place = Place::new().await;
    for format in ["json", "pretty"] {
        let collector = Collector::start().await;
        let flags = [
            &collector.flag(),
            "--trace-sampling=0",
            "--log-level=debug",
            "--log-format",
            format,
        ];
        let server = ServerProcess::start(&place, &flags).await;
        let mut client = connect(server.address).await;
        let unknown = || credentials("+998901234500", PASSWORD);
        client.authenticate(traced(unknown(), true)).await.unwrap_err();
        client
            .validate_session(traced(validation("x"), true))
            .await
            .unwrap_err();
        client.authenticate(unknown()).await.unwrap_err();
        server.terminate();
        let (code, log) = server.ended().await;
        assert_eq!(code, Some(0), "{log}");
        let spans = collector.spans();
        let ended = log.lines().filter(|line| line.contains("call ended"));
        let (of_trace, others): (Vec<_>, Vec<_>) = ended.partition(|line| line.contains(TRACE));
        assert_eq!((of_trace.len(), others.len()), (2, 1), "{log}");
        for line in of_trace {
            let call = spans.iter().find(|span| line.contains(&hex(&span.span_id)));
            let call = call.unwrap_or_else(|| panic!("no span of {line}"));
            assert!(line.contains(&call.name) && line.contains("trace_id"), "{line}");
        }
        assert!(!others[0].contains("trace_id"), "{}", others[0]);
    }
}

#[tokio::test]
async fn spans_have_no_personal_data() {
    let (place, collector) = (Place::new().await, Collector::start().await);
    let made = place
        .run(
            &["createsuperuser", "--phone-number", SUPERUSER, "--password-stdin"],
            PASSWORD,
        )
        .await;
    assert!(made.status.success(), "{made:?}");
    let server = ServerProcess::start(&place, &[&collector.flag(), "--trace-sampling=1"]).await;
    let tokens = every_rpc(&server).await;
    // A caller that puts into the trace state what belongs nowhere.
    let mut request = traced(credentials(NUMBER, OTHER_PASSWORD), true);
    let state = format!("who={}", tokens[0]).parse().unwrap();
    request.metadata_mut().insert("tracestate", state);
    let _ = connect(server.address).await.authenticate(request).await;
    server.terminate();
    assert_eq!(server.ended().await.0, Some(0));
    let spans = collector.call("Register").await;
    for rpc in [
        "Authenticate",
        "ValidateSession",
        "UpdateProfile",
        "DeleteProfile",
    ] {
        assert!(spans.iter().any(|span| span.name.ends_with(rpc)), "{rpc}");
    }
    assert_tells_nothing(&collector.text(), &tokens);
}

/// A collector that refuses, and one that never responds.
#[tokio::test]
async fn a_collector_that_is_dead_holds_nothing_up() {
    let place = Place::new().await;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let endpoint = format!("--otlp-endpoint=http://{address}");
        let server = ServerProcess::start(&place, &[&endpoint, "--trace-sampling=1"]).await;
        let mut client = connect(server.address).await;
        // More than wait in line.
        for _ in 0..6000 {
            client.validate_session(validation("x")).await.unwrap_err();
        }
        let begun = Instant::now();
        server.terminate();
        let (code, log) = server.ended().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("spans"), "{log}");
        assert!(begun.elapsed() < Duration::from_secs(25));
    }
}

#[tokio::test]
async fn a_bad_endpoint_or_ratio_is_one_clear_line() {
    for (flag, expected) in [
        (
            "--otlp-endpoint=localhost:4317",
            "not of the form http://HOST:PORT",
        ),
        (
            "--otlp-endpoint=http://me:secret@localhost",
            "not of the form http://HOST:PORT",
        ),
        ("--trace-sampling=1.5", "not a number from 0 to 1"),
        ("--trace-sampling=NaN", "not a number from 0 to 1"),
    ] {
        let line = crate::process::refusal_to_start_in(tempfile::tempdir().unwrap().path(), &[flag], &[]);
        assert!(line.contains(expected), "{line}");
    }
}

/// The message of SendCode is sent in its trace, and the gateway gets the trace context.
#[tokio::test]
async fn the_message_of_a_call_is_sent_in_its_trace() {
    let (place, collector) = (Place::new().await, Collector::start().await);
    let stub = Stub::start(&[Answer::Status(204, "")]).await;
    let key = place.path().join("webhook-secret");
    write_secret(&key, "a secret of thirty-two characters");
    let flags = [
        "--sms-providers=webhook".to_owned(),
        format!("--webhook-url={}/", stub.url()),
        format!("--webhook-secret-file={}", key.display()),
        flag_of_keys(),
        collector.flag(),
        "--trace-sampling=0".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(CEILING).collect();
    let server = ServerProcess::start(&place, &flags).await;
    let mut client = connect(server.address).await;
    client.register(registration(NUMBER, PASSWORD)).await.unwrap();
    let mut codes = PhoneVerificationClient::new(channel(server.address).await);
    for is_sampled in [false, true] {
        let request = traced(wanted(v1::CodePurpose::SignIn, NUMBER), is_sampled);
        codes.send_code(request).await.unwrap();
    }
    server.has_logged("message taken", 2).await;
    server.terminate();
    assert_eq!(server.ended().await.0, Some(0));
    let spans = collector.spans();
    let paths: Vec<_> = spans.iter().map(|span| path(&spans, span)).collect();
    let rpc = "phone_identity.v1.PhoneVerification/SendCode";
    let expected = vec!["POST", "outbox.send", "codes.send", rpc];
    let posts: Vec<_> = spans
        .iter()
        .zip(&paths)
        .filter(|(_, path)| **path == expected)
        .collect();
    let [(post, _)] = posts.as_slice() else {
        panic!("{paths:?}")
    };
    assert_eq!(post.kind, i32::from(SpanKind::Client));
    assert_eq!(attribute(post, "server.address").as_deref(), Some("127.0.0.1"));
    assert_eq!(
        attribute(post, "http.response.status_code").as_deref(),
        Some("204")
    );
    let told: Vec<_> = stub
        .requests()
        .iter()
        .filter_map(|request| {
            let mut lines = request.lines();
            lines.find_map(|line| line.strip_prefix("traceparent: ").map(str::to_owned))
        })
        .collect();
    let [told] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert!(
        told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-01"),
        "{told}"
    );
}
