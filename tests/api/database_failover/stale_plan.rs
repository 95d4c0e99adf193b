//! The prepared statements of the running service become stale.

use sea_orm::ConnectionTrait as _;

use super::deallocation::DeallocatingProxy;
use super::scene::{Scene, start_cluster, start_service, strongly};
use super::writes::Writes;
use crate::replicas::sign_in;
use crate::support::cluster::Cluster;
use crate::support::place::{Backend, Place};
use crate::support::{Client, PASSWORD, connect, credentials};

/// Calls of each kind, by which all connections are used.
const CALLS: usize = 20;

/// PostgreSQL returns 0A000 "cached plan must not change result type" for a prepared statement that selects a column
/// with a changed type. The expand step of a migration may make a column longer.
#[tokio::test]
async fn a_column_that_became_longer_fails_no_call() {
    if is_not_postgres() {
        return;
    }
    let scene = Scene::start(&[]).await.unwrap();
    // Each connection has its statements prepared.
    let writes = Writes::new(&scene.client).await;
    let token = scene.session(writes.user()).await;
    succeed(&scene.client, writes.user(), &token, "before").await;
    for column in [
        "users ALTER COLUMN phone_number TYPE VARCHAR(200)",
        "sessions ALTER COLUMN client_user_agent TYPE VARCHAR(2000)",
    ] {
        let database = Cluster::place(scene.cluster.primary()).connect().await;
        let alter = format!("ALTER TABLE {column}");
        database.execute_unprepared(&alter).await.unwrap();
        database.close().await.unwrap();
        succeed(&scene.client, writes.user(), &token, column).await;
    }
}

/// PostgreSQL answers 26000 "prepared statement does not exist".
#[tokio::test]
async fn statements_that_were_deallocated_fail_no_call() {
    if is_not_postgres() {
        return;
    }
    let cluster = start_cluster().await.unwrap();
    let proxy = DeallocatingProxy::to(cluster.primary().address()).await;
    let url = cluster.url(&proxy.address.to_string());
    let service = start_service(&Place::without_database(), &url, &[]).await;
    let client = connect(service.address).await;
    let writes = Writes::new(&client).await;
    let token = sign_in(&mut client.clone(), writes.user()).await;
    succeed(&client, writes.user(), &token, "before").await;
    for round in 1..=3 {
        proxy.deallocate_all().await;
        succeed(&client, writes.user(), &token, &format!("round {round}")).await;
    }
}

fn is_not_postgres() -> bool {
    let is_other = Backend::of_this_run() != Backend::Postgres;
    if is_other {
        eprintln!("NOT RUN: these errors are PostgreSQL's");
    }
    is_other
}

/// No call fails.
async fn succeed(client: &Client, user: &str, token: &str, name: &str) {
    let mut client = client.clone();
    for _ in 0..CALLS {
        let checked = client.validate_session(strongly(token)).await;
        assert!(checked.is_ok(), "{name}: a STRONG check: {checked:?}");
        let signed_in = client.authenticate(credentials(user, PASSWORD)).await;
        assert!(signed_in.is_ok(), "{name}: a sign-in: {signed_in:?}");
    }
}
