//! Reading the audit log, by ListAuditEvents.

use std::time::Duration;

use phone_identity::proto::v1;
use prost_types::Timestamp;
use tonic::Code;

use super::Watched;
use super::erasing::write_failures;
use super::listing::user_signs_in_and_out;
use crate::support::refusal::{assert_refused, assert_violations};
use crate::support::{AdminClient, PASSWORD, Person, TestServer, credentials};

/// 2026-01-01T00:00:00Z, when the clock of a test begins.
pub(super) const BEGIN: i64 = 1_767_225_600;

pub(super) fn seconds(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn a_microsecond_after(minute: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: BEGIN + 60 * minute,
        nanos: 1_000,
    })
}

/// Returns a range of minutes of the test. The start is inclusive, and the end exclusive.
fn minutes(start: i64, end: i64) -> Option<v1::TimeRange> {
    Some(v1::TimeRange {
        start_time: seconds(BEGIN + 60 * start),
        end_time: seconds(BEGIN + 60 * end),
    })
}

pub(super) async fn page(
    client: &mut AdminClient,
    by: &Person,
    request: v1::ListAuditEventsRequest,
) -> v1::ListAuditEventsResponse {
    client
        .list_audit_events(by.asks(request))
        .await
        .unwrap()
        .into_inner()
}

/// The ids of all events, read in pages of this size, and the sizes of the pages.
async fn walk(
    client: &mut AdminClient,
    by: &Person,
    list: &v1::ListAuditEventsRequest,
    page_size: i32,
) -> (Vec<String>, Vec<usize>) {
    let (mut ids, mut sizes, mut token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let request = v1::ListAuditEventsRequest {
            page_size,
            page_token: token,
            ..list.clone()
        };
        let response = page(client, by, request).await;
        sizes.push(response.events.len());
        ids.extend(response.events.into_iter().map(|event| event.event_id));
        token = response.next_page_token;
        if token.is_empty() {
            return (ids, sizes);
        }
    }
}

#[tokio::test]
async fn events_are_filtered_by_user_action_outcome_and_time() {
    let mut log = Watched::start(&[]).await;
    let person = user_signs_in_and_out(&mut log).await;
    // A superuser signs in in the same way, in minute 4.
    let superuser = log.server.superuser().await;
    let mut client = log.server.admin().await;
    let user = || person.user.user_id.clone();
    let missing = "0199b4d0-0000-7000-8000-000000000000";
    for (request, expected) in [
        (
            v1::ListAuditEventsRequest {
                subject_id: user(),
                ..Default::default()
            },
            vec![4, 3, 1, 0],
        ),
        (
            v1::ListAuditEventsRequest {
                actor_id: user(),
                ..Default::default()
            },
            vec![4, 3, 0],
        ),
        (
            v1::ListAuditEventsRequest {
                subject_id: missing.to_owned(),
                ..Default::default()
            },
            vec![],
        ),
        (
            v1::ListAuditEventsRequest {
                action: "sign_in".to_owned(),
                ..Default::default()
            },
            vec![3, 2, 1],
        ),
        (
            v1::ListAuditEventsRequest {
                outcome: v1::AuditOutcome::Refused.into(),
                ..Default::default()
            },
            vec![2, 1],
        ),
        (
            v1::ListAuditEventsRequest {
                outcome: v1::AuditOutcome::Done.into(),
                ..Default::default()
            },
            vec![4, 4, 3, 0],
        ),
        (
            v1::ListAuditEventsRequest {
                service: "shop".to_owned(),
                ..Default::default()
            },
            vec![],
        ),
        (
            v1::ListAuditEventsRequest {
                at: minutes(1, 3),
                ..Default::default()
            },
            vec![2, 1],
        ),
        (
            v1::ListAuditEventsRequest {
                at: minutes(3, 1),
                ..Default::default()
            },
            vec![],
        ),
        // Ids are of a whole millisecond, and times are finer.
        (
            v1::ListAuditEventsRequest {
                at: Some(v1::TimeRange {
                    start_time: a_microsecond_after(1),
                    end_time: a_microsecond_after(3),
                }),
                ..Default::default()
            },
            vec![3, 2],
        ),
        // The first and the last time that there may be.
        (
            v1::ListAuditEventsRequest {
                at: Some(v1::TimeRange {
                    start_time: seconds(-62_135_596_800),
                    end_time: seconds(253_402_300_799),
                }),
                ..Default::default()
            },
            vec![4, 4, 3, 2, 1, 0],
        ),
        (
            v1::ListAuditEventsRequest {
                subject_id: user(),
                action: "sign_in".to_owned(),
                outcome: v1::AuditOutcome::Refused.into(),
                at: minutes(0, 5),
                ..Default::default()
            },
            vec![1],
        ),
    ] {
        let case = request.action.clone() + &request.subject_id;
        let found = page(&mut client, &superuser, request).await;
        let at = |event: &v1::AuditEvent| (event.at.unwrap().seconds - BEGIN) / 60;
        assert_eq!(
            found.events.iter().map(at).collect::<Vec<_>>(),
            expected,
            "{case}"
        );
        assert_eq!(found.next_page_token, "");
    }
}

/// Each event is listed once, for any page size and with new events in between.
#[tokio::test]
async fn a_long_log_is_read_page_by_page() {
    let server = TestServer::start().await;
    let (superuser, person) = (server.superuser().await, server.person().await);
    write_failures(&server, &person, 2_700).await;
    let mut client = server.admin().await;
    let list = v1::ListAuditEventsRequest {
        subject_id: person.user.user_id.clone(),
        ..v1::ListAuditEventsRequest::default()
    };
    let (all, sizes) = walk(&mut client, &superuser, &list, 1000).await;
    assert_eq!((all.len(), sizes), (2_701, vec![1000, 1000, 701]));
    assert!(all.is_sorted_by(|a, b| a > b));
    // More than the most are the most, and no number is a hundred.
    let (again, sizes) = walk(&mut client, &superuser, &list, i32::MAX).await;
    assert_eq!((again, sizes), (all.clone(), vec![1000, 1000, 701]));
    let (again, sizes) = walk(&mut client, &superuser, &list, 0).await;
    assert_eq!((&again, sizes.len()), (&all, 28));
    assert!(sizes[..27].iter().all(|size| *size == 100));

    let first = page(&mut client, &superuser, list.clone()).await;
    server.clock.advance(Duration::from_secs(60));
    let mut phone_identity = server.client().await;
    let newer = phone_identity.authenticate(credentials(&person.phone_number, PASSWORD));
    newer.await.unwrap();
    let second = v1::ListAuditEventsRequest {
        page_token: first.next_page_token,
        page_size: 3,
        ..list.clone()
    };
    let second = page(&mut client, &superuser, second).await;
    let ids: Vec<_> = second
        .events
        .iter()
        .map(|event| event.event_id.as_str())
        .collect();
    assert_eq!(ids, all[100..103]);
}

#[tokio::test]
async fn all_violations_of_the_request_are_reported_at_once() {
    let server = TestServer::start().await;
    let superuser = server.superuser().await;
    server.person().await;
    let mut client = server.admin().await;
    let bad = v1::ListAuditEventsRequest {
        page_size: -1,
        page_token: "AAAA".to_owned(),
        subject_id: "+998901234567".to_owned(),
        actor_id: "x".to_owned(),
        action: "eat".to_owned(),
        outcome: 9,
        service: "a\0b".to_owned(),
        at: Some(v1::TimeRange {
            start_time: seconds(253_402_300_800),
            end_time: Some(Timestamp {
                seconds: 0,
                nanos: -1,
            }),
        }),
    };
    assert_violations(
        client.list_audit_events(superuser.asks(bad)).await,
        &[
            ("page_size", "OUT_OF_RANGE"),
            ("subject_id", "USER_ID_INVALID"),
            ("actor_id", "USER_ID_INVALID"),
            ("action", "ENUM_VALUE_UNKNOWN"),
            ("outcome", "ENUM_VALUE_UNKNOWN"),
            ("service", "SERVICE_NAME_INVALID"),
            ("at.start_time", "TIME_INVALID"),
            ("at.end_time", "TIME_INVALID"),
            ("page_token", "PAGE_TOKEN_INVALID"),
        ],
    );
    let long = v1::ListAuditEventsRequest {
        service: "ш".repeat(129),
        ..v1::ListAuditEventsRequest::default()
    };
    assert_violations(
        client.list_audit_events(superuser.asks(long)).await,
        &[("service", "SERVICE_NAME_INVALID")],
    );
    let longest = v1::ListAuditEventsRequest {
        service: "ш".repeat(128),
        ..v1::ListAuditEventsRequest::default()
    };
    assert!(page(&mut client, &superuser, longest).await.events.is_empty());
    // A token of this list, but with another filter.
    let first = v1::ListAuditEventsRequest {
        page_size: 1,
        ..v1::ListAuditEventsRequest::default()
    };
    let token = page(&mut client, &superuser, first).await.next_page_token;
    assert_ne!(token, "");
    let other = v1::ListAuditEventsRequest {
        page_token: token,
        action: "register".to_owned(),
        ..v1::ListAuditEventsRequest::default()
    };
    assert_violations(
        client.list_audit_events(superuser.asks(other)).await,
        &[("page_token", "PAGE_TOKEN_INVALID")],
    );
}

/// A caller without the right learns nothing about the request, and reading leaves no event.
#[tokio::test]
async fn only_superusers_read_it() {
    let server = TestServer::start().await;
    let (superuser, staff, person) = (
        server.superuser().await,
        server.staff().await,
        server.person().await,
    );
    let mut client = server.admin().await;
    let events = server.database.count("audit_events").await;
    for page_size in [0, -1] {
        let request = v1::ListAuditEventsRequest {
            page_size,
            ..v1::ListAuditEventsRequest::default()
        };
        let outcome = client.list_audit_events(staff.asks(request.clone())).await;
        assert_refused(outcome, Code::PermissionDenied, "NOT_SUPERUSER");
        let outcome = client.list_audit_events(person.asks(request.clone())).await;
        assert_refused(outcome, Code::PermissionDenied, "NOT_STAFF");
        let outcome = client.list_audit_events(request).await;
        assert_refused(outcome, Code::Unauthenticated, "SESSION_INVALID");
    }
    page(&mut client, &superuser, v1::ListAuditEventsRequest::default()).await;
    assert_eq!(server.database.count("audit_events").await, events);
}
