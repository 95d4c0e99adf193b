//! Sessions that administration revokes, and users that it deactivates, reactivates and deletes.

use phone_identity::proto::v1;
use tonic::Code;

use super::changes::{assert_dead, id_of};
use crate::admin::{get, update_of};
use crate::support::refusal::assert_refused;
use crate::support::{OTHER_PASSWORD, PASSWORD, TestServer, credentials, registration, validation};

#[tokio::test]
async fn all_sessions_of_a_user_end_and_no_others() {
    let server = TestServer::start().await;
    let (staff, person, bystander) = (server.staff().await, server.person().await, server.person().await);
    let again = person.sign_in_again(&server).await;
    let mut client = server.admin().await;
    let mut identity = server.client().await;
    // So that they are in memory.
    identity.validate_session(validation(&again.token)).await.unwrap();
    for expected in [2, 0] {
        let request = v1::RevokeUserSessionsRequest {
            user_id: id_of(&person),
        };
        let revoked = client.revoke_user_sessions(staff.asks(request)).await.unwrap();
        assert_eq!(revoked.into_inner().revoked_count, expected);
    }
    assert_dead(&server, &person.token).await;
    assert_dead(&server, &again.token).await;
    identity
        .validate_session(validation(&bystander.token))
        .await
        .unwrap();
    person.sign_in_again(&server).await;
}

#[tokio::test]
async fn a_user_that_administration_deactivated_is_reactivated_only_by_administration() {
    let server = TestServer::start().await;
    let (root, staff, person) = (
        server.superuser().await,
        server.staff().await,
        server.person().await,
    );
    let mut client = server.admin().await;
    let mut identity = server.client().await;
    let deactivate = || v1::DeactivateUserRequest {
        user_id: id_of(&person),
    };
    let gone = client.deactivate_user(staff.asks(deactivate())).await.unwrap();
    let gone = gone.into_inner().user.unwrap();
    assert_eq!(gone.user.as_ref().unwrap().status(), v1::UserStatus::Deactivated);
    assert!(gone.deactivated_by_admin);
    assert_dead(&server, &person.token).await;
    let mut back = credentials(&person.phone_number, PASSWORD);
    for reactivate in [false, true] {
        back.reactivate = reactivate;
        let refused = identity.authenticate(back.clone()).await;
        assert_refused(refused, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
    }
    // A caller without the password does not learn of it.
    let mut wrong = credentials(&person.phone_number, OTHER_PASSWORD);
    wrong.reactivate = true;
    let refused = identity.authenticate(wrong).await;
    assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
    let again = client.deactivate_user(staff.asks(deactivate())).await.unwrap();
    assert_eq!(again.into_inner().user.unwrap(), gone);

    let reactivate = v1::ReactivateUserRequest {
        user_id: id_of(&person),
    };
    let returned = client.reactivate_user(root.asks(reactivate)).await.unwrap();
    let returned = returned.into_inner().user.unwrap();
    assert_eq!(returned.user.as_ref().unwrap().status(), v1::UserStatus::Active);
    assert!(!returned.deactivated_by_admin);
    // The reactivation does not restore the old session.
    assert_dead(&server, &person.token).await;
    back.reactivate = false;
    identity.authenticate(back).await.unwrap();
}

#[tokio::test]
async fn a_user_that_deactivated_the_account_reactivates_it_until_administration_deactivates_it() {
    let server = TestServer::start().await;
    let (root, person) = (server.superuser().await, server.person().await);
    let mut client = server.admin().await;
    let mut identity = server.client().await;
    let leave = v1::DeactivateProfileRequest::default();
    identity
        .deactivate_profile(person.asks(leave.clone()))
        .await
        .unwrap();
    assert!(!get(&server, &root, &person).await.deactivated_by_admin);
    // A form that sends everything as it was changes nothing.
    let same = v1::UpdateUserRequest {
        status: v1::UserStatus::Deactivated.into(),
        ..update_of(&server, &root, &person).await
    };
    let same = client.update_user(root.asks(same)).await.unwrap().into_inner();
    assert!(!same.user.unwrap().deactivated_by_admin);
    let mut back = credentials(&person.phone_number, PASSWORD);
    back.reactivate = true;
    let returned = identity.authenticate(back.clone()).await.unwrap().into_inner();
    let leave = crate::support::with_bearer(&returned.session_token, leave);
    identity.deactivate_profile(leave).await.unwrap();

    let deactivate = v1::DeactivateUserRequest {
        user_id: id_of(&person),
    };
    let gone = client.deactivate_user(root.asks(deactivate)).await.unwrap();
    assert!(gone.into_inner().user.unwrap().deactivated_by_admin);
    let refused = identity.authenticate(back.clone()).await;
    assert_refused(refused, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
    // A status of UpdateUser does what the RPCs do.
    let active = v1::UpdateUserRequest {
        status: v1::UserStatus::Active.into(),
        ..update_of(&server, &root, &person).await
    };
    client.update_user(root.asks(active)).await.unwrap();
    let returned = identity.authenticate(back.clone()).await.unwrap().into_inner();
    let deactivated = v1::UpdateUserRequest {
        status: v1::UserStatus::Deactivated.into(),
        ..update_of(&server, &root, &person).await
    };
    let gone = client.update_user(root.asks(deactivated)).await.unwrap();
    assert!(gone.into_inner().user.unwrap().deactivated_by_admin);
    assert_dead(&server, &returned.session_token).await;
    let refused = identity.authenticate(back).await;
    assert_refused(refused, Code::FailedPrecondition, "ACCOUNT_DEACTIVATED");
}

#[tokio::test]
async fn a_deleted_user_is_gone_and_the_number_is_free() {
    let server = TestServer::start().await;
    let (root, person) = (server.superuser().await, server.person().await);
    let mut client = server.admin().await;
    let delete = || v1::DeleteUserRequest {
        user_id: id_of(&person),
    };
    let in_the_log = "SELECT 1 FROM audit_events WHERE subject_id = ?";
    assert!(server.database.knows(in_the_log, &person).await);
    client.delete_user(root.asks(delete())).await.unwrap();
    assert!(!server.database.knows(in_the_log, &person).await);
    assert_dead(&server, &person.token).await;
    let again = client.delete_user(root.asks(delete())).await;
    assert_refused(again, Code::NotFound, "USER_NOT_FOUND");
    assert_eq!(server.database.sessions_of(&person).await, 0);
    let new = server
        .client()
        .await
        .register(registration(&person.phone_number, PASSWORD))
        .await;
    assert_ne!(
        new.unwrap().into_inner().user.unwrap().user_id,
        person.user.user_id
    );
}
