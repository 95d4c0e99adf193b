//! Start-up: opens the database and the TLS files, with one error per cause, and reserves file descriptors.

use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::cgroup;
use crate::config::{ConfigError, Settings};
use crate::grpc::{Tls, TlsError, TlsFiles};
use crate::service::error::chain;
use crate::service::hasher::HashError;
use crate::service::password_policy::BreachedFileError;
use crate::store::{Store, StoreError};
use crate::telemetry::tracing::ExportError;

/// Pause between attempts of the start to reach the database.
const START_PAUSE: Duration = Duration::from_millis(250);

/// File descriptors besides client connections and the connection pool: the log, the files of SQLite, the connection of
/// the change log, one for the cancellation of a statement, the runtime, and connections of the health listener.
const OTHER_DESCRIPTORS: u64 = 128;

/// Opens the database and migrates its schema. Waits for the database up to `--database-start-timeout`.
///
/// # Errors
/// When the setting is invalid, or the database cannot be opened, is not suitable, or cannot be written.
pub async fn open_store(settings: &Settings) -> Result<Store, StartError> {
    let options = settings.store()?;
    let end = Instant::now() + settings.database_start_timeout;
    let mut is_waiting = false;
    loop {
        let outcome = async {
            let store = Store::open(&options).await?;
            store.migrate().await?;
            Ok::<_, StoreError>(store)
        };
        match outcome.await {
            Err(error) if error.may_be_starting() && Instant::now() + START_PAUSE < end => {
                if !is_waiting {
                    tracing::warn!(error = chain(&error), "waiting for the database");
                }
                is_waiting = true;
                sleep(START_PAUSE).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

/// Loads the TLS certificates and the private key. `None`: TLS is not configured.
///
/// # Errors
/// [`StartError::Tls`] when a file cannot be read or is invalid.
pub fn tls(settings: &Settings) -> Result<Option<Tls>, StartError> {
    let Some(tls) = settings.tls() else {
        return Ok(None);
    };
    let files = TlsFiles {
        certificate: tls.certificate,
        key: tls.key,
        allow_readable_key: tls.allow_readable_key,
        client_ca: tls.client_ca,
        is_client_certificate_optional: tls.is_client_certificate_optional,
    };
    Ok(Some(Tls::load(files, tls.clients)?))
}

/// Returns the number of client connections, at most `wanted`, for which file descriptors are left.
pub(super) fn room_for_connections(wanted: usize, database_connections: u32) -> usize {
    let others = u64::from(database_connections) + OTHER_DESCRIPTORS;
    let Some(descriptors) = cgroup::raise_descriptors() else {
        return wanted;
    };
    let room = usize::try_from(descriptors.saturating_sub(others)).unwrap_or(usize::MAX);
    if room < wanted {
        tracing::warn!(
            wanted,
            room = room.max(1),
            descriptors,
            "fewer connections than --max-connections: the limit of open files (ulimit -n) is too low"
        );
    } else {
        tracing::debug!(
            wanted,
            descriptors,
            "connections fit into the limit of open files"
        );
    }
    wanted.min(room.max(1))
}

/// The reason why the program cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be opened or written.
    #[error("the database of DATABASE_URL cannot be used: {}", chain(.0))]
    Store(#[from] StoreError),
    /// The TLS files are invalid.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Traces cannot be exported.
    #[error(transparent)]
    Traces(#[from] ExportError),
    /// Hashing cannot start.
    #[error(transparent)]
    Hasher(#[from] HashError),
    /// The file of breached passwords cannot be used.
    #[error(transparent)]
    BreachedPasswords(#[from] BreachedFileError),
}
