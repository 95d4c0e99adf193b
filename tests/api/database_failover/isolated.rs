//! The primary is cut off from its standby, which is promoted, while everything here still reaches the old primary,
//! also by new connections. Only a server that commits synchronously shows that.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tonic::Code;

use super::scene::{Scene, assert_unavailable, revoke, start_cluster, start_service, strongly};
use crate::replicas::sign_in;
use crate::support::place::{Backend, Place};
use crate::support::proxy::{OldConnections, Proxy};
use crate::support::{connect, validation};

/// The staleness bound.
const BOUND: Duration = Duration::from_secs(1);

/// For how long valid sessions are checked before, and the revoked one afterwards.
const SPAN: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_primary_that_cannot_commit_to_its_standby_answers_nothing_after_the_bound() {
    if Backend::of_this_run() != Backend::Postgres {
        eprintln!("NOT RUN: MariaDB goes on without its replica after a timeout");
        return;
    }
    let Some(cluster) = start_cluster().await else {
        return;
    };
    cluster.synchronous(true).await;
    let proxy = Proxy::to(cluster.primary().address()).await;
    let place = Place::without_database();
    let here = start_service(&place, &cluster.url(&proxy.address()), &[]).await;
    let mut client = connect(here.address).await;
    let mut scene = Scene {
        here,
        client: client.clone(),
        proxy: Some(proxy),
        cluster,
        place,
    };
    let user = scene.user().await;
    let token = sign_in(&mut client, &user).await;
    let end = Instant::now() + SPAN;
    while Instant::now() < end {
        client.validate_session(validation(&token)).await.unwrap();
        client.validate_session(strongly(&token)).await.unwrap();
    }

    scene.cluster.promote().await;
    let (_there, mut other) = scene.on_primary().await;
    let revoked = revoke(&mut other, &token).await;
    sleep_until(revoked + BOUND).await;
    let (mut cached, mut strong) = (0, 0);
    while revoked.elapsed() < BOUND + SPAN {
        // A call may wait for the next reading of the change log.
        for (request, answers) in [(validation(&token), &mut cached), (strongly(&token), &mut strong)] {
            let status = client
                .validate_session(request)
                .await
                .expect_err("the session is valid");
            assert_unavailable(&status);
            *answers += 1;
        }
    }
    assert!(cached > 0 && strong > 0);
    eprintln!("{cached} cached and {strong} strong checks had no answer");

    scene.lead_to_primary(OldConnections::Dropped);
    let refused = async {
        loop {
            if let Err(status) = client.validate_session(validation(&token)).await
                && status.code() == Code::Unauthenticated
            {
                return;
            }
        }
    };
    tokio::time::timeout(super::scene::RECOVERY, refused)
        .await
        .expect("does not recover");
    sign_in(&mut client, &user).await;
}
