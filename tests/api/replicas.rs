//! Several servers on one database: what one of them acknowledged holds for all. (`network` has one that is cut off
//! from the database, and `revocation` one that is stopped.)

use std::time::Duration;

use phone_identity::proto::v1;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};
use tonic::Code;

use crate::support::binary::ServerProcess;
use crate::support::place::Place;
use crate::support::refusal::{assert_refused, refusal};
use crate::support::{Client, PASSWORD, connect, credentials, next_phone_number, registration, validation};

/// The default of `--staleness-bound`.
const STALENESS_BOUND: Duration = Duration::from_secs(1);

/// Timeout on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn sign_in(client: &mut Client, phone_number: &str) -> String {
    let signed_in = client.authenticate(credentials(phone_number, PASSWORD)).await;
    signed_in.unwrap().into_inner().session_token
}

pub(crate) async fn revoke(client: &mut Client, token: &str) {
    let session_token = token.to_owned();
    let request = v1::RevokeSessionRequest { session_token };
    client.revoke_session(request).await.unwrap();
}

/// Checks a session that was revoked elsewhere until the check rejects it. Fails if a check accepts it that began later
/// than the bound after the acknowledged revocation.
pub(crate) async fn check_until(client: &mut Client, token: &str, acknowledged: Instant, code: Code) {
    let mut ticks = interval(Duration::from_millis(5));
    let checking = async {
        loop {
            ticks.tick().await;
            let begun = Instant::now();
            let checked = client.validate_session(validation(token)).await;
            let late = begun - acknowledged > STALENESS_BOUND;
            match checked {
                Ok(_) => assert!(!late, "yes, {:?} after it was revoked", begun - acknowledged),
                Err(status) if status.code() == code => break,
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
            }
        }
    };
    timeout(PATIENCE, checking).await.expect("took too long");
}

#[tokio::test]
async fn a_revocation_reaches_the_other_replica_at_once_for_strong_checks_and_else_within_the_bound() {
    let place = Place::new().await;
    let (here, there) = (
        ServerProcess::start(&place, &[]).await,
        ServerProcess::start(&place, &[]).await,
    );
    let (mut client, mut other) = (connect(here.address).await, connect(there.address).await);
    let phone_number = next_phone_number();
    client
        .register(registration(&phone_number, PASSWORD))
        .await
        .unwrap();
    for _ in 0..5 {
        let token = sign_in(&mut client, &phone_number).await;
        for _ in 0..3 {
            other.validate_session(validation(&token)).await.unwrap();
        }
        revoke(&mut client, &token).await;
        let strongly = v1::ValidateSessionRequest {
            session_token: token,
            consistency: v1::Consistency::Strong.into(),
        };
        let strongly = other.validate_session(strongly).await;
        assert_refused(strongly, Code::Unauthenticated, "SESSION_INVALID");
        // A strong check has found out for itself; so another session shows what the change log does.
        let token = sign_in(&mut client, &phone_number).await;
        other.validate_session(validation(&token)).await.unwrap();
        revoke(&mut client, &token).await;
        check_until(&mut other, &token, Instant::now(), Code::Unauthenticated).await;
    }
}

#[tokio::test]
async fn one_of_many_registrations_of_a_number_on_three_servers_succeeds() {
    let place = Place::new().await;
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(ServerProcess::start(&place, &[]).await);
    }
    let phone_number = next_phone_number();
    let mut calls = JoinSet::new();
    for number in 0..64 {
        let mut client = connect(servers[number % servers.len()].address).await;
        let request = registration(&phone_number, PASSWORD);
        calls.spawn(async move { client.register(request).await });
    }
    let mut registered = 0;
    for outcome in calls.join_all().await {
        match outcome {
            Ok(_) => registered += 1,
            Err(status) => {
                let refusal = refusal(&status);
                assert_eq!(
                    (refusal.code, refusal.reason.as_str()),
                    (Code::AlreadyExists, "PHONE_NUMBER_TAKEN")
                );
            }
        }
    }
    assert_eq!(registered, 1);
    let mut client = connect(servers[0].address).await;
    sign_in(&mut client, &phone_number).await;
}
