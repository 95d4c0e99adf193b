//! Galera: each node accepts writes, and applies those of the other nodes a little later than they are acknowledged.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use super::readiness::Probe;
use super::scene::{assert_all, assert_unavailable, register, revoke, start_service, strongly};
use super::watch::{Promise, STALENESS_BOUND, Watch};
use super::writes::Writes;
use crate::replicas::{check_until, sign_in};
use crate::support::binary::ServerProcess;
use crate::support::galera::Galera;
use crate::support::place::{Backend, Place};
use crate::support::{Client, PASSWORD, connect, credentials, validation};

/// Sessions that are created and revoked through one replica and checked through the other.
const ROUNDS: usize = 50;

/// The sessions among them that cached checks use.
const CACHED_ROUNDS: usize = 10;

/// STRONG checks on a node that does not answer. Each takes as long as a statement may.
const CALLS: usize = 2;

/// Statements are abandoned sooner than by default, so that a node that does not answer costs a test less.
const STATEMENT_TIMEOUT: &str = "--database-statement-timeout=1s";

/// `None` on other backends.
async fn start_galera(nodes: usize) -> Option<Galera> {
    if Backend::of_this_run() != Backend::MySql {
        eprintln!("NOT RUN: Galera is a cluster of MySQL and MariaDB");
        return None;
    }
    Some(Galera::start(nodes).await)
}

/// A replica of the service on one node or several.
async fn start_replica(galera: &Galera, nodes: &[usize], flags: &[&str]) -> (Place, ServerProcess, Client) {
    let place = Place::without_database();
    let service = start_service(&place, &galera.url(nodes), flags).await;
    let client = connect(service.address).await;
    (place, service, client)
}

#[tokio::test]
async fn a_revocation_on_one_node_is_known_on_the_other_at_once_to_strong_checks() {
    let Some(galera) = start_galera(2).await else {
        return;
    };
    let (_place, _service, mut first) = start_replica(&galera, &[0], &[]).await;
    let (_place, _service, mut second) = start_replica(&galera, &[1], &[]).await;
    let user = register(&mut first).await;
    for round in 0..ROUNDS {
        let (here, there) = match round % 2 {
            0 => (&mut first, &mut second),
            _ => (&mut second, &mut first),
        };
        let token = sign_in(here, &user).await;
        let checked = there.validate_session(strongly(&token)).await;
        assert!(checked.is_ok(), "round {round}: valid: {checked:?}");
        revoke(here, &token).await;
        let checked = there.validate_session(strongly(&token)).await;
        let code = checked.as_ref().err().map(tonic::Status::code);
        assert_eq!(code, Some(Code::Unauthenticated), "round {round}: {checked:?}");
    }
    for _ in 0..CACHED_ROUNDS {
        let token = sign_in(&mut first, &user).await;
        second.validate_session(validation(&token)).await.unwrap();
        let acknowledged = revoke(&mut first, &token).await;
        check_until(&mut second, &token, acknowledged, Code::Unauthenticated).await;
    }
}

#[tokio::test]
async fn a_node_that_does_not_apply_is_not_believed() {
    let name = "galera, the applier is held up";
    let Some(galera) = start_galera(2).await else {
        return;
    };
    let (_place, _service, mut here) = start_replica(&galera, &[0], &[]).await;
    let (_place, _service, mut there) = start_replica(&galera, &[1], &[STATEMENT_TIMEOUT]).await;
    let user = register(&mut here).await;
    let kept = sign_in(&mut here, &user).await;
    let revoked = sign_in(&mut here, &user).await;
    for token in [&kept, &revoked] {
        there.validate_session(strongly(token)).await.unwrap();
    }
    let watch = Watch::start(&there, Promise::Always, &[&kept, &revoked]);

    let lock = galera.node(1).hold("FLUSH TABLES WITH READ LOCK").await;
    watch.revoke(&mut here, &revoked).await;
    let acknowledged = Instant::now();
    for _ in 0..CALLS {
        let checked = there.validate_session(strongly(&revoked)).await;
        assert_unavailable(&checked.unwrap_err());
    }
    assert!(
        acknowledged.elapsed() > 2 * STALENESS_BOUND,
        "the bound has not passed"
    );
    let checked = there.validate_session(validation(&revoked)).await;
    assert_unavailable(&checked.unwrap_err());

    lock.release().await;
    watch.moved(Instant::now());
    assert_all(name, &[watch.settle(name).await]);
}

#[tokio::test]
async fn another_node_of_the_url_is_used_when_one_was_killed() {
    let name = "galera, killed node";
    let Some(mut galera) = start_galera(3).await else {
        return;
    };
    let (_place, _service, here) = start_replica(&galera, &[0, 1], &[]).await;
    let (_place, _service, mut there) = start_replica(&galera, &[2], &[]).await;
    let writes = Writes::new(&here).await;
    let kept = sign_in(&mut here.clone(), writes.user()).await;
    let revoked = sign_in(&mut here.clone(), writes.user()).await;
    let watch = Watch::start(&here, Promise::Always, &[&kept, &revoked]);
    let moved = galera.kill(0).await;
    watch.moved(moved);
    let written = writes.recover(name, moved, Some(&there)).await;
    watch.revoke(&mut there, &revoked).await;
    assert_all(name, &[written, watch.settle(name).await]);
}

/// The node is partitioned from the others, which continue without it. The replica reaches it all the time.
#[tokio::test]
async fn a_node_without_quorum_answers_nothing() {
    let name = "galera, node without quorum";
    let Some(galera) = start_galera(3).await else {
        return;
    };
    let flags = ["--metrics-listen=127.0.0.1:0", STATEMENT_TIMEOUT];
    let (_place, service, mut here) = start_replica(&galera, &[0], &flags).await;
    let (_place, _service, mut there) = start_replica(&galera, &[1], &[]).await;
    let mut probe = Probe::of(&service).await;
    // It has another node to go to.
    let (_place, _service, both) = start_replica(&galera, &[0, 1], &[STATEMENT_TIMEOUT]).await;
    let (writes, other_writes) = (Writes::new(&here).await, Writes::new(&both).await);
    let kept = sign_in(&mut here, writes.user()).await;
    let revoked = sign_in(&mut here, writes.user()).await;
    let watch = Watch::start(&here, Promise::Always, &[&kept, &revoked]);
    let other_watch = Watch::start(&both, Promise::Always, &[&kept]);
    probe.turns(true, "started").await;

    galera.isolate(0, true).await;
    // Acknowledged as soon as the others have evicted the node.
    watch.revoke(&mut there, &revoked).await;
    galera.is_primary(0, false).await;
    let lost = Instant::now();
    other_watch.moved(lost);
    let recovered =
        other_writes.recover_and_settle(other_watch, "galera, other node of the URL", lost, &there);
    tokio::join!(recovered, probe.turns(false, "without quorum"));
    let begun = Instant::now();
    while begun.elapsed() < STALENESS_BOUND + Duration::from_millis(500) {
        for token in [&kept, &revoked] {
            assert_unavailable(&here.validate_session(strongly(token)).await.unwrap_err());
        }
        let signing_in = here.authenticate(credentials(writes.user(), PASSWORD)).await;
        assert_unavailable(&signing_in.unwrap_err());
    }
    for token in [&kept, &revoked] {
        assert_unavailable(&here.validate_session(validation(token)).await.unwrap_err());
    }

    galera.isolate(0, false).await;
    galera.is_primary(0, true).await;
    let moved = Instant::now();
    watch.moved(moved);
    let recovered = writes.recover_and_settle(watch, name, moved, &there);
    tokio::join!(recovered, probe.turns(true, "with quorum again"));
}
