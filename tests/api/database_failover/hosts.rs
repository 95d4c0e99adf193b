//! The URL of the database has the addresses of both servers, and there is no proxy.

use tokio::time::Instant;

use super::scene::Scene;
use super::watch::{Promise, Watch};
use super::writes::Writes;

/// The old primary stays open and read-only.
#[tokio::test]
async fn the_writable_host_of_the_url_is_found_when_the_other_one_turns_read_only() {
    let Some(mut scene) = Scene::start_with_hosts().await else {
        return;
    };
    let writes = Writes::new(&scene.client).await;
    let [kept, revoked] = scene.sessions().await;
    let watch = Watch::start(&scene.client, Promise::Always, &[&kept, &revoked]);
    scene.switch_over().await;
    let moved = Instant::now();
    follows(
        &scene,
        watch,
        &writes,
        &revoked,
        "hosts, read-only old primary",
        moved,
    )
    .await;
}

/// The old primary is killed.
#[tokio::test]
async fn the_writable_host_of_the_url_is_found_when_the_other_one_was_killed() {
    let Some(mut scene) = Scene::start_with_hosts().await else {
        return;
    };
    let writes = Writes::new(&scene.client).await;
    let [kept, revoked] = scene.sessions().await;
    let watch = Watch::start(&scene.client, Promise::Always, &[&kept, &revoked]);
    scene.cluster.catch_up().await;
    scene.cluster.kill_primary().await;
    scene.cluster.promote().await;
    let moved = Instant::now();
    follows(&scene, watch, &writes, &revoked, "hosts, killed primary", moved).await;
}

/// The replica writes to the new primary, and knows what is revoked there.
async fn follows(scene: &Scene, watch: Watch, writes: &Writes, revoked: &str, name: &str, moved: Instant) {
    watch.moved(moved);
    let (_there, mut other) = scene.on_primary().await;
    watch.revoke(&mut other, revoked).await;
    writes.recover_and_settle(watch, name, moved, &other).await;
}
