//! `service-key`: creates, lists and revokes the keys that authenticate calling services.

use std::io::{self, Write as _};
use std::sync::Arc;

use chrono::SecondsFormat;
use clap::Subcommand;
use serde::Serialize;
use uuid::Uuid;

use super::messages::Messages;
use super::output::{note, print_line, unwritable, write_line};
use super::terminal::{self, printable};
use super::{Failure, exact};
use crate::app::open_store;
use crate::clock::{SystemClock, Timestamp};
use crate::config::Settings;
use crate::domain::access::{Rights, ServiceKey, ServiceKeyId, ServiceName};
use crate::i18n::TextValue;
use crate::service::error::{Error, chain};
use crate::service::service_keys::{MAX_LIVE, ServiceKeys};

#[derive(Debug, Subcommand)]
pub(super) enum ServiceKeyCommand {
    /// Create a key, and print it; it cannot be shown again
    Create {
        /// Name of the calling service: lower-case letters, digits and hyphens
        #[arg(value_name = "NAME")]
        name: ServiceName,
        #[arg(long, value_name = "RIGHTS", required = true,
            help = format!("Rights of the service, separated by commas: {}", Rights::names()))]
        allow: Rights,
    },
    /// List keys, revoked ones included
    List {
        /// Print one JSON object per line instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key; replicas reject it within --staleness-bound
    Revoke {
        /// Id of the key
        #[arg(value_name = "KEY_ID", value_parser = key_id)]
        key: ServiceKeyId,
    },
}

pub(super) async fn run(
    settings: &Settings,
    command: ServiceKeyCommand,
    messages: Messages,
) -> Result<(), Failure> {
    let keys = ServiceKeys::new(open_store(settings).await?, Arc::new(SystemClock));
    match command {
        ServiceKeyCommand::Create { name, allow } => create(&keys, name, allow, messages).await?,
        ServiceKeyCommand::List { json } => list(&keys, json, messages).await?,
        ServiceKeyCommand::Revoke { key } => revoke(&keys, key, messages).await?,
    }
    keys.close().await.map_err(|error| failed(&error))
}

/// Creates a key, and prints only the key to standard output, so that it can be redirected into a file. A key that
/// cannot be printed is revoked.
async fn create(
    keys: &ServiceKeys,
    name: ServiceName,
    allow: Rights,
    messages: Messages,
) -> Result<(), Failure> {
    let Some((token, key)) = keys.create(name, allow).await.map_err(|error| failed(&error))? else {
        let max_keys = usize::try_from(MAX_LIVE).unwrap_or(usize::MAX);
        return Err(messages.failed("cli-too-many-keys", &[("count", max_keys.into())]));
    };
    if let Err(unwritten) = write_line(token.expose()) {
        let id = key.id.to_string();
        let problem = unwritten.to_string();
        let values = [("id", id.as_str().into()), ("problem", problem.as_str().into())];
        let text = match keys.revoke(key.id).await {
            Ok(_) => "cli-key-unprinted",
            Err(error) => {
                tracing::error!(error = chain(&error), key_id = %id, "an unprinted service key cannot be revoked");
                "cli-key-unprinted-and-valid"
            }
        };
        return Err(messages.failed(text, &values));
    }
    let (id, rights) = (key.id.to_string(), key.rights.to_string());
    let values = [
        ("id", id.as_str().into()),
        ("name", key.name.as_str().into()),
        ("rights", rights.as_str().into()),
    ];
    note(&messages.say("cli-key-made", &values));
    Ok(())
}

async fn list(keys: &ServiceKeys, json: bool, messages: Messages) -> Result<(), Failure> {
    if !json && !print(heading(messages))? {
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = keys.list(after).await.map_err(|error| failed(&error))?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.id);
        for key in &page {
            if !print(if json { line(key) } else { row(key) })? {
                return Ok(());
            }
        }
    }
}

async fn revoke(keys: &ServiceKeys, id: ServiceKeyId, messages: Messages) -> Result<(), Failure> {
    let revoked = keys.revoke(id).await.map_err(|error| failed(&error))?;
    let id = id.to_string();
    let id = ("id", TextValue::Text(&id));
    match revoked {
        Some(key) => {
            let values = [id, ("name", key.name.as_str().into())];
            print_line(&messages.say("cli-key-revoked", &values))
        }
        None => Err(messages.failed("cli-key-unknown", &[id])),
    }
}

fn failed(error: &Error) -> Failure {
    Failure::Failed(chain(error))
}

/// Returns whether to go on. A closed pipe ends the output without an error.
fn print(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(unwritable(&error)),
    }
}

fn heading(messages: Messages) -> io::Result<()> {
    let names = [
        "cli-column-id",
        "cli-column-name",
        "cli-column-allowed",
        "cli-column-created",
        "cli-column-revoked",
    ];
    let names = names.map(|id| messages.say(id, &[]));
    columns(names.each_ref().map(String::as_str))
}

fn row(key: &ServiceKey) -> io::Result<()> {
    columns([
        &key.id.to_string(),
        key.name.as_str(),
        &key.rights.to_string(),
        &seconds(Some(key.created_at)),
        &seconds(key.revoked_at),
    ])
}

fn columns(columns: [&str; 5]) -> io::Result<()> {
    let [id, name, rights, created, revoked] = columns.map(printable);
    writeln!(
        io::stdout().lock(),
        "{id:<36}  {name:<20}  {rights:<30}  {created:<20}  {revoked}"
    )
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceKeyJson<'a> {
    key_id: String,
    name: &'a str,
    allowed: String,
    created_at: String,
    revoked_at: Option<String>,
}

fn line(key: &ServiceKey) -> io::Result<()> {
    let json = ServiceKeyJson {
        key_id: key.id.to_string(),
        name: key.name.as_str(),
        allowed: key.rights.to_string(),
        created_at: exact(key.created_at),
        revoked_at: key.revoked_at.map(exact),
    };
    terminal::write_json(io::stdout().lock(), &json)
}

fn seconds(time: Option<Timestamp>) -> String {
    time.map_or_else(
        || "-".to_owned(),
        |time| time.to_rfc3339_opts(SecondsFormat::Secs, true),
    )
}

fn key_id(text: &str) -> Result<ServiceKeyId, String> {
    let id = Uuid::try_parse(text).map_err(|_| "not the id of a key: `service-key list` shows them")?;
    Ok(ServiceKeyId(id))
}
