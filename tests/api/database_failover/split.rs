//! The replica is promoted, and the old primary does not notice: it is cut off from the new one, and stays writable.

use sea_orm::{ConnectionTrait as _, Statement};

use super::scene::{Scene, assert_all, revoke};
use super::watch::{Promise, Watch};
use super::writes::Writes;
use crate::support::cluster::Cluster;
use crate::support::database_server::DatabaseServer;
use crate::support::proxy::OldConnections;

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

/// Both servers write change-log entries of their own with the same numbers, so the number of an entry does not tell whether
/// it was read.
#[tokio::test]
async fn a_revocation_whose_number_was_read_from_another_history_is_known() {
    let name = "split, histories diverge";
    let Some(mut scene) = Scene::start(&[]).await else {
        return;
    };
    let writes = Writes::new(&scene.client).await;
    let [kept, ended_here, ended_here_too] = scene.sessions().await;
    let [ended_there, ended_there_too] = scene.sessions().await;
    scene.cluster.catch_up().await;
    scene.cluster.promote().await;
    let (_there, mut other) = scene.on_primary().await;
    // The watch keeps the sessions in the cache.
    let watched = [&kept, &ended_there, &ended_there_too];
    let watch = Watch::start_cached(&scene.client, Promise::SinceMove, &watched);
    for token in [&ended_here, &ended_here_too] {
        revoke(&mut scene.client.clone(), token).await;
    }
    for token in [&ended_there, &ended_there_too] {
        watch.revoke(&mut other, token).await;
    }
    let [here, there] = [scene.cluster.other(), scene.cluster.primary()].map(last_seq);
    assert_eq!(here.await, there.await);
    let moved = scene.lead_to_primary(OldConnections::Dropped);
    watch.moved(moved);
    let settled = watch.settle(name).await;
    let written = writes.recover(name, moved, Some(&other)).await;
    assert_all(name, &[settled, written]);
}

/// The number of the last entry of the change log.
async fn last_seq(server: &DatabaseServer) -> i64 {
    let database = Cluster::place(server).connect().await;
    let query = Statement::from_string(database.get_database_backend(), "SELECT last_seq FROM change_log");
    let row = database.query_one_raw(query).await.unwrap();
    row.unwrap().try_get("", "last_seq").unwrap()
}
