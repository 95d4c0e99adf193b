//! A revoked session is invalid: at once on the server that revoked it, and elsewhere within the staleness bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use phone_identity::proto::v1;
use tokio::time::{Instant, interval, timeout};
use tonic::Code;

use crate::support::binary::ServerProcess;
use crate::support::place::Place;
use crate::support::refusal::assert_refused;
use crate::support::{Client, PASSWORD, TestServer, connect, credentials, registration, validation};

const PHONE_NUMBER: &str = "+998901234567";

/// Maximum delay until a process knows of a revocation by another: the staleness bound, and the time of the call.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn until_invalid(client: &mut Client, token: &str) {
    let mut ticks = interval(Duration::from_millis(5));
    let waiting = async {
        while client.validate_session(validation(token)).await.is_ok() {
            ticks.tick().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("is still good");
    let dead = client.validate_session(validation(token)).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
}

/// Eight workers check sessions at random while the sessions are revoked. A check that begins after an acknowledged
/// revocation fails. (`service/sessions/tests.rs` does the same without gRPC, with more checks.)
#[tokio::test(flavor = "multi_thread")]
async fn no_check_accepts_a_session_after_an_acknowledged_revocation() {
    const WORKERS: usize = 8;
    const CHECKS: usize = 10_000;
    const PEOPLE: usize = 10;
    const SIGN_INS: usize = 10;

    let server = TestServer::start().await;
    let mut sessions = Vec::new();
    for _ in 0..PEOPLE {
        let person = server.person().await;
        for _ in 1..SIGN_INS {
            sessions.push((person.sign_in_again(&server).await.token, AtomicBool::new(false)));
        }
        sessions.push((person.token, AtomicBool::new(false)));
    }
    let sessions = Arc::new(sessions);
    let checks = Arc::new(AtomicUsize::new(0));
    // The checks continue until the last session is revoked, and for a tenth of the time longer.
    let is_done = Arc::new(AtomicBool::new(false));
    let workers = (0..WORKERS).map(|number| {
        let (sessions, checks) = (sessions.clone(), checks.clone());
        let address = server.address;
        let is_done = is_done.clone();
        tokio::spawn(async move {
            let mut client = connect(address).await;
            // A linear congruential generator: another order for every worker, the same in every run.
            let mut random = number as u64;
            let (mut yes, mut no, mut violations) = (0, 0, 0);
            while checks.fetch_add(1, Ordering::Relaxed) < CHECKS || !is_done.load(Ordering::Relaxed) {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let (token, is_revoked) = &sessions[(random >> 33) as usize % sessions.len()];
                let was_revoked = is_revoked.load(Ordering::SeqCst);
                match client.validate_session(validation(token)).await {
                    Ok(_) if was_revoked => violations += 1,
                    Ok(_) => yes += 1,
                    Err(status) => {
                        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
                        no += 1;
                    }
                }
            }
            (yes, no, violations)
        })
    });
    let workers: Vec<_> = workers.collect();
    let mut revoker = server.client().await;
    for (number, (token, is_revoked)) in sessions.iter().enumerate().take(sessions.len() * 3 / 4) {
        // Spread over the run, so that sessions are revoked while they are checked.
        while checks.load(Ordering::Relaxed) < number * CHECKS / sessions.len() {
            tokio::task::yield_now().await;
        }
        let revoke = v1::RevokeSessionRequest {
            session_token: token.clone(),
        };
        revoker.revoke_session(revoke).await.unwrap();
        is_revoked.store(true, Ordering::SeqCst);
    }
    let enough = checks.load(Ordering::Relaxed) + CHECKS / 10;
    while checks.load(Ordering::Relaxed) < enough {
        tokio::task::yield_now().await;
    }
    is_done.store(true, Ordering::Relaxed);
    let (mut yes, mut no, mut violations) = (0, 0, 0);
    for worker in workers {
        let counts = worker.await.unwrap();
        yes += counts.0;
        no += counts.1;
        violations += counts.2;
    }
    assert_eq!(violations, 0);
    assert!(
        yes + no >= CHECKS && yes > CHECKS / 20 && no > CHECKS / 20,
        "{yes} {no}"
    );
}

#[tokio::test]
async fn a_password_that_another_process_changes_ends_the_sessions_here() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[]).await;
    let mut client = connect(server.address).await;
    let registered = client
        .register(registration(PHONE_NUMBER, PASSWORD))
        .await
        .unwrap();
    let token = registered.into_inner().session_token;
    for _ in 0..3 {
        client.validate_session(validation(&token)).await.unwrap();
    }
    let changed = place
        .run(
            &["changepassword", PHONE_NUMBER, "--password-stdin"],
            "a quiet lake at dawn 7\n",
        )
        .await;
    assert!(changed.status.success(), "{changed:?}");
    let strong = v1::ValidateSessionRequest {
        session_token: token.clone(),
        consistency: v1::Consistency::Strong.into(),
    };
    let dead = client.validate_session(strong).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
    until_invalid(&mut client, &token).await;
}

/// A replica is stopped while another one revokes. It continues with a valid session in its cache, and must not trust
/// it.
#[tokio::test]
async fn a_replica_that_was_stopped_does_not_say_yes_when_it_goes_on() {
    let place = Place::new().await;
    let here = ServerProcess::start(&place, &[]).await;
    let there = ServerProcess::start(&place, &[]).await;
    let (mut client, mut other) = (connect(here.address).await, connect(there.address).await);
    client
        .register(registration(PHONE_NUMBER, PASSWORD))
        .await
        .unwrap();
    for _ in 0..5 {
        let signed_in = client
            .authenticate(credentials(PHONE_NUMBER, PASSWORD))
            .await
            .unwrap();
        let token = signed_in.into_inner().session_token;
        for _ in 0..3 {
            client.validate_session(validation(&token)).await.unwrap();
        }
        here.signal("STOP");
        let stopped = Instant::now();
        let revoke = v1::RevokeSessionRequest {
            session_token: token.clone(),
        };
        other.revoke_session(revoke).await.unwrap();
        // The call is made while the server is stopped, so it is the first one after it continues.
        let mut asking = client.clone();
        let question = validation(&token);
        let asked = tokio::spawn(async move { asking.validate_session(question).await });
        tokio::time::sleep_until(stopped + Duration::from_millis(1100)).await;
        here.signal("CONT");
        assert_refused(asked.await.unwrap(), Code::Unauthenticated, "SESSION_INVALID");
    }
}

/// Two servers on one database: only the change log can tell one of the other.
#[tokio::test]
async fn two_servers_on_one_database_tell_each_other() {
    let place = Place::new().await;
    let here = ServerProcess::start(&place, &[]).await;
    let there = ServerProcess::start(&place, &["--staleness-bound=1h"]).await;
    let (mut client, mut other) = (connect(here.address).await, connect(there.address).await);
    client
        .register(registration(PHONE_NUMBER, PASSWORD))
        .await
        .unwrap();
    let signed_in = client
        .authenticate(credentials(PHONE_NUMBER, PASSWORD))
        .await
        .unwrap();
    let token = signed_in.into_inner().session_token;
    other.validate_session(validation(&token)).await.unwrap();
    let revoke = v1::RevokeSessionRequest {
        session_token: token.clone(),
    };
    client.revoke_session(revoke).await.unwrap();
    let dead = client.validate_session(validation(&token)).await;
    assert_refused(dead, Code::Unauthenticated, "SESSION_INVALID");
    // The cache is valid for an hour, so it is the log that ends the session here.
    until_invalid(&mut other, &token).await;
}
