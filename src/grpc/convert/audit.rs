//! Conversion of audit events.

use super::{client, timestamp};
use crate::domain::audit::{AuditEntry, Outcome};
use crate::proto::v1;

pub(in crate::grpc) fn event(entry: AuditEntry) -> v1::AuditEvent {
    let id = |id: Option<String>| id.unwrap_or_default();
    v1::AuditEvent {
        event_id: entry.id.to_string(),
        at: Some(timestamp(entry.at)),
        action: entry.action,
        outcome: outcome(&entry.outcome).into(),
        reason: entry.reason.unwrap_or_default(),
        actor: actor(&entry.actor).into(),
        actor_id: id(entry.actor_id.map(|id| id.to_string())),
        subject_id: id(entry.subject_id.map(|id| id.to_string())),
        session_id: id(entry.session_id.map(|id| id.to_string())),
        fields: entry.fields,
        ended_sessions: entry
            .ended_sessions
            .map(|count| i64::try_from(count).unwrap_or(i64::MAX)),
        service: entry.service.unwrap_or_default(),
        client: client(&entry.client),
        request_id: entry.request_id.unwrap_or_default(),
        occurrences: i64::try_from(entry.occurrences).unwrap_or(i64::MAX),
    }
}

fn outcome(name: &str) -> v1::AuditOutcome {
    let [done, refused] = Outcome::NAMES;
    if name == done {
        v1::AuditOutcome::Done
    } else if name == refused {
        v1::AuditOutcome::Refused
    } else {
        v1::AuditOutcome::Unspecified
    }
}

fn actor(name: &str) -> v1::AuditActor {
    match name {
        "nobody" => v1::AuditActor::Nobody,
        "user" => v1::AuditActor::User,
        "operator" => v1::AuditActor::Operator,
        _ => v1::AuditActor::Unspecified,
    }
}
