//! `audit`: lists the audit log, newest event first.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::messages::Messages;
use super::terminal::{self, printable};
use super::{Failure, exact};
use crate::app::open_store;
use crate::clock::{Clock as _, SystemClock, Timestamp};
use crate::config::{Settings, duration};
use crate::domain::audit::{Action, AuditEntry, EventFilter, is_service_name};
use crate::domain::user::UserId;
use crate::service::audit::{self, Audit};
use crate::service::error::chain;

/// Filter, limit and format of the list.
#[derive(Args, Debug)]
pub(super) struct AuditArguments {
    /// Only events with this user as the subject
    #[arg(long, value_name = "ID", value_parser = user_id)]
    user: Option<UserId>,
    /// Only events with this user as the actor
    #[arg(long, value_name = "ID", value_parser = user_id)]
    actor: Option<UserId>,
    /// Only events of this action, such as sign_in
    #[arg(long, value_name = "ACTION", value_parser = action)]
    action: Option<Action>,
    /// Only events with this outcome
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<OutcomeName>,
    /// Only events of this calling service
    #[arg(long, value_name = "NAME", value_parser = service)]
    service: Option<String>,
    /// Only events at or after this time: 2026-11-24T07:40:27Z, or a duration before now such as 24h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// Maximum number of events
    #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print one JSON object per line, with all fields
    #[arg(long)]
    json: bool,
}

/// Outcome of an event.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutcomeName {
    Done,
    Refused,
}

/// A point in time, absolute or before now.
#[derive(Clone, Copy, Debug)]
enum Moment {
    At(Timestamp),
    Ago(Duration),
}

impl Moment {
    fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => now - duration,
        }
    }
}

pub(super) async fn audit(
    settings: &Settings,
    arguments: AuditArguments,
    messages: Messages,
) -> Result<(), Failure> {
    let store = open_store(settings).await?;
    let audit = Audit::new(store.clone(), Arc::new(SystemClock), TaskTracker::new());
    let now = SystemClock.now();
    let filter = EventFilter {
        subject: arguments.user,
        actor: arguments.actor,
        action: arguments.action,
        is_done: arguments
            .outcome
            .map(|outcome| matches!(outcome, OutcomeName::Done)),
        service: arguments.service,
        since: arguments.since.map(|moment| moment.resolve(now)),
        until: arguments.until.map(|moment| moment.resolve(now)),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    if !arguments.json {
        write_or_stop(write_header(&mut out, messages))?;
    }
    let (mut left, mut before) = (arguments.limit, None);
    while left > 0 {
        let page = audit
            .list(&filter, before, left.min(audit::MAX_PAGE))
            .await
            .map_err(|error| Failure::Failed(chain(&error)))?;
        for entry in &page.entries {
            let written = if arguments.json {
                write_json(&mut out, entry)
            } else {
                write_row(&mut out, entry)
            };
            if !write_or_stop(written)? {
                return Ok(());
            }
        }
        left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    write_or_stop(out.flush())?;
    store
        .close()
        .await
        .map_err(|error| Failure::Failed(chain(&error)))
}

/// Returns whether to go on. A closed pipe ends the output without an error.
fn write_or_stop(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

fn write_header(out: &mut impl Write, messages: Messages) -> io::Result<()> {
    let names = [
        "cli-column-time",
        "cli-column-action",
        "cli-column-outcome",
        "cli-column-reason",
        "cli-column-actor",
        "cli-column-subject",
        "cli-column-service",
        "cli-column-address",
    ];
    let names = names.map(|id| messages.say(id, &[]));
    write_columns(out, names.each_ref().map(String::as_str))
}

fn write_row(out: &mut impl Write, entry: &AuditEntry) -> io::Result<()> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let actor = entry.actor_id.map(|id| id.to_string());
    let outcome = match entry.occurrences {
        1 => entry.outcome.clone(),
        count => format!("{} x{count}", entry.outcome),
    };
    write_columns(
        out,
        [
            exact(entry.at).as_str(),
            &entry.action,
            &outcome,
            &text(entry.reason.clone()),
            &actor.unwrap_or_else(|| entry.actor.clone()),
            &text(entry.subject_id.map(|id| id.to_string())),
            &text(entry.service.clone()),
            &text(entry.client.ip_address.map(|address| address.to_string())),
        ],
    )
}

/// Writes columns of fixed, usual widths: events are printed as they are read and not collected.
fn write_columns(out: &mut impl Write, columns: [&str; 8]) -> io::Result<()> {
    const WIDTHS: [usize; 8] = [27, 18, 7, 25, 36, 36, 15, 0];
    let cells = columns
        .iter()
        .zip(WIDTHS)
        .map(|(text, width)| format!("{:<width$}", printable(text)));
    let line = cells.collect::<Vec<_>>().join("  ");
    writeln!(out, "{}", line.trim_end())
}

/// An event as JSON, without unknown fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventJson<'a> {
    event_id: String,
    at: String,
    action: &'a str,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    actor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    fields: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_sessions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "is_one")]
    occurrences: u64,
}

/// Returns whether a row stands for one event.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_one(count: &u64) -> bool {
    *count == 1
}

fn write_json(out: &mut impl Write, entry: &AuditEntry) -> io::Result<()> {
    let json = EventJson {
        event_id: entry.id.to_string(),
        at: exact(entry.at),
        action: &entry.action,
        outcome: &entry.outcome,
        reason: entry.reason.as_deref(),
        actor: &entry.actor,
        actor_id: entry.actor_id.map(|id| id.to_string()),
        subject_id: entry.subject_id.map(|id| id.to_string()),
        session_id: entry.session_id.map(|id| id.to_string()),
        fields: &entry.fields,
        ended_sessions: entry.ended_sessions,
        service: entry.service.as_deref(),
        ip_address: entry.client.ip_address.map(|address| address.to_string()),
        user_agent: entry.client.user_agent.as_deref(),
        request_id: entry.request_id.as_deref(),
        occurrences: entry.occurrences,
    };
    terminal::write_json(out, &json)
}

fn user_id(text: &str) -> Result<UserId, String> {
    let id = Uuid::try_parse(text).map_err(|_| "not a user id")?;
    Ok(UserId(id))
}

fn service(text: &str) -> Result<String, String> {
    if is_service_name(text) {
        Ok(text.to_owned())
    } else {
        Err("not a valid service name".to_owned())
    }
}

fn action(text: &str) -> Result<Action, String> {
    Action::parse(text).ok_or_else(|| {
        let names: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        format!("not one of {}", names.join(", "))
    })
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Moment::At(time.with_timezone(&Utc)));
    }
    duration(text)
        .map(Moment::Ago)
        .map_err(|_| "neither a time such as 2026-11-24T07:40:27Z nor a duration such as 24h".to_owned())
}
