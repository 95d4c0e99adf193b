//! Audit log: writes the events of operations and of refusals, lists them, and removes old events and deleted users.
//!
//! The transaction of an operation writes its event. A refusal has no transaction: its event is written before the
//! answer. If the event cannot be written, the answer is that the database is unavailable, so that every guess of a
//! password leaves a trace.

mod rows;
mod unknown;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::error::{Error, chain};
use super::retry::retry;
use super::sessions::Actor;
use crate::clock::{Clock, MAX_SKEW, Timestamp};
use crate::domain::audit::{Action, AuditDraft, AuditEntry, Event, EventFilter, EventId, Field, Refusal};
use crate::domain::user::{User, UserId};
use crate::store::users::UserChange;
use crate::store::{Store, StoreError, Transaction, audit};
use crate::telemetry::tracing::TraceContext;
use rows::{RowEstimate, RowLimit};
use unknown::{AnonymousFailures, Noted, Uncounted};

/// Maximum number of events of a page.
pub const MAX_PAGE: u32 = 1000;

/// Number of events that one statement changes or deletes.
const CHUNK: u64 = 1000;

/// Maximum number of such statements in the transaction that deletes a user: other transactions may wait for it.
const CHUNKS_AT_ONCE: usize = 10;

/// The pause between two chunks of background work.
const PAUSE: Duration = Duration::from_millis(20);

/// Time after a deletion during which events that name the deleted user are erased: longer than any call takes.
const ERASING: Duration = Duration::from_hours(1);

/// Interval between two writes of the ended windows of unknown challenges.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of counts that one transaction writes.
const FLUSHED_AT_ONCE: usize = 100;

/// The audit log. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    store: Store,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    unknown: Arc<AnonymousFailures>,
    rows: Arc<RowEstimate>,
}

/// The settings of the background work.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Maximum number of rows. 0: no limit.
    pub max_rows: u64,
    /// Interval between two counts of the rows.
    pub cleanup_interval: Duration,
}

/// A page of events, the newest first.
#[derive(Debug)]
pub struct EventPage {
    /// The events.
    pub entries: Vec<AuditEntry>,
    /// The event before which the next page begins. `None`: the log has no further events.
    pub next: Option<EventId>,
}

impl Audit {
    /// The audit log of this store. `tasks` tracks the writes that finish before the process ends.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, tasks: TaskTracker) -> Self {
        Self {
            store,
            clock,
            tasks,
            unknown: Arc::default(),
            rows: Arc::default(),
        }
    }

    /// Lists events that are older than `before`, the newest first: `size` of them, from 1 to [`MAX_PAGE`].
    ///
    /// # Errors
    /// When the database fails, or does not answer in time: a filter with few hits needs a user or a time range.
    pub async fn list(
        &self,
        filter: &EventFilter,
        before: Option<EventId>,
        size: u32,
    ) -> Result<EventPage, Error> {
        let size = size.clamp(1, MAX_PAGE);
        // One more than the page shows whether there is another page.
        let mut entries = audit::list(self.store.lists(), filter, before, u64::from(size) + 1).await?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let has_more = entries.len() > size;
        entries.truncate(size);
        let next = entries.last().filter(|_| has_more).map(|entry| entry.id);
        Ok(EventPage { entries, next })
    }

    /// Writes the event of a refusal, if the refusal has one, and returns the outcome. The write finishes even if the
    /// caller disconnects.
    ///
    /// # Errors
    /// The error of the outcome; [`Error::DatabaseUnavailable`] when the event cannot be written.
    pub async fn refused<T>(&self, draft: &AuditDraft, outcome: Result<T, Error>) -> Result<T, Error> {
        let Some(refusal) = outcome.as_ref().err().and_then(refusal) else {
            return outcome;
        };
        let event = draft.refused(refusal, self.clock.now());
        let store = self.store.clone();
        let write = async move { retry(|| async { Ok(audit::insert(store.writer(), &event).await?) }).await };
        let trace = TraceContext::current();
        let write = async move { trace.scope(write).await };
        let written = self.tasks.spawn(write.in_current_span());
        written.await.map_err(Error::internal)??;
        outcome
    }

    /// Records a code for an unknown challenge: the first one of a source and minute is written, further ones are
    /// counted. The write finishes even if the caller disconnects.
    ///
    /// # Errors
    /// [`Error::CodeInvalid`]; [`Error::DatabaseUnavailable`] when the event cannot be written.
    pub async fn refused_unknown<T>(&self, draft: &AuditDraft) -> Result<T, Error> {
        let noted = self
            .unknown
            .note(draft, self.clock.now(), self.clock.since_boot());
        let Noted::First(source, event) = noted else {
            return Err(Error::CodeInvalid);
        };
        let (store, unknown) = (self.store.clone(), self.unknown.clone());
        let write = async move {
            let written = retry(|| async { Ok(audit::insert(store.writer(), &event).await?) }).await;
            unknown.set_written(&source, event.id, written.is_ok());
            written
        };
        let trace = TraceContext::current();
        let write = async move { trace.scope(write).await };
        let written = self.tasks.spawn(write.in_current_span());
        written.await.map_err(Error::internal)??;
        Err(Error::CodeInvalid)
    }

    /// Number of events at the last count, and their limit. `None`: the number is unknown, or the log has no limit.
    #[must_use]
    pub fn rows_and_limit(&self) -> Option<(u64, u64)> {
        self.rows.get()
    }

    /// Adds the counts of unknown challenges to their rows, and keeps the log within its limit, until `stop`; then adds
    /// all remaining counts. Stop it after the last call.
    pub async fn run(self, options: Options, stop: CancellationToken) {
        let flushes = async {
            let mut ticks = interval(FLUSH_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.flush(Some(self.clock.since_boot())).await;
            }
        };
        let limits = async {
            let mut limit = RowLimit::new(&self.store, &self.rows, options.max_rows);
            let mut ticks = interval(options.cleanup_interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Err(error) = limit.enforce(self.clock.since_boot()).await {
                    tracing::warn!(
                        error = chain(&error),
                        "the limit of the audit log was not enforced"
                    );
                }
            }
        };
        // Boxed: the future is large, and exists once.
        let work = stop.run_until_cancelled(async { tokio::join!(flushes, limits) });
        let _: Option<(Infallible, Infallible)> = Box::pin(work).await;
        self.flush(None).await;
    }

    /// Adds the counts of the ended windows to their rows. `None`: the counts of all windows.
    async fn flush(&self, since_boot: Option<Duration>) {
        let mut taken = self.unknown.take_ended(since_boot);
        while !taken.is_empty() {
            let rest = taken.split_off(taken.len().min(FLUSHED_AT_ONCE));
            if let Err(error) = self.add_occurrences(&taken).await {
                tracing::warn!(
                    error = chain(&error),
                    "the counts of audit events were not written"
                );
                taken.extend(rest);
                return self.unknown.put_back(taken);
            }
            taken = rest;
        }
    }

    async fn add_occurrences(&self, all: &[Uncounted]) -> Result<(), Error> {
        retry(|| async {
            let tx = self.store.begin().await?;
            for Uncounted {
                event,
                count,
                has_row,
                ..
            } in all
            {
                // A missing row was removed since it was too old.
                if !has_row || !audit::add_occurrences(&tx, event.id, *count).await? {
                    let event = Event {
                        occurrences: *count,
                        ..event.clone()
                    };
                    audit::insert(&tx, &event).await?;
                }
            }
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// The reason of a refusal in the log. `None`: the error has no event.
fn refusal(error: &Error) -> Option<Refusal> {
    match error {
        Error::InvalidCredentials => Some(Refusal::InvalidCredentials),
        Error::AccountDeactivated => Some(Refusal::AccountDeactivated),
        Error::CurrentPasswordWrong => Some(Refusal::CurrentPasswordWrong),
        Error::ReauthenticationRequired => Some(Refusal::ReauthenticationRequired),
        Error::PhoneNumberTaken => Some(Refusal::PhoneNumberTaken),
        Error::NotStaff => Some(Refusal::NotStaff),
        Error::UserNotFound => Some(Refusal::UserNotFound),
        Error::NotSuperuser => Some(Refusal::NotSuperuser),
        Error::LastSuperuser => Some(Refusal::LastSuperuser),
        Error::CodeInvalid => Some(Refusal::CodeInvalid),
        Error::PhoneChangedRecently { .. } => Some(Refusal::PhoneChangedRecently),
        Error::InvalidInput(_)
        // A conflict of two administrators, and no refused right.
        | Error::EtagMismatch
        // Another operation is needed, or none is possible.
        | Error::VerificationRequired { .. }
        | Error::RegistrationClosed
        | Error::SmsNotConfigured
        | Error::SmsRefused { .. }
        | Error::SessionInvalid
        | Error::SessionExpired
        // The caller is unknown, and must not fill the log.
        | Error::ServiceUnknown
        | Error::ServiceNotAllowed
        | Error::OperatorKeyWrong
        // Nothing was checked, and clients that do not wait must not fill the log.
        | Error::TooManyAttempts { .. }
        | Error::Overloaded { .. }
        | Error::DatabaseUnavailable(_)
        | Error::Internal(_) => None,
    }
}

impl Actor {
    /// The event of an action of the actor on the actor's own account.
    #[must_use]
    pub fn draft(&self, action: Action) -> AuditDraft {
        AuditDraft::by_user(
            action,
            self.user.id,
            self.session.id,
            self.session.client.clone(),
            self.caller.clone(),
        )
    }
}

/// The fields of a user that a change sets.
pub(super) fn fields_of(change: &UserChange) -> Vec<Field> {
    let fields = [
        change.phone_number.as_ref().map(|_| Field::PhoneNumber),
        change.password_hash.as_ref().map(|_| Field::Password),
        change.locale.as_ref().map(|_| Field::Locale),
        change.status.map(|_| Field::Status),
        change.is_staff.map(|_| Field::IsStaff),
        change.is_superuser.map(|_| Field::IsSuperuser),
    ];
    fields.into_iter().flatten().collect()
}

/// Replaces a user in the log by a substitute id, in the transaction that deletes the user. Of a user with very many
/// events, the rest is left to [`erase_deleted`]. Staff and superusers stay in the log: deletion must not hide what
/// they did.
pub(super) async fn erase(
    tx: &Transaction,
    user: &User,
    substitute: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    if user.is_privileged() {
        return Ok(());
    }
    audit::insert_erasure(tx, user.id, now).await?;
    for _ in 0..CHUNKS_AT_ONCE {
        if audit::erase(tx, user.id, Some(substitute), CHUNK).await? < CHUNK {
            break;
        }
    }
    Ok(())
}

/// Erases deleted users from the remaining events: those beyond the chunks of the deletion, and those of calls that had
/// begun before it. No substitute id stands in the place of the user then: a stored one would link the two.
pub(super) async fn erase_deleted(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = audit::erasures(store.reader(), after, CHUNK).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = Some(*last);
        for (user, at) in page {
            loop {
                let tx = store.begin().await?;
                let erased = audit::erase(&tx, user, None, CHUNK).await?;
                let is_over = erased == 0 && at < now - ERASING;
                if is_over {
                    audit::delete_erasure(&tx, user).await?;
                } else if at > now + MAX_SKEW {
                    // The time comes from a clock that was ahead. The entry would stay until the wall clock reaches it.
                    audit::restart_erasure(&tx, user, now).await?;
                }
                tx.commit().await?;
                if erased < CHUNK {
                    break;
                }
                sleep(PAUSE).await;
            }
        }
        sleep(PAUSE).await;
    }
}

/// Deletes the events that are older than `retention`.
pub(super) async fn remove_old(store: &Store, retention: Duration, now: Timestamp) -> Result<(), StoreError> {
    let mut removed = 0;
    loop {
        let tx = store.begin().await?;
        let count = audit::remove_before(&tx, now - retention, CHUNK).await?;
        tx.commit().await?;
        removed += count;
        if count < CHUNK {
            break;
        }
        sleep(PAUSE).await;
    }
    if removed > 0 {
        tracing::info!(removed, "old audit events removed");
    }
    Ok(())
}
