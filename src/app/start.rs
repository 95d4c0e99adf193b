//! Start: opens the database and the files of TLS, with one error for each reason.

use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::config::{ConfigError, Settings};
use crate::grpc::{Tls, TlsError, TlsFiles};
use crate::service::error::chain;
use crate::service::hasher::HashError;
use crate::service::password_policy::BreachedFileError;
use crate::store::{Store, StoreError};
use crate::telemetry::tracing::ExportError;

/// The pause before the start tries again to reach the database.
const START_PAUSE: Duration = Duration::from_millis(250);

/// Opens the database, for which it waits up to `--database-start-timeout`, and brings its schema up to date.
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

/// Loads the certificates and the key of TLS. `None`: it is not served.
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

/// Why the program cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be opened or written.
    #[error("the database of DATABASE_URL cannot be used: {}", chain(.0))]
    Store(#[from] StoreError),
    /// TLS cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Traces cannot be sent.
    #[error(transparent)]
    Traces(#[from] ExportError),
    /// Hashing cannot start.
    #[error(transparent)]
    Hasher(#[from] HashError),
    /// The file of breached passwords cannot be used.
    #[error(transparent)]
    BreachedPasswords(#[from] BreachedFileError),
}
