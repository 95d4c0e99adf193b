//! `service-key`: the keys by which calling services prove who they are.

use std::io::{self, Write as _};
use std::sync::Arc;

use chrono::SecondsFormat;
use clap::Subcommand;
use serde::Serialize;
use uuid::Uuid;

use super::{Failure, exact};
use crate::app::open_store;
use crate::clock::{SystemClock, Timestamp};
use crate::config::Settings;
use crate::domain::access::{Rights, ServiceKey, ServiceKeyId, ServiceName};
use crate::error::{Error, chain};
use crate::service::service_keys::{MAX_LIVE, ServiceKeys};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key, and print it: it is told here only
    Create {
        /// Name of the calling service: small letters, digits and hyphens
        #[arg(value_name = "NAME")]
        name: ServiceName,
        #[arg(long, value_name = "RIGHTS", required = true,
            help = format!("What it may call, with commas between: {}", Rights::names()))]
        allow: Rights,
    },
    /// List keys, revoked ones, too
    List {
        /// Print one JSON object a line instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key: within a second it is good for nothing
    Revoke {
        /// Id of the key
        #[arg(value_name = "KEY_ID", value_parser = key_id)]
        key: ServiceKeyId,
    },
}

pub(super) async fn run(settings: &Settings, command: Command) -> Result<(), Failure> {
    let keys = ServiceKeys::new(open_store(settings).await?, Arc::new(SystemClock));
    match command {
        Command::Create { name, allow } => create(&keys, name, allow).await?,
        Command::List { json } => list(&keys, json).await?,
        Command::Revoke { key } => revoke(&keys, key).await?,
    }
    keys.close().await.map_err(|error| failed(&error))
}

/// The key alone on standard output, so that it can go into a file as it is.
async fn create(keys: &ServiceKeys, name: ServiceName, allow: Rights) -> Result<(), Failure> {
    let Some((token, key)) = keys.create(name, allow).await.map_err(|error| failed(&error))? else {
        let problem = format!("there are {MAX_LIVE} keys already; revoke those that nobody uses");
        return Err(Failure::Failed(problem));
    };
    writeln!(io::stdout().lock(), "{}", token.expose())
        .map_err(|error| Failure::Failed(error.to_string()))?;
    eprintln!("key {} of {}, for {}", key.id, key.name, key.rights);
    Ok(())
}

async fn list(keys: &ServiceKeys, json: bool) -> Result<(), Failure> {
    if !json && !print(heading())? {
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

async fn revoke(keys: &ServiceKeys, id: ServiceKeyId) -> Result<(), Failure> {
    match keys.revoke(id).await.map_err(|error| failed(&error))? {
        Some(key) => {
            println!("key {} of {}: revoked", key.id, key.name);
            Ok(())
        }
        None => Err(Failure::Failed(format!("there is no key {id}"))),
    }
}

fn failed(error: &Error) -> Failure {
    Failure::Failed(chain(error))
}

/// Says whether to go on: whoever closed the pipe has seen enough.
fn print(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

fn heading() -> io::Result<()> {
    columns(["ID", "NAME", "ALLOWED", "CREATED", "REVOKED"])
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

fn columns([id, name, rights, created, revoked]: [&str; 5]) -> io::Result<()> {
    writeln!(
        io::stdout().lock(),
        "{id:<36}  {name:<20}  {rights:<30}  {created:<20}  {revoked}"
    )
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    key_id: String,
    name: &'a str,
    allowed: String,
    created_at: String,
    revoked_at: Option<String>,
}

fn line(key: &ServiceKey) -> io::Result<()> {
    let json = serde_json::to_string(&Json {
        key_id: key.id.to_string(),
        name: key.name.as_str(),
        allowed: key.rights.to_string(),
        created_at: exact(key.created_at),
        revoked_at: key.revoked_at.map(exact),
    })?;
    writeln!(io::stdout().lock(), "{json}")
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
