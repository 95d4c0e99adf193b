//! `backup` copies an SQLite database; `after-restore` starts a new change-log history after any database was restored.

use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::messages::Messages;
use super::output::print_line;
use crate::app::open_store;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Settings;
use crate::domain::audit::{Action, AuditDraft};
use crate::i18n::TextValue;
use crate::service::error::chain;
use crate::store::{self, BackupError, Store, StoreError, audit, changes};

pub(super) async fn backup(settings: &Settings, file: &Path, messages: Messages) -> Result<(), Failure> {
    let options = settings
        .store()
        .map_err(|error| Failure::Unusable(error.to_string()))?;
    let cannot_start = |error| Failure::Unusable(format!("cannot start: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_start)?;
    let shown = file.display().to_string();
    let shown = TextValue::Text(&shown);
    // A dropped backup removes its incomplete file.
    let outcome = tokio::select! {
        outcome = store::backup(&options, file) => outcome,
        _ = terminate.recv() => Err(BackupError::Interrupted),
        _ = interrupt.recv() => Err(BackupError::Interrupted),
    };
    outcome.map_err(|error| match &error {
        BackupError::Native(..) | BackupError::InMemory | BackupError::Source(_) => {
            Failure::Unusable(chain(&error))
        }
        BackupError::Exists => messages.failed("cli-backup-exists", &[("file", shown)]),
        BackupError::Interrupted => messages.failed("cli-backup-interrupted", &[("file", shown)]),
        _ => {
            let problem = chain(&error);
            let values = [("file", shown), ("problem", problem.as_str().into())];
            messages.failed("cli-no-backup", &values)
        }
    })?;
    print_line(&messages.say("cli-backup-made", &[("file", shown)]))
}

pub(super) async fn after_restore(settings: &Settings, messages: Messages) -> Result<(), Failure> {
    // Opening migrates the database, because the restored one may be older than this program.
    let store = open_store(settings).await?;
    let epoch = begin_history(store)
        .await
        .map_err(|error| Failure::Failed(chain(&error)))?;
    let epoch = epoch.to_string();
    print_line(&messages.say("cli-new-epoch", &[("epoch", epoch.as_str().into())]))
}

async fn begin_history(store: Store) -> Result<impl std::fmt::Display, StoreError> {
    let tx = store.begin().await?;
    let epoch = changes::renew_epoch(&tx).await?;
    let event = AuditDraft::by_operator(Action::AfterRestore).done(SystemClock.now());
    audit::insert(&tx, &event).await?;
    tx.commit().await?;
    store.close().await?;
    Ok(epoch)
}
