//! Housekeeping: removes ended sessions, old entries of the change log, forgotten attempts, expired challenges, unused
//! SMS counters and expired devices. It works in small batches, so that no request waits for it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::audit;
use super::error::chain;
use crate::clock::{MAX_SKEW, Timestamp};
use crate::domain::code;
use crate::domain::session::Lifetimes;
use crate::domain::sms_limits::FORGOTTEN_AFTER;
use crate::store::{Store, StoreError, attempts, challenges, changes, devices, sessions, sms_counters};

/// Returns the current time. It is read for each batch of a table: the clock may be corrected during a pass, and a
/// clock that was ahead must not delete rows that are still valid.
type Now<'a> = &'a (dyn Fn() -> Timestamp + Send + Sync);

/// Maximum number of rows that are read, and removed, in one batch.
const BATCH: u64 = 1000;

/// Minimum and maximum pause between two batches.
const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Inverse of the part of the time that a pass over a whole table may take. The passes repeat, and session checks wait
/// for the same database.
const TIME_DIVISOR: u32 = 20;

/// Retention of the change log.
const CHANGES_KEPT: Duration = Duration::from_hours(24);

/// Retention of a challenge after the expiry of its code.
const CHALLENGES_KEPT: Duration = Duration::from_mins(5);

/// Runs one pass over all tables. Returns the number of live sessions, or `None` if the pass over them failed. Failures
/// are logged, and the next pass repeats the work.
pub(super) async fn run(
    store: &Store,
    lifetimes: &Lifetimes,
    audit_retention: Duration,
    now: Now<'_>,
) -> Option<u64> {
    let mut alive = None;
    let cleaned = async {
        alive = Some(remove_ended_sessions(store, lifetimes, now).await?);
        prune_changes(store, now).await?;
        remove_forgotten_attempts(store, now).await?;
        remove_expired_challenges(store, now).await?;
        remove_unused_sms_counters(store, now).await?;
        remove_expired_devices(store, now).await
    };
    if let Err(error) = cleaned.await {
        tracing::warn!(
            error = chain(&error),
            "ended sessions and other expired rows were not removed"
        );
    }
    let cleaned = async {
        audit::erase_deleted(store, now()).await?;
        audit::remove_old(store, audit_retention, now()).await
    };
    if let Err(error) = cleaned.await {
        tracing::warn!(error = chain(&error), "the audit log was not cleaned up");
    }
    alive
}

/// Reads all sessions once, removes the ended ones, and returns the number of live sessions.
async fn remove_ended_sessions(
    store: &Store,
    lifetimes: &Lifetimes,
    now: Now<'_>,
) -> Result<u64, StoreError> {
    let time = || now() - sessions::ENDED_GRACE;
    let mut after = None;
    let (mut removed, mut alive) = (0, 0);
    loop {
        let began = Instant::now();
        let page = sessions::find_ended(store.reader(), after, BATCH, lifetimes, time()).await?;
        if !page.ended.is_empty() {
            let tx = store.begin().await?;
            removed += sessions::delete_ended(&tx, &page.ended, lifetimes, time()).await?;
            tx.commit().await?;
        }
        alive += page.alive;
        if page.last.is_none() {
            break;
        }
        after = page.last;
        pause(began).await;
    }
    if removed > 0 {
        tracing::info!(removed, "ended sessions removed");
    }
    Ok(alive)
}

/// Removes the entries of the change log that are too old for any follower to read.
async fn prune_changes(store: &Store, now: Now<'_>) -> Result<(), StoreError> {
    // The newest entry stays regardless of its age: followers compare it at each reading.
    let newest = changes::head(store.reader()).await?.last_seq;
    loop {
        let oldest = changes::page(store.reader(), 0, BATCH).await?;
        // Search for the last old entry and not for the first recent one: an entry of a clock that was ahead must not
        // stop the pruning for ever.
        let old = oldest
            .iter()
            .rfind(|entry| entry.seq < newest && entry.at < now() - CHANGES_KEPT);
        let Some(last) = old else { return Ok(()) };
        changes::prune(store.writer(), last.seq).await?;
        sleep(MIN_PAUSE).await;
    }
}

/// Reads all attempts once and removes the forgotten ones.
async fn remove_forgotten_attempts(store: &Store, now: Now<'_>) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let began = Instant::now();
        let page = attempts::find_forgotten(store.reader(), after, BATCH, now()).await?;
        if !page.forgotten.is_empty() {
            let tx = store.begin().await?;
            attempts::delete_forgotten(&tx, &page.forgotten, now()).await?;
            tx.commit().await?;
        }
        if page.last.is_none() {
            return Ok(());
        }
        after = page.last;
        pause(began).await;
    }
}

/// Waits after a batch that began at `began`.
async fn pause(began: Instant) {
    let rest = began.elapsed().saturating_mul(TIME_DIVISOR - 1);
    sleep(rest.clamp(MIN_PAUSE, MAX_PAUSE)).await;
}

/// Removes the challenges of expired one-time codes, after the outbox has recorded the codes that it did not send. Also
/// removes challenges that expire later than any code can: they come from a wrong clock, count as expired, and would
/// become valid again shortly before their expiry.
async fn remove_expired_challenges(store: &Store, now: Now<'_>) -> Result<(), StoreError> {
    loop {
        let now = now();
        let expiries = now - CHALLENGES_KEPT..=now + code::MAX_LIFETIME + MAX_SKEW;
        if challenges::remove_expired(store.writer(), BATCH, &expiries).await? < BATCH {
            return Ok(());
        }
        sleep(MIN_PAUSE).await;
    }
}

/// Removes SMS counters that were unused for so long that none of their counts matters.
async fn remove_unused_sms_counters(store: &Store, now: Now<'_>) -> Result<(), StoreError> {
    while sms_counters::remove_unused(store.writer(), BATCH, now() - FORGOTTEN_AFTER).await? == BATCH {
        sleep(MIN_PAUSE).await;
    }
    Ok(())
}

/// Removes the devices that were unused for too long.
async fn remove_expired_devices(store: &Store, now: Now<'_>) -> Result<(), StoreError> {
    loop {
        let expired = devices::find_expired(store.reader(), BATCH, now()).await?;
        if expired.is_empty() || devices::delete_expired(store.writer(), &expired, now()).await? == 0 {
            return Ok(());
        }
        sleep(MIN_PAUSE).await;
    }
}
