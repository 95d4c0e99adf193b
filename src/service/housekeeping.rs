//! Removing what has ended: sessions that ended by themselves, old entries of the change log, attempts and devices that
//! are forgotten. In small pieces, so that nobody waits for it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clock::{MAX_SKEW, Timestamp};
use crate::domain::code;
use crate::domain::session::Lifetimes;
use crate::domain::sms_limits::FORGOTTEN_AFTER;
use crate::store::{Store, StoreError, attempts, challenges, changes, devices, sessions, sms_counters};

/// Reads the clock for each piece of a table: it may be corrected meanwhile, and what was true by a clock that was
/// ahead must not delete what is not over.
type Now<'a> = &'a (dyn Fn() -> Timestamp + Send + Sync);

/// How many rows are looked at, and at most removed, at a time.
const PAGE: u64 = 1000;

/// The pause between two pieces, at least and at most.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Going through a whole table takes no more of the time than one part of so many: it is done again and again, and
/// whoever checks sessions waits for the same database.
const PARTS: u32 = 20;

/// How long the change log goes back.
const CHANGES_KEPT: Duration = Duration::from_hours(24);

/// How long a challenge is kept after its code has expired.
const CHALLENGES_KEPT: Duration = Duration::from_mins(5);

/// Goes once through all sessions, removes those that have ended, and says how many are alive.
pub(super) async fn remove_ended_sessions(
    store: &Store,
    lifetimes: &Lifetimes,
    now: Now<'_>,
) -> Result<u64, StoreError> {
    let time = || now() - sessions::ENDED_GRACE;
    let mut after = None;
    let (mut removed, mut alive) = (0, 0);
    loop {
        let began = Instant::now();
        let page = sessions::find_ended(store.reader(), after, PAGE, lifetimes, time()).await?;
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

/// Removes the entries of the change log that are too old for anybody to read.
pub(super) async fn prune_changes(store: &Store, now: Now<'_>) -> Result<(), StoreError> {
    // The newest entry stays, however old it is: followers compare it at each reading.
    let newest = changes::head(store.reader()).await?.last_seq;
    loop {
        let oldest = changes::page(store.reader(), 0, PAGE).await?;
        // The last old one, and not the first young one: an entry of a clock that was ahead must not stop it for ever.
        let old = oldest
            .iter()
            .rfind(|entry| entry.seq < newest && entry.at < now() - CHANGES_KEPT);
        let Some(last) = old else { return Ok(()) };
        changes::prune(store.writer(), last.seq).await?;
        sleep(PAUSE).await;
    }
}

/// Goes once through all attempts and removes those that are remembered no more.
pub(super) async fn remove_forgotten_attempts(store: &Store, now: Now<'_>) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let began = Instant::now();
        let page = attempts::find_forgotten(store.reader(), after, PAGE, now()).await?;
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

/// Waits after a piece of a table that was begun then.
async fn pause(began: Instant) {
    let rest = began.elapsed().saturating_mul(PARTS - 1);
    sleep(rest.clamp(PAUSE, LONGEST_PAUSE)).await;
}

/// Removes the challenges of one-time codes that have expired, when the outbox has told of what it did not send.
/// Challenges that expire later than any code can are removed, too: they come from a wrong clock, count as expired, and
/// would become valid again shortly before their expiry.
pub(super) async fn remove_expired_challenges(store: &Store, now: Now<'_>) -> Result<(), StoreError> {
    loop {
        let now = now();
        let expiries = now - CHALLENGES_KEPT..=now + code::MAX_LIFETIME + MAX_SKEW;
        if challenges::remove_expired(store.writer(), PAGE, &expiries).await? < PAGE {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}

/// Removes what messages were counted for, when nothing was for so long that none of it counts any more.
pub(super) async fn remove_unused_sms_counters(store: &Store, now: Now<'_>) -> Result<(), StoreError> {
    while sms_counters::remove_unused(store.writer(), PAGE, now() - FORGOTTEN_AFTER).await? == PAGE {
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Removes the devices that were not used for too long.
pub(super) async fn remove_expired_devices(store: &Store, now: Now<'_>) -> Result<(), StoreError> {
    loop {
        let expired = devices::find_expired(store.reader(), PAGE, now()).await?;
        if expired.is_empty() || devices::delete_expired(store.writer(), &expired, now()).await? == 0 {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}
