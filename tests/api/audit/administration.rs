//! Events of administration, done and refused.

use phone_identity::proto::v1;
use tonic::Code;

use super::{Row, Watched, all};
use crate::support::refusal::assert_refused;
use crate::support::{OTHER_PASSWORD, Person};

fn by(row: Row, actor: &Person) -> Row {
    let row = row.by(&actor.user.user_id).session(&actor.session.session_id);
    row.on_the_device()
}

/// Every act leaves its event, and so does what was refused for want of a right.
#[tokio::test]
async fn every_action_of_administration_has_its_event() {
    let mut log = Watched::start(&[]).await;
    let (boss, other) = (log.person().await, log.person().await);
    let make = "UPDATE users SET is_superuser = TRUE WHERE id = ?";
    log.server.database.execute(make, &boss).await;
    log.seen = all(&log.server).await.into_iter().map(|(id, _)| id).collect();
    let mut admin = log.server.admin().await;
    let user_id = other.user.user_id.clone();

    let delete = v1::DeleteUserRequest {
        user_id: boss.user.user_id.clone(),
    };
    let refused = admin.delete_user(other.asks(delete.clone())).await;
    assert_refused(refused, Code::PermissionDenied, "NOT_STAFF");
    log.leaves(
        "no right",
        &[by(Row::refused("delete_user", "NOT_STAFF"), &other)],
    )
    .await;
    let refused = admin.delete_user(boss.asks(delete)).await;
    assert_refused(refused, Code::FailedPrecondition, "LAST_SUPERUSER");
    let last = by(Row::refused("delete_user", "LAST_SUPERUSER"), &boss).to(&boss.user.user_id);
    log.leaves("the last superuser", &[last]).await;
    let get = v1::GetUserRequest {
        user_id: user_id.clone(),
        ..v1::GetUserRequest::default()
    };
    admin.get_user(boss.asks(get)).await.unwrap();
    log.leaves("what only reads", &[]).await;

    let done = |action| by(Row::done(action), &boss).to(&user_id);
    for expected in [vec![done("verify_phone")], vec![]] {
        let phone = v1::PhoneToVerify {
            user_id: user_id.clone(),
            etag: String::new(),
        };
        let request = v1::VerifyPhoneRequest {
            phones: vec![phone.clone(), phone],
        };
        admin.verify_phone(boss.asks(request)).await.unwrap();
        log.leaves("VerifyPhone", &expected).await;
    }
    for ended in [1, 0] {
        let expected = [done("revoke_user_sessions").ended(ended)];
        let request = v1::RevokeUserSessionsRequest {
            user_id: user_id.clone(),
        };
        admin.revoke_user_sessions(boss.asks(request)).await.unwrap();
        log.leaves("RevokeUserSessions", &expected).await;
    }
    let request = v1::SetPasswordRequest {
        user_id: user_id.clone(),
        new_password: OTHER_PASSWORD.to_owned(),
    };
    admin.set_password(boss.asks(request)).await.unwrap();
    log.leaves("SetPassword", &[done("set_password").fields("password").ended(0)])
        .await;
    for expected in [vec![done("deactivate_user").fields("status").ended(0)], vec![]] {
        let request = v1::DeactivateUserRequest {
            user_id: user_id.clone(),
        };
        admin.deactivate_user(boss.asks(request)).await.unwrap();
        log.leaves("DeactivateUser", &expected).await;
    }
    for expected in [vec![done("reactivate_user").fields("status")], vec![]] {
        let request = v1::ReactivateUserRequest {
            user_id: user_id.clone(),
        };
        admin.reactivate_user(boss.asks(request)).await.unwrap();
        log.leaves("ReactivateUser", &expected).await;
    }
    let mut request = crate::admin::update_of(&log.server, &boss, &other).await;
    request.is_staff = Some(true);
    admin.update_user(boss.asks(request)).await.unwrap();
    log.leaves("UpdateUser", &[done("update_user").fields("is_staff")])
        .await;
    let request = v1::CreateUserRequest {
        phone_number: log.number(),
        ..v1::CreateUserRequest::default()
    };
    let made = admin
        .create_user(boss.asks(request))
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    let made = made.user.unwrap().user_id;
    log.leaves("CreateUser", &[by(Row::done("create_user"), &boss).to(&made)])
        .await;

    admin
        .delete_user(boss.asks(v1::DeleteUserRequest {
            user_id: made.clone(),
        }))
        .await
        .unwrap();
    let event = all(&log.server).await.into_iter().next_back().unwrap().1;
    assert_ne!(event.subject_id.as_ref(), Some(&made));
    let deleted = Row {
        has_request_id: false,
        ..by(Row::done("delete_user"), &boss)
    };
    log.leaves("DeleteUser", &[deleted.to(&event.subject_id.unwrap())])
        .await;
}
