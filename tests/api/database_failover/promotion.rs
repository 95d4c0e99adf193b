//! The replica is promoted, and the old primary is read-only or killed.

use tokio::time::Instant;

use super::scene::{Scene, Writes, strongly};
use super::watch::{Promise, Watch};
use crate::support::cluster::Cluster;
use crate::support::database::TestDatabase;
use crate::support::proxy::OldConnections;
use crate::support::{PASSWORD, connect, credentials};

/// Fails over with idle connections that stay open to the old primary.
#[tokio::test]
async fn idle_connections_to_a_primary_that_turned_read_only_are_replaced() {
    let name = "read-only old primary, idle";
    let Some(mut scene) = Scene::start().await else {
        return;
    };
    let writes = Writes::new(&scene.client).await;
    let user = scene.user().await;
    let [kept, before, after] = [
        scene.session(&user).await,
        scene.session(&user).await,
        scene.session(&user).await,
    ];
    scene.switch_over().await;
    let there = scene.on_primary().await;
    let mut other = connect(there.address).await;
    let watch = Watch::start(&scene.client, Promise::Always, &[&kept, &before, &after]);
    // The new primary is not reachable from here yet: the check may be UNAVAILABLE, and nothing else.
    watch.revoke(&mut other, &before).await;
    let moved = scene.lead_to_primary(OldConnections::Kept);
    watch.moved(moved);
    watch.revoke(&mut other, &after).await;
    writes.recover(name, moved).await;
    watch.settle(name).await;
}

/// Kills the primary, which closes its connections.
#[tokio::test]
async fn a_primary_that_was_killed_is_left_for_the_promoted_replica() {
    let name = "killed primary";
    let Some(mut scene) = Scene::start().await else {
        return;
    };
    let writes = Writes::new(&scene.client).await;
    let user = scene.user().await;
    let [kept, before, after] = [
        scene.session(&user).await,
        scene.session(&user).await,
        scene.session(&user).await,
    ];
    let watch = Watch::start(&scene.client, Promise::Always, &[&kept, &before, &after]);
    scene.cluster.catch_up().await;
    scene.cluster.kill_primary().await;
    scene.cluster.promote().await;
    let there = scene.on_primary().await;
    let mut other = connect(there.address).await;
    watch.revoke(&mut other, &before).await;
    let moved = scene.lead_to_primary(OldConnections::Dropped);
    watch.moved(moved);
    watch.revoke(&mut other, &after).await;
    writes.recover(name, moved).await;
    watch.settle(name).await;
}

/// A call waits for a row lock on the old primary, in the middle of its transaction, while the cluster fails over. The lock is
/// never released.
#[tokio::test]
async fn a_transaction_that_waits_on_the_old_primary_ends_and_its_connection_is_replaced() {
    let name = "read-only old primary, transaction";
    let Some(mut scene) = Scene::start().await else {
        return;
    };
    let writes = Writes::new(&scene.client).await;
    let user = scene.user().await;
    let kept = scene.session(&user).await;
    let database = TestDatabase::open(&Cluster::place(scene.cluster.primary())).await;
    scene.cluster.catch_up().await;
    let held = database.hold_writes().await;
    let mut client = scene.client.clone();
    let request = credentials(&user, PASSWORD);
    let asked = Instant::now();
    let waiting = tokio::spawn(async move { client.authenticate(request).await });
    database.somebody_waits().await;
    Cluster::set_read_only(scene.cluster.primary(), true).await;
    scene.cluster.promote().await;
    let there = scene.on_primary().await;
    let mut other = connect(there.address).await;
    let watch = Watch::start(&scene.client, Promise::Always, &[&kept]);
    let moved = scene.lead_to_primary(OldConnections::Kept);
    watch.moved(moved);
    watch.revoke(&mut other, &kept).await;
    writes.recover(name, moved).await;
    watch.settle(name).await;
    match waiting.await.unwrap() {
        // It was acknowledged, so the new primary has it.
        Ok(response) => {
            let token = response.into_inner().session_token;
            other.validate_session(strongly(&token)).await.unwrap();
            eprintln!("{name}: the waiting call succeeded after {:?}", asked.elapsed());
        }
        Err(status) => {
            super::scene::assert_unavailable(&status);
            eprintln!("{name}: the waiting call was UNAVAILABLE");
        }
    }
    drop(held);
}
