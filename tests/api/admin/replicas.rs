//! Changes by administration on one server are known on the others within the staleness bound.

use phone_identity::proto::v1;
use phone_identity::proto::v1::phone_identity_admin_client::PhoneIdentityAdminClient;
use tokio::time::{Instant, interval, timeout};
use tonic::Code;

use crate::replicas::{PATIENCE, check_until, sign_in};
use crate::support::binary::ServerProcess;
use crate::support::place::Place;
use crate::support::{
    OTHER_PASSWORD, PASSWORD, channel, connect, next_phone_number, registration, validation, with_bearer,
};

const SUPERUSER: &str = "+998931112233";

#[tokio::test]
async fn changes_reach_other_replicas_within_the_bound() {
    let place = Place::new().await;
    let arguments = ["createsuperuser", "--phone-number", SUPERUSER, "--password-stdin"];
    assert!(place.run(&arguments, PASSWORD).await.status.success());
    let (here, there) = (
        ServerProcess::start(&place, &[]).await,
        ServerProcess::start(&place, &[]).await,
    );
    let (mut client, mut other) = (connect(here.address).await, connect(there.address).await);
    let mut admin = PhoneIdentityAdminClient::new(channel(here.address).await);
    let root = sign_in(&mut client, SUPERUSER).await;
    for rpc in ["revoke", "deactivate", "password", "delete", "status", "flags"] {
        let registered = client
            .register(registration(&next_phone_number(), PASSWORD))
            .await;
        let registered = registered.unwrap().into_inner();
        let (user_id, token) = (registered.user.unwrap().user_id, registered.session_token);
        // A user that loses a flag.
        let get = v1::GetUserRequest {
            user_id: user_id.clone(),
            ..v1::GetUserRequest::default()
        };
        let found = admin
            .get_user(with_bearer(&root, get))
            .await
            .unwrap()
            .into_inner();
        let mut update = v1::UpdateUserRequest {
            user_id: user_id.clone(),
            etag: found.user.unwrap().etag,
            is_superuser: Some(true),
            ..v1::UpdateUserRequest::default()
        };
        let made = admin.update_user(with_bearer(&root, update.clone())).await;
        update.etag = made.unwrap().into_inner().user.unwrap().etag;
        // So that it is in memory there.
        until_superuser(&mut other, &token, true).await;
        match rpc {
            "revoke" => {
                let request = v1::RevokeUserSessionsRequest { user_id };
                let revoked = admin.revoke_user_sessions(with_bearer(&root, request)).await;
                assert_eq!(revoked.unwrap().into_inner().revoked_count, 1);
            }
            "deactivate" => {
                let request = v1::DeactivateUserRequest { user_id };
                admin.deactivate_user(with_bearer(&root, request)).await.unwrap();
            }
            "password" => {
                let request = v1::SetPasswordRequest {
                    user_id,
                    new_password: OTHER_PASSWORD.to_owned(),
                };
                admin.set_password(with_bearer(&root, request)).await.unwrap();
            }
            "delete" => {
                let request = v1::DeleteUserRequest { user_id };
                admin.delete_user(with_bearer(&root, request)).await.unwrap();
            }
            "status" => {
                update.status = v1::UserStatus::Deactivated.into();
                admin.update_user(with_bearer(&root, update)).await.unwrap();
            }
            _ => {
                update.is_superuser = Some(false);
                admin.update_user(with_bearer(&root, update)).await.unwrap();
                let acknowledged = Instant::now();
                until_superuser(&mut other, &token, false).await;
                // A check that began within the bound may return the old state. The changes of the last second are
                // read.
                assert!(acknowledged.elapsed() < PATIENCE);
                continue;
            }
        }
        check_until(&mut other, &token, Instant::now(), Code::Unauthenticated).await;
    }
}

async fn until_superuser(client: &mut crate::support::Client, token: &str, expected: bool) {
    let mut ticks = interval(std::time::Duration::from_millis(5));
    let becoming = async {
        loop {
            ticks.tick().await;
            let valid = client.validate_session(validation(token)).await.unwrap();
            if valid.into_inner().user.unwrap().is_superuser == expected {
                break;
            }
        }
    };
    timeout(PATIENCE, becoming).await.expect("is not known");
}
