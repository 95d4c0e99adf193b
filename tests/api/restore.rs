//! A restored database: it has the state of the backup, and no cache keeps newer state.

use phone_identity::proto::v1;
use tonic::Code;

use crate::revocation::until_invalid;
use crate::support::binary::ServerProcess;
use crate::support::database::TestDatabase;
use crate::support::native;
use crate::support::place::{Backend, Place};
use crate::support::refusal::assert_refused;
use crate::support::{
    Client, OTHER_PASSWORD, PASSWORD, connect, credentials, registration, validation, with_bearer,
};

const KEPT: &str = "+998901234567";
const DELETED: &str = "+998901234568";
const NEW: &str = "+998901234569";

async fn register(client: &mut Client, number: &str) -> String {
    let registered = client.register(registration(number, PASSWORD)).await.unwrap();
    registered.into_inner().session_token
}

async fn sign_in(client: &mut Client, number: &str) -> String {
    let signed_in = client.authenticate(credentials(number, PASSWORD)).await.unwrap();
    signed_in.into_inner().session_token
}

/// The epoch of the change log, as the database has it.
pub(crate) async fn epoch(place: &Place) -> String {
    let dump = TestDatabase::open(place).await.dump().await;
    let epoch = dump
        .lines()
        .find_map(|line| line.strip_prefix("change_log.epoch="));
    epoch.unwrap().to_owned()
}

async fn after_restore(place: &Place) {
    let output = place.run(&["after-restore"], "").await;
    assert!(output.status.success(), "{output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.starts_with("the change log has a new epoch: "), "{stdout}");
}

#[tokio::test]
async fn a_restore_has_exactly_the_data_of_the_backup() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &[]).await;
    let mut client = connect(server.address).await;
    let kept = register(&mut client, KEPT).await;
    let revoked = sign_in(&mut client, KEPT).await;
    let deleted = register(&mut client, DELETED).await;
    let first_epoch = epoch(&place).await;

    let backup = native::back_up(&place).await;

    let new = register(&mut client, NEW).await;
    let newest = sign_in(&mut client, KEPT).await;
    let revoke = v1::RevokeSessionRequest {
        session_token: revoked.clone(),
    };
    client.revoke_session(revoke).await.unwrap();
    let delete = v1::DeleteProfileRequest {
        current_password: Some(PASSWORD.to_owned()),
    };
    client
        .delete_profile(with_bearer(&deleted, delete))
        .await
        .unwrap();
    let changed = place
        .run(&["changepassword", NEW, "--password-stdin"], OTHER_PASSWORD)
        .await;
    assert!(changed.status.success(), "{changed:?}");
    // Not even an orderly end.
    server.signal("KILL");
    server.ended().await;

    // Put back twice: the second time over what has been served from it.
    for _ in 0..2 {
        native::restore(&place, &backup);
        after_restore(&place).await;
        let server = ServerProcess::start(&place, &[]).await;
        let mut client = connect(server.address).await;
        for token in [&kept, &revoked, &deleted] {
            client.validate_session(validation(token)).await.unwrap();
        }
        for token in [&new, &newest] {
            let unknown = client.validate_session(validation(token)).await;
            assert_refused(unknown, Code::Unauthenticated, "SESSION_INVALID");
        }
        sign_in(&mut client, KEPT).await;
        sign_in(&mut client, DELETED).await;
        register(&mut client, NEW).await;
        server.terminate();
        assert_eq!(server.ended().await.0, Some(0));
    }
    assert_ne!(epoch(&place).await, first_epoch);
}

/// The worst case: a sign-in is not in the change log, so its numbers do not tell that it was undone.
#[tokio::test]
async fn a_running_process_forgets_what_a_restore_undid() {
    let place = Place::new().await;
    let server = ServerProcess::start(&place, &["--staleness-bound=1h"]).await;
    let mut client = connect(server.address).await;
    register(&mut client, KEPT).await;
    let backup = native::back_up(&place).await;
    let undone = sign_in(&mut client, KEPT).await;
    client.validate_session(validation(&undone)).await.unwrap();

    native::restore(&place, &backup);

    // A backup of this program is marked as one.
    if Backend::of_this_run() != Backend::Sqlite {
        // The purpose of the command: only the cache knows that this session is valid.
        client.validate_session(validation(&undone)).await.unwrap();
        after_restore(&place).await;
    }
    until_invalid(&mut client, &undone).await;
    let token = sign_in(&mut client, KEPT).await;
    client.validate_session(validation(&token)).await.unwrap();
}
