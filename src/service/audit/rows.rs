//! Row limit of the audit log: counts rows in small steps, and removes the oldest beyond the limit.
//!
//! Retention by age does not bound the log: a flood of attempts fills a disk within days. A replica counts all rows at
//! the start, each hour, and whenever the newer rows may have exceeded the limit; in between it counts the newer rows
//! only. It counts from the newest on, so replicas that remove rows at the same time agree on which ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::{CHUNK, PAUSE};
use crate::domain::audit::EventId;
use crate::store::{Store, StoreError, audit};

/// Rows that one statement counts.
const STEP: u64 = 10_000;

/// Time after which all rows are counted again.
const RECOUNT: Duration = Duration::from_hours(1);

/// One row of so many is removed in addition when the limit is exceeded, so that the next count is not due at once.
const SPARE: u64 = 100;

/// An estimate of the number of rows, for metrics.
#[derive(Debug)]
pub(super) struct RowEstimate {
    /// `u64::MAX`: not known.
    rows: AtomicU64,
    limit: AtomicU64,
}

impl Default for RowEstimate {
    fn default() -> Self {
        Self {
            rows: AtomicU64::new(u64::MAX),
            limit: AtomicU64::new(0),
        }
    }
}

impl RowEstimate {
    fn set(&self, rows: u64, limit: u64) {
        self.rows.store(rows, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Number of rows when they were last looked at, and the limit. `None`: not known, or no limit.
    pub(super) fn get(&self) -> Option<(u64, u64)> {
        let limit = self.limit.load(Ordering::Relaxed);
        let rows = self.rows.load(Ordering::Relaxed);
        (limit > 0 && rows != u64::MAX).then_some((rows, limit))
    }
}

/// All rows as they were counted.
struct RowCount {
    rows: u64,
    newest: Option<EventId>,
    /// Time since boot of the last full count.
    counted_at: Duration,
}

/// Keeps the log within its limit.
pub(super) struct RowLimit<'a> {
    store: &'a Store,
    estimate: &'a RowEstimate,
    /// 0: no limit.
    limit: u64,
    last: Option<RowCount>,
}

impl<'a> RowLimit<'a> {
    pub(super) fn new(store: &'a Store, estimate: &'a RowEstimate, limit: u64) -> Self {
        Self {
            store,
            estimate,
            limit,
            last: None,
        }
    }

    /// Counts the rows, and removes the oldest beyond the limit. `since_boot` is the monotonic clock.
    pub(super) async fn enforce(&mut self, since_boot: Duration) -> Result<(), StoreError> {
        if self.limit == 0 {
            return Ok(());
        }
        let reader = self.store.reader();
        let newest = audit::nth_older(reader, None, 1).await?;
        let recent = self
            .last
            .take()
            .filter(|last| since_boot.saturating_sub(last.counted_at) < RECOUNT);
        let mut count = match recent {
            Some(last) => RowCount {
                rows: last
                    .rows
                    .saturating_add(audit::count_newer(reader, last.newest).await?),
                newest,
                ..last
            },
            None => RowCount {
                rows: u64::MAX,
                newest,
                counted_at: since_boot,
            },
        };
        if count.rows > self.limit {
            count.rows = self.count_and_remove().await?;
            count.counted_at = since_boot;
        }
        self.estimate.set(count.rows, self.limit);
        self.last = Some(count);
        Ok(())
    }

    /// Counts from the newest row on. Beyond the limit, it removes the oldest. Returns the number of rows that are
    /// left.
    async fn count_and_remove(&self) -> Result<u64, StoreError> {
        let keep = self.limit - self.limit / SPARE;
        let (mut counted, mut oldest, mut first_kept) = (0, None, None);
        while counted <= self.limit {
            let stop = if counted < keep { keep } else { self.limit + 1 };
            let step = STEP.min(stop - counted);
            let Some(found) = audit::nth_older(self.store.reader(), oldest, step).await? else {
                return Ok(counted + audit::count_older(self.store.reader(), oldest).await?);
            };
            counted += step;
            oldest = Some(found);
            if counted == keep {
                first_kept = oldest;
            }
            if step == STEP {
                sleep(PAUSE).await;
            }
        }
        let Some(first_kept) = first_kept else {
            return Ok(counted);
        };
        let mut removed = 0;
        loop {
            let tx = self.store.begin().await?;
            let count = audit::remove_older(&tx, first_kept, CHUNK).await?;
            tx.commit().await?;
            removed += count;
            if count < CHUNK {
                break;
            }
            sleep(PAUSE).await;
        }
        tracing::warn!(
            removed,
            limit = self.limit,
            "audit events beyond --audit-max-rows removed"
        );
        Ok(keep)
    }
}
