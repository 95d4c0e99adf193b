//! Fields of the events that ListAuditEvents returns.

use phone_identity::proto::v1;
use sea_orm::Value;
use uuid::Uuid;

use super::events::{BEGIN, page, seconds};
use crate::audit::listing::{json, user_signs_in_and_out};
use crate::audit::{DEVICE, Watched, deletion};
use crate::support::{PASSWORD, TestServer};

/// The fields of an event are those of the command and of the call.
#[tokio::test]
async fn an_event_has_all_known_fields() {
    let mut log = Watched::start(&[]).await;
    let person = user_signs_in_and_out(&mut log).await;
    let superuser = log.server.superuser().await;
    let mut client = log.server.admin().await;
    let events = page(&mut client, &superuser, v1::ListAuditEventsRequest::default())
        .await
        .events;
    let shown = json(&log.server, &[]).await;
    assert_eq!(events.len(), shown.len());
    for (event, shown) in events.iter().zip(&shown) {
        assert_eq!(shown["eventId"], event.event_id.as_str());
        assert_eq!(shown["requestId"], event.request_id.as_str());
        assert_eq!(shown["action"], event.action.as_str());
    }
    let user = person.user.user_id.clone();
    let registered = &events[5];
    let expected = v1::AuditEvent {
        event_id: registered.event_id.clone(),
        at: seconds(BEGIN),
        action: "register".to_owned(),
        outcome: v1::AuditOutcome::Done.into(),
        actor: v1::AuditActor::User.into(),
        actor_id: user.clone(),
        subject_id: user.clone(),
        session_id: person.session.session_id.clone(),
        client: Some(v1::ClientInfo {
            ip_address: super::ADDRESS.to_owned(),
            user_agent: DEVICE.to_owned(),
        }),
        request_id: registered.request_id.clone(),
        occurrences: 1,
        ..v1::AuditEvent::default()
    };
    assert_eq!(*registered, expected);
    assert!(!registered.request_id.is_empty());
    let failed = &events[4];
    let expected = v1::AuditEvent {
        event_id: failed.event_id.clone(),
        at: seconds(BEGIN + 60),
        action: "sign_in".to_owned(),
        outcome: v1::AuditOutcome::Refused.into(),
        reason: "INVALID_CREDENTIALS".to_owned(),
        actor: v1::AuditActor::Nobody.into(),
        subject_id: user,
        request_id: failed.request_id.clone(),
        occurrences: 1,
        ..v1::AuditEvent::default()
    };
    assert_eq!(*failed, expected);
    // Signing in counts what it ended, and nothing else here does.
    let ended: Vec<_> = events.iter().map(|event| event.ended_sessions).collect();
    assert_eq!(ended, [None, None, Some(0), None, None, None]);
}

#[tokio::test]
async fn events_include_operator_actions_and_changed_fields() {
    let log = Watched::start(&[]).await;
    let superuser = log.server.superuser().await;
    let person = log.server.person().await;
    let verified = log
        .server
        .place
        .run(&["users", "verify", &person.user.user_id], "")
        .await;
    assert!(verified.status.success(), "{verified:?}");
    let update = v1::UpdateProfileRequest {
        locale: Some("uz".to_owned()),
        ..super::update(Some(PASSWORD))
    };
    log.client
        .clone()
        .update_profile(person.asks(update))
        .await
        .unwrap();
    let mut client = log.server.admin().await;
    let list = v1::ListAuditEventsRequest {
        subject_id: person.user.user_id.clone(),
        ..v1::ListAuditEventsRequest::default()
    };
    let events = page(&mut client, &superuser, list).await.events;
    let of = |action| events.iter().find(|event| event.action == action).unwrap();
    let (verified, updated) = (of("verify_phone"), of("update_profile"));
    assert_eq!(verified.actor(), v1::AuditActor::Operator);
    assert_eq!(
        (verified.actor_id.as_str(), verified.request_id.as_str()),
        ("", "")
    );
    assert_eq!(verified.client, None);
    assert_eq!(updated.fields, ["locale"]);
}

#[tokio::test]
async fn no_event_names_a_deleted_user() {
    let mut log = Watched::start(&[]).await;
    let superuser = log.server.superuser().await;
    let person = log.person().await;
    let mut phone_identity = log.client.clone();
    let delete = phone_identity.delete_profile(person.asks(deletion(Some(PASSWORD))));
    delete.await.unwrap();
    let mut client = log.server.admin().await;
    let all = page(&mut client, &superuser, v1::ListAuditEventsRequest::default()).await;
    let of_person: Vec<_> = all
        .events
        .iter()
        .filter(|event| event.subject_id != superuser.user.user_id)
        .collect();
    assert_eq!(of_person.len(), 2);
    for event in of_person {
        assert_ne!(event.subject_id, person.user.user_id);
        assert_eq!(event.actor_id, event.subject_id);
        assert_eq!((event.session_id.as_str(), event.request_id.as_str()), ("", ""));
        assert_eq!(event.client, None);
    }
}

/// For example during a rolling upgrade.
#[tokio::test]
async fn events_of_a_newer_version_are_shown_without_unknown_values() {
    let server = TestServer::start().await;
    let superuser = server.superuser().await;
    let insert = "INSERT INTO audit_events (id, at, action, outcome, reason, actor, service) \
                  VALUES (?, ?, 'teleport', 'undecided', 'NO_SUCH_REASON', 'machine', 'shop')";
    let at = chrono::DateTime::from_timestamp(BEGIN + 1, 0).unwrap();
    let id = uuid::Builder::from_unix_timestamp_millis(1_767_225_601_000, &[7; 10]).into_uuid();
    server
        .database
        .execute_with(insert, vec![Value::from(id), Value::from(at)])
        .await;
    let mut client = server.admin().await;
    let of_shop = v1::ListAuditEventsRequest {
        service: "shop".to_owned(),
        ..v1::ListAuditEventsRequest::default()
    };
    let events = page(&mut client, &superuser, of_shop).await.events;
    let expected = v1::AuditEvent {
        event_id: Uuid::to_string(&id),
        at: seconds(BEGIN + 1),
        action: "teleport".to_owned(),
        reason: "NO_SUCH_REASON".to_owned(),
        service: "shop".to_owned(),
        occurrences: 1,
        ..v1::AuditEvent::default()
    };
    assert_eq!(events, [expected]);
}
