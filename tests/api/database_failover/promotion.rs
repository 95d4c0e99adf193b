//! The replica is promoted, and the old primary is read-only or killed.

use tokio::time::Instant;

use super::scene::{Scene, assert_all, assert_unavailable, strongly};
use super::watch::{Promise, Watch};
use super::writes::Writes;
use crate::support::cluster::Cluster;
use crate::support::database::TestDatabase;
use crate::support::proxy::OldConnections;
use crate::support::{PASSWORD, credentials};

/// Connections are idle, and stay open to the old primary.
#[tokio::test]
async fn idle_connections_to_a_primary_that_turned_read_only_are_replaced() {
    let name = "read-only old primary, idle";
    let Some(mut scene) = Scene::start(&[]).await else {
        return;
    };
    let writes = Writes::new(&scene.client).await;
    let [kept, before, after] = scene.sessions().await;
    scene.switch_over().await;
    let (_there, mut other) = scene.on_primary().await;
    let watch = Watch::start(&scene.client, Promise::Always, &[&kept, &before, &after]);
    // The new primary is not reachable from here yet: a check may be UNAVAILABLE, and nothing else.
    watch.revoke(&mut other, &before).await;
    let moved = scene.lead_to_primary(OldConnections::Kept);
    watch.moved(moved);
    watch.revoke(&mut other, &after).await;
    writes.recover_and_settle(watch, name, moved, &other).await;
}

/// Connections are busy, and stay open to the old primary.
#[tokio::test]
async fn busy_connections_to_a_primary_that_turned_read_only_are_replaced() {
    let name = "read-only old primary, busy";
    let Some(mut scene) = Scene::start(&[]).await else {
        return;
    };
    let writes = Writes::new(&scene.client).await;
    let [kept, before, after] = scene.sessions().await;
    let mut users = Vec::new();
    for _ in 0..4 {
        users.push(scene.user().await);
    }
    let watch = Watch::start(&scene.client, Promise::Always, &[&kept, &before, &after]);
    let load = watch.load(&scene.client, &users);
    load.goes_on(100).await;
    scene.switch_over().await;
    let (_there, mut other) = scene.on_primary().await;
    watch.revoke(&mut other, &before).await;
    let moved = scene.lead_to_primary(OldConnections::Kept);
    watch.moved(moved);
    watch.revoke(&mut other, &after).await;
    let written = writes.recover(name, moved, Some(&other)).await;
    load.stop().await;
    assert_all(name, &[written, watch.settle(name).await]);
}

/// A call waits for a lock on the old primary, in the middle of its transaction, while the cluster fails over. The lock
/// is never released.
#[tokio::test]
async fn a_transaction_that_waits_on_the_old_primary_ends_and_its_connection_is_replaced() {
    let name = "read-only old primary, transaction";
    let Some(mut scene) = Scene::start(&[]).await else {
        return;
    };
    let writes = Writes::new(&scene.client).await;
    let user = scene.user().await;
    let kept = scene.session(&user).await;
    let revoked = scene.session(&user).await;
    let database = TestDatabase::open(&Cluster::place(scene.cluster.primary())).await;
    scene.cluster.catch_up().await;
    let held = database.hold_writes().await;
    let mut client = scene.client.clone();
    let request = credentials(&user, PASSWORD);
    let asked = Instant::now();
    let waiting = tokio::spawn(async move { (client.authenticate(request).await, asked.elapsed()) });
    database.lock_is_awaited().await;
    Cluster::set_read_only(scene.cluster.primary(), true).await;
    scene.cluster.promote().await;
    let (_there, mut other) = scene.on_primary().await;
    let watch = Watch::start(&scene.client, Promise::Always, &[&kept, &revoked]);
    let moved = scene.lead_to_primary(OldConnections::Kept);
    watch.moved(moved);
    watch.revoke(&mut other, &revoked).await;
    let (written, settled) = tokio::join!(writes.recover(name, moved, Some(&other)), watch.settle(name));
    let (answer, after) = waiting.await.unwrap();
    drop(held);
    eprintln!(
        "{name}: the call that waited was answered after {after:?}: {:?}",
        answer.as_ref().map(drop).map_err(tonic::Status::code)
    );
    match answer {
        // It was acknowledged, so the new primary has it.
        Ok(response) => {
            let token = response.into_inner().session_token;
            other.validate_session(strongly(&token)).await.unwrap();
        }
        Err(status) => assert_unavailable(&status),
    }
    assert_all(name, &[written, settled]);
}

/// The primary is killed, which closes its connections.
#[tokio::test]
async fn a_primary_that_was_killed_is_left_for_the_promoted_replica() {
    let name = "killed primary";
    let Some(mut scene) = Scene::start(&[]).await else {
        return;
    };
    let writes = Writes::new(&scene.client).await;
    let [kept, before, after] = scene.sessions().await;
    let watch = Watch::start(&scene.client, Promise::Always, &[&kept, &before, &after]);
    scene.cluster.catch_up().await;
    scene.cluster.kill_primary().await;
    scene.cluster.promote().await;
    let (_there, mut other) = scene.on_primary().await;
    watch.revoke(&mut other, &before).await;
    let moved = scene.lead_to_primary(OldConnections::Dropped);
    watch.moved(moved);
    watch.revoke(&mut other, &after).await;
    writes.recover_and_settle(watch, name, moved, &other).await;
}
