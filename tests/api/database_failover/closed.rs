//! A proxy closes the connections to the database.

use super::scene::{Scene, revoke, strongly};
use crate::support::{PASSWORD, credentials};

/// Rounds of each call.
const ROUNDS: usize = 5;

/// A connection that was used less than a second ago is not checked before its next use, so the call is the first to
/// notice. Its BEGIN fails, or its only query, and nothing was committed.
#[tokio::test]
async fn a_connection_that_was_closed_since_its_last_use_costs_no_call() {
    let Some(scene) = Scene::start(&[]).await else {
        return;
    };
    let proxy = scene.proxy.as_ref().unwrap();
    let user = scene.user().await;
    let kept = scene.session(&user).await;
    let mut client = scene.client.clone();
    for round in 0..ROUNDS {
        let token = scene.session(&user).await;
        proxy.drop_and_wait().await;
        let signed_in = client.authenticate(credentials(&user, PASSWORD)).await;
        assert!(signed_in.is_ok(), "round {round}: a sign-in: {signed_in:?}");
        proxy.drop_and_wait().await;
        let checked = client.validate_session(strongly(&kept)).await;
        assert!(checked.is_ok(), "round {round}: a STRONG check: {checked:?}");
        proxy.drop_and_wait().await;
        revoke(&mut client, &token).await;
    }
}
