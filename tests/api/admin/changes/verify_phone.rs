//! VerifyPhone: staff verify the numbers of up to a hundred users at once.

use std::time::Duration;

use phone_identity::proto::v1;

use super::{UNKNOWN, id_of};
use crate::admin::get;
use crate::support::refusal::assert_violations;
use crate::support::{TestServer, validation};

fn phones(phones: &[(&str, &str)]) -> v1::VerifyPhoneRequest {
    v1::VerifyPhoneRequest {
        phones: phones
            .iter()
            .map(|(user_id, etag)| v1::PhoneToVerify {
                user_id: (*user_id).to_owned(),
                etag: (*etag).to_owned(),
            })
            .collect(),
    }
}

#[tokio::test]
async fn a_rejected_number_does_not_stop_the_verification_of_others() {
    let server = TestServer::start().await;
    let (staff, superuser) = (server.staff().await, server.superuser().await);
    let people = [
        server.person().await,
        server.person().await,
        server.person().await,
    ];
    let mut client = server.admin().await;
    let [first, second, third] = people.each_ref().map(id_of);
    let early = client
        .verify_phone(staff.asks(phones(&[(&second, "")])))
        .await
        .unwrap();
    let early = early.into_inner().users.remove(0).user.unwrap().phone_verified_at;
    assert!(early.is_some());
    server.clock.advance(Duration::from_secs(60));
    let etag = get(&server, &superuser, &people[0]).await.etag;
    let request = phones(&[
        (&third, "stale"),
        (UNKNOWN, ""),
        (&first, &etag),
        (&superuser.user.user_id, ""),
        (&second, ""),
        (&first, ""),
        (&staff.user.user_id, ""),
    ]);
    let answer = client
        .verify_phone(staff.asks(request))
        .await
        .unwrap()
        .into_inner();
    let verified: Vec<(String, Option<prost_types::Timestamp>)> = answer
        .users
        .iter()
        .map(|managed| managed.user.clone().unwrap())
        .map(|user| (user.user_id, user.phone_verified_at))
        .collect();
    let [(a, a_time), (b, b_time)] = verified.as_slice() else {
        panic!("{verified:?}")
    };
    assert_eq!((a, b), (&first, &second));
    // It has been verified since then, and is not verified anew.
    assert_eq!(*b_time, early);
    assert_eq!(a_time.unwrap().seconds, early.unwrap().seconds + 60);
    let refusals: Vec<(&str, v1::ErrorReason)> = answer
        .refusals
        .iter()
        .map(|refusal| (refusal.user_id.as_str(), refusal.reason()))
        .collect();
    assert_eq!(
        refusals,
        [
            (third.as_str(), v1::ErrorReason::EtagMismatch),
            (UNKNOWN, v1::ErrorReason::UserNotFound),
            (superuser.user.user_id.as_str(), v1::ErrorReason::UserNotFound),
            (staff.user.user_id.as_str(), v1::ErrorReason::UserNotFound),
        ]
    );
    // The response has the stored time, and so has the session.
    assert_eq!(get(&server, &superuser, &people[0]).await, answer.users[0]);
    let valid = server
        .client()
        .await
        .validate_session(validation(&people[0].token))
        .await;
    assert_eq!(
        valid.unwrap().into_inner().user.unwrap().phone_verified_at,
        *a_time
    );
    assert!(
        get(&server, &superuser, &people[2])
            .await
            .user
            .unwrap()
            .phone_verified_at
            .is_none()
    );
}

#[tokio::test]
async fn at_most_a_hundred_phones_are_verified_at_once() {
    let server = TestServer::start().await;
    let staff = server.staff().await;
    let mut client = server.admin().await;
    let many = |count| phones(&vec![(UNKNOWN, ""); count]);
    for (request, violation) in [
        (many(0), ("phones", "REQUIRED")),
        (many(101), ("phones", "TOO_MANY_ITEMS")),
        (
            phones(&[(UNKNOWN, ""), ("", "")]),
            ("phones[1].user_id", "REQUIRED"),
        ),
        (phones(&[("x", "")]), ("phones[0].user_id", "USER_ID_INVALID")),
    ] {
        assert_violations(client.verify_phone(staff.asks(request)).await, &[violation]);
    }
    let answer = client
        .verify_phone(staff.asks(many(100)))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((answer.users.len(), answer.refusals.len()), (0, 1));
}

/// VerifyPhone verifies the number that the staff member saw, or none.
#[tokio::test]
async fn a_number_that_changed_in_the_meantime_is_not_verified() {
    let server = TestServer::start().await;
    let (staff, person) = (server.staff().await, server.person().await);
    let etag = get(&server, &staff, &person).await.etag;
    let change = v1::UpdateProfileRequest {
        new_phone_number: Some("+998712345678".to_owned()),
        ..v1::UpdateProfileRequest::default()
    };
    server
        .client()
        .await
        .update_profile(person.asks(change))
        .await
        .unwrap();
    let request = phones(&[(&person.user.user_id, &etag)]);
    let answer = server.admin().await.verify_phone(staff.asks(request)).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(answer.refusals[0].reason(), v1::ErrorReason::EtagMismatch);
    let shown = get(&server, &staff, &person).await.user.unwrap();
    assert_eq!(shown.phone_verified_at, None);
}
