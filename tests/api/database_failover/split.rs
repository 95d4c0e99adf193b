//! The replica is promoted, and the old primary does not notice: it is cut off from the new one, and stays writable.

use sea_orm::{ConnectionTrait as _, Statement};
use tonic::Code;

use super::scene::{Scene, assert_all, revoke};
use super::watch::{Promise, Watch};
use super::writes::Writes;
use crate::replicas::check_until;
use crate::support::cluster::Cluster;
use crate::support::database_server::DatabaseServer;
use crate::support::proxy::OldConnections;
use crate::support::validation;

/// Connections stay open to the old primary.
#[tokio::test]
async fn a_primary_that_stays_writable_is_left_when_new_connections_lead_to_another_one() {
    let name = "split, old connections kept";
    let Some(mut scene) = Scene::start(&[]).await else {
        return;
    };
    let writes = Writes::new(&scene.client).await;
    let [kept, before, after] = scene.sessions().await;
    scene.cluster.catch_up().await;
    scene.cluster.promote().await;
    let (_there, mut other) = scene.on_primary().await;
    let watch = Watch::start(&scene.client, Promise::SinceMove, &[&kept, &before, &after]);
    watch.revoke(&mut other, &before).await;
    let moved = scene.lead_to_primary(OldConnections::Kept);
    watch.moved(moved);
    watch.revoke(&mut other, &after).await;
    // A write succeeds when the new primary has it.
    writes.recover_and_settle(watch, name, moved, &other).await;
}

/// Both servers write change-log entries of their own with the same numbers, so the number of an entry does not tell
/// whether it was read.
#[tokio::test]
async fn a_revocation_with_a_number_of_another_history_is_known() {
    let name = "split, histories diverge";
    let Some(mut scene) = Scene::start(&[]).await else {
        return;
    };
    let [kept, old_first, old_last] = scene.sessions().await;
    let [new_first, new_last] = scene.sessions().await;
    scene.cluster.catch_up().await;
    let (_beside, mut beside) = scene.on_primary().await;
    scene.cluster.promote().await;
    let (_there, mut other) = scene.on_primary().await;
    // The watch keeps the sessions in the cache.
    let watch = Watch::start_cached(&scene.client, Promise::SinceMove, &[&kept, &new_first, &new_last]);
    for token in [&old_first, &old_last] {
        scene.client.validate_session(validation(token)).await.unwrap();
        let acknowledged = revoke(&mut beside, token).await;
        // Then the entry of the old primary was read here.
        check_until(&mut scene.client, token, acknowledged, Code::Unauthenticated).await;
    }
    for token in [&new_first, &new_last] {
        watch.revoke(&mut other, token).await;
    }
    let [here, there] = [scene.cluster.other(), scene.cluster.primary()].map(last_seq);
    assert_eq!(here.await, there.await);
    let moved = scene.lead_to_primary(OldConnections::Dropped);
    watch.moved(moved);
    assert_all(name, &[watch.settle(name).await]);
}

/// The number of the last entry of the change log.
async fn last_seq(server: &DatabaseServer) -> i64 {
    let database = Cluster::place(server).connect().await;
    let query = Statement::from_string(database.get_database_backend(), "SELECT last_seq FROM change_log");
    let row = database.query_one_raw(query).await.unwrap();
    row.unwrap().try_get("", "last_seq").unwrap()
}
