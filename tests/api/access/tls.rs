//! TLS: rights of client certificates, and rotation of certificates while the service runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use phone_identity::proto::v1::phone_identity_client::PhoneIdentityClient;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{REQUIRE_KEY, check, make_key, sign_in};
use crate::support::binary::ServerProcess;
use crate::support::certificates::{Authority, Identity, SERVER, ServerFiles, TlsClient, der};
use crate::support::place::Place;
use crate::support::{channel, connect, validation};

const CLIENTS: &str = "--clients=orders.internal=validate; spiffe://cluster/ns/web=authenticate,validate";

/// Timeout on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    place: Place,
    authority: Authority,
    files: ServerFiles,
    server: ServerProcess,
}

impl World {
    /// A server with mutual TLS, and these flags, too.
    async fn start(flags: &[&str]) -> Self {
        let place = Place::new().await;
        let authority = Authority::new();
        let files = ServerFiles::write(place.path(), &authority.sign(&[SERVER]), &authority.pem);
        let mutual = files.mutual_flags();
        let all: Vec<_> = mutual
            .iter()
            .map(String::as_str)
            .chain([CLIENTS])
            .chain(flags.iter().copied())
            .collect();
        let server = ServerProcess::start(&place, &all).await;
        Self {
            place,
            authority,
            files,
            server,
        }
    }

    /// Returns the responses of ValidateSession and Authenticate to a client with this certificate, or the error of the
    /// handshake.
    async fn answers(&self, shown: Option<&Identity>, key: Option<&str>) -> Result<(String, String), ()> {
        let client = TlsClient::new(&[&self.authority], shown);
        let channel = client.channel(self.server.address).await.map_err(drop)?;
        let mut client = PhoneIdentityClient::new(channel);
        // In TLS 1.3 a client knows only by the first answer that it was not let in.
        let first = client.validate_session(validation("nothing")).await.unwrap_err();
        // Responses of the server have details; errors of a connection have none.
        if first.details().is_empty() {
            return Err(());
        }
        Ok((check(&mut client, key).await, sign_in(&mut client, key).await))
    }
}

fn both(one: &str, other: &str) -> Result<(String, String), ()> {
    Ok((one.to_owned(), other.to_owned()))
}

#[tokio::test]
async fn a_client_certificate_opens_what_is_listed_for_its_name() {
    let world = World::start(&[]).await;
    let foreign = Authority::new().sign(&["orders.internal"]);
    let own = |names: &[&str]| world.authority.sign(names);
    assert_eq!(world.answers(None, None).await, Err(()));
    assert_eq!(world.answers(Some(&foreign), None).await, Err(()));
    for (names, expected) in [
        (
            vec!["orders.internal"],
            both("SESSION_INVALID", "SERVICE_NOT_ALLOWED"),
        ),
        (
            vec!["spiffe://cluster/ns/web"],
            both("SESSION_INVALID", "INVALID_INPUT"),
        ),
        (
            vec!["x.y", "spiffe://cluster/ns/web"],
            both("SESSION_INVALID", "INVALID_INPUT"),
        ),
        (vec!["other.internal"], both("SERVICE_UNKNOWN", "SERVICE_UNKNOWN")),
        (
            vec!["a.orders.internal"],
            both("SERVICE_UNKNOWN", "SERVICE_UNKNOWN"),
        ),
        (vec!["*.internal"], both("SERVICE_UNKNOWN", "SERVICE_UNKNOWN")),
        (
            vec!["spiffe://cluster/ns/web/x"],
            both("SERVICE_UNKNOWN", "SERVICE_UNKNOWN"),
        ),
        (vec![], both("SERVICE_UNKNOWN", "SERVICE_UNKNOWN")),
    ] {
        let identity = own(&names);
        assert_eq!(world.answers(Some(&identity), None).await, expected, "{names:?}");
    }
    // A key does not replace a certificate if keys are not enabled.
    let (_, key) = make_key(&world.place, "orders", "all").await;
    assert_eq!(world.answers(None, Some(&key)).await, Err(()));
    let unlisted = own(&["other.internal"]);
    assert_eq!(
        world.answers(Some(&unlisted), Some(&key)).await,
        both("SERVICE_UNKNOWN", "SERVICE_UNKNOWN")
    );
}

#[tokio::test]
async fn a_certificate_or_a_key_lets_in_where_both_are_taken() {
    let world = World::start(&[REQUIRE_KEY]).await;
    let (_, key) = make_key(&world.place, "web", "authenticate").await;
    let orders = world.authority.sign(&["orders.internal"]);
    let foreign = Authority::new().sign(&["orders.internal"]);
    for (shown, key, expected) in [
        (None, None, both("SERVICE_UNKNOWN", "SERVICE_UNKNOWN")),
        (None, Some("nothing"), both("SERVICE_UNKNOWN", "SERVICE_UNKNOWN")),
        (
            None,
            Some(key.as_str()),
            both("SERVICE_NOT_ALLOWED", "INVALID_INPUT"),
        ),
        (
            Some(&orders),
            None,
            both("SESSION_INVALID", "SERVICE_NOT_ALLOWED"),
        ),
        (
            Some(&orders),
            Some("nothing"),
            both("SESSION_INVALID", "SERVICE_NOT_ALLOWED"),
        ),
        (
            Some(&orders),
            Some(key.as_str()),
            both("SESSION_INVALID", "INVALID_INPUT"),
        ),
        // An invalid certificate is rejected, even where none is required.
        (Some(&foreign), Some(key.as_str()), Err(())),
    ] {
        assert_eq!(world.answers(shown, key).await, expected, "{key:?}");
    }
}

async fn is_serving(mut health: HealthClient<tonic::transport::Channel>) -> bool {
    let answer = health.check(HealthCheckRequest::default()).await.unwrap();
    answer.into_inner().status() == ServingStatus::Serving
}

#[tokio::test]
async fn health_and_nothing_else_is_served_without_tls_beside_it() {
    let world = World::start(&["--health-listen=127.0.0.1:0"]).await;
    let address = world.server.health_address.unwrap();
    let plain = channel(address).await;
    assert!(is_serving(HealthClient::new(plain.clone())).await);
    let mut client = connect(address).await;
    let outcome = client.validate_session(validation("nothing")).await;
    assert_eq!(outcome.unwrap_err().code(), Code::Unimplemented);
    // A listener with TLS serves nothing without it, and nothing but HTTP/2 in it.
    let begun = channel_without_tls(world.server.address).await;
    assert!(!begun);
    let unlisted = world.authority.sign(&["other.internal"]);
    let with_tls = TlsClient::new(&[&world.authority], Some(&unlisted));
    let tls = with_tls.channel(world.server.address).await.unwrap();
    assert!(is_serving(HealthClient::new(tls)).await);
}

/// Returns whether a call without TLS gets a response.
async fn channel_without_tls(address: SocketAddr) -> bool {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let Ok(channel) = endpoint.connect().await else {
        return false;
    };
    let answer = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await;
    answer.is_ok()
}

/// A client that never finishes its handshake is closed as one that does not begin.
#[tokio::test]
async fn a_handshake_is_not_waited_for_without_an_end() {
    let world = World::start(&["--handshake-timeout=200ms"]).await;
    let mut stream = tokio::net::TcpStream::connect(world.server.address)
        .await
        .unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .expect("the server waits")
        .unwrap();
}

/// Waits until new connections get this certificate.
async fn is_served(world: &World, client: &TlsClient, expected: &Identity) {
    let expected = der(&expected.certificate);
    let mut ticks = interval(Duration::from_millis(20));
    let served = async {
        while client.shown_by(world.server.address).await != expected {
            ticks.tick().await;
        }
    };
    timeout(PATIENCE, served)
        .await
        .expect("the new certificate is not served");
}

#[tokio::test]
async fn certificates_are_replaced_under_load_and_no_call_fails() {
    const CLIENTS: usize = 32;
    const CALLS: usize = 8;
    let world = World::start(&[]).await;
    let shown = world.authority.sign(&["orders.internal"]);
    let client = TlsClient::new(&[&world.authority], Some(&shown));
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let address = world.server.address;
    let mut load = JoinSet::new();
    for number in 0..CLIENTS {
        let (client, stop, calls) = (client.clone(), stop.clone(), calls.clone());
        load.spawn(async move {
            let mut kept = client.channel(address).await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                // Half of them connect anew each time, and half stay on the connection that they have.
                if number % 2 == 0 {
                    kept = client.channel(address).await.unwrap();
                }
                let mut at_once = JoinSet::new();
                for _ in 0..CALLS {
                    let mut client = PhoneIdentityClient::new(kept.clone());
                    at_once.spawn(async move { check(&mut client, None).await });
                }
                for answer in at_once.join_all().await {
                    assert_eq!(answer, "SESSION_INVALID");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    for _ in 0..3 {
        let before = calls.load(Ordering::Relaxed);
        let renewed = world.authority.sign(&[SERVER]);
        world.files.replace(&renewed);
        is_served(&world, &client, &renewed).await;
        let mut ticks = interval(Duration::from_millis(10));
        let more = async {
            while calls.load(Ordering::Relaxed) < before + CLIENTS * CALLS {
                ticks.tick().await;
            }
        };
        timeout(PATIENCE, more).await.expect("there is no load");
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.expect("a call failed");
    }
}

#[tokio::test]
async fn a_broken_certificate_is_told_once_and_the_old_one_stays() {
    let world = World::start(&["--log-format=json"]).await;
    let shown = world.authority.sign(&["orders.internal"]);
    let client = TlsClient::new(&[&world.authority], Some(&shown));
    let (one, other) = (world.authority.sign(&[SERVER]), world.authority.sign(&[SERVER]));
    world.files.replace(&one);
    is_served(&world, &client, &one).await;
    let mismatched = Identity {
        certificate: one.certificate.clone(),
        key: other.key.clone(),
    };
    let cut_off = Identity {
        certificate: other.certificate[..other.certificate.len() / 2].to_owned(),
        key: other.key.clone(),
    };
    let empty = Identity {
        certificate: String::new(),
        key: String::new(),
    };
    let mut told = 0;
    for broken in [&mismatched, &cut_off, &empty] {
        world.files.replace(broken);
        told += 1;
        world.server.has_logged("the old ones stay", told).await;
        assert_eq!(client.shown_by(world.server.address).await, der(&one.certificate));
    }
    world.files.replace(&other);
    is_served(&world, &client, &other).await;
    world.server.terminate();
    let (code, log) = world.server.ended().await;
    assert_eq!(code, Some(0), "{log}");
    let errors = log.lines().filter(|line| line.contains("\"ERROR\"")).count();
    assert_eq!(errors, told, "{log}");
    assert!(!log.contains("PRIVATE KEY") && !log.contains("BEGIN"), "{log}");
}

/// An authority that was removed from the file is no longer trusted.
#[tokio::test]
async fn authorities_of_clients_are_replaced_too() {
    let world = World::start(&[]).await;
    let new = Authority::new();
    let (old_client, new_client) = (
        world.authority.sign(&["orders.internal"]),
        new.sign(&["orders.internal"]),
    );
    let allowed = both("SESSION_INVALID", "SERVICE_NOT_ALLOWED");
    assert_eq!(world.answers(Some(&old_client), None).await, allowed);
    assert_eq!(world.answers(Some(&new_client), None).await, Err(()));
    let steps = [
        (format!("{}{}", world.authority.pem, new.pem), true),
        (new.pem.clone(), false),
    ];
    for (bundle, is_old_good) in steps {
        world.files.replace_ca(&bundle);
        let expected = if is_old_good { allowed.clone() } else { Err(()) };
        let mut ticks = interval(Duration::from_millis(50));
        let replaced = async {
            while world.answers(Some(&new_client), None).await != allowed
                || world.answers(Some(&old_client), None).await != expected
            {
                ticks.tick().await;
            }
        };
        timeout(PATIENCE, replaced).await.expect("is not replaced");
    }
}
