//! A migration beside the running service makes its prepared statements stale.

use super::scene::{Scene, strongly};
use super::writes::Writes;
use crate::support::cluster::Cluster;
use crate::support::place::Backend;
use crate::support::{PASSWORD, credentials};

/// PostgreSQL answers 0A000 "cached plan must not change result type" to a prepared statement that selects a column whose type
/// has changed. The expand step of a migration may make a column longer.
#[tokio::test]
async fn a_column_that_became_longer_fails_no_call() {
    if Backend::of_this_run() != Backend::Postgres {
        eprintln!("NOT RUN: only PostgreSQL refuses a statement whose result type has changed");
        return;
    }
    let scene = Scene::start(&[]).await.unwrap();
    // Each connection has its statements prepared.
    let _writes = Writes::new(&scene.client).await;
    let user = scene.user().await;
    let token = scene.session(&user).await;
    let mut client = scene.client.clone();
    for _ in 0..20 {
        client.validate_session(strongly(&token)).await.unwrap();
    }
    for column in [
        "users ALTER COLUMN phone_number TYPE VARCHAR(200)",
        "sessions ALTER COLUMN client_user_agent TYPE VARCHAR(2000)",
    ] {
        let database = Cluster::place(scene.cluster.primary()).connect().await;
        let alter = format!("ALTER TABLE {column}");
        sea_orm::ConnectionTrait::execute_unprepared(&database, &alter)
            .await
            .unwrap();
        database.close().await.unwrap();
        for _ in 0..20 {
            let checked = client.validate_session(strongly(&token)).await;
            assert!(checked.is_ok(), "a STRONG check after {column}: {checked:?}");
            let signed_in = client.authenticate(credentials(&user, PASSWORD)).await;
            assert!(signed_in.is_ok(), "a sign-in after {column}: {signed_in:?}");
        }
    }
}
