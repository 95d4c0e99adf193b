//! Reading the change log, again and again, so that what other processes took back is forgotten here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval, timeout};
use uuid::Uuid;

use super::freshness::Freshness;
use super::metrics::Seldom;
use crate::clock::Clock;
use crate::error::chain;
use crate::store::changes::{self, Entry, Head};
use crate::store::{Store, StoreError};

/// The most entries that are read at a time.
pub(super) const PAGE: u64 = 1000;

/// How far the log was read.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    epoch: Uuid,
    seq: i64,
}

/// Reads the change log.
pub(super) struct Tail {
    store: Store,
    clock: Arc<dyn Clock>,
    freshness: Arc<Freshness>,
    metrics: Arc<Seldom>,
    /// How long one reading may take.
    patience: Duration,
    /// `None` before the first reading.
    cursor: Option<Cursor>,
}

impl Tail {
    pub(super) fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        freshness: Arc<Freshness>,
        metrics: Arc<Seldom>,
        patience: Duration,
    ) -> Self {
        Self {
            store,
            clock,
            freshness,
            metrics,
            patience,
            cursor: None,
        }
    }

    /// Reads the log every `period`. A failure is told when it begins and when it ends, and not at every reading.
    pub(super) async fn run(mut self, period: Duration) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            ticks.tick().await;
            match self.read().await {
                Ok(()) => {
                    if is_failing {
                        tracing::info!("the change log is read again");
                    }
                    is_failing = false;
                }
                Err(error) => {
                    self.metrics.change_log_failures.fetch_add(1, Ordering::Relaxed);
                    if !is_failing {
                        let error = chain(&error);
                        tracing::warn!(error, "change log not read: session checks ask the database");
                    }
                    is_failing = true;
                }
            }
        }
    }

    /// Reads the log to its end, forgets what is out of date, and then says so.
    ///
    /// # Errors
    /// When the database fails or takes too long. What was forgotten by then stays so.
    pub(super) async fn read(&mut self) -> Result<(), TailError> {
        while !self.read_once().await? {}
        Ok(())
    }

    /// Reads one page, and says whether it was the end.
    pub(super) async fn read_once(&mut self) -> Result<bool, TailError> {
        // Not the time of the answer: the database may have looked long before it arrives.
        let asked_at = self.clock.since_boot();
        let reading = timeout(self.patience, self.read_page());
        let (head, page) = reading.await.map_err(|_| TailError::TooSlow)??;
        let is_end = self.take(head, &page);
        if is_end {
            self.freshness.publish(asked_at);
        }
        Ok(is_end)
    }

    /// The head first: what is committed between the two is in the page and read again with the next head.
    async fn read_page(&self) -> Result<(Head, Vec<Entry>), StoreError> {
        let head = changes::head(self.store.tail()).await?;
        let page = match self.cursor {
            Some(cursor) if cursor.epoch == head.epoch && cursor.seq < head.last_seq => {
                changes::page(self.store.tail(), cursor.seq, PAGE).await?
            }
            _ => Vec::new(),
        };
        Ok((head, page))
    }

    /// Forgets what a page says, and tells whether the log is known up to its head then.
    fn take(&mut self, head: Head, page: &[Entry]) -> bool {
        let at_head = Cursor {
            epoch: head.epoch,
            seq: head.last_seq,
        };
        let Some(cursor) = self.cursor else {
            // What was read before the first reading may be out of date, and nobody will tell.
            self.start_over(at_head);
            return true;
        };
        if cursor.epoch != head.epoch || head.last_seq < cursor.seq {
            tracing::warn!("the change log is another one, or went back: all cached sessions are forgotten");
            self.start_over(at_head);
            return true;
        }
        let has_no_hole = (cursor.seq + 1..).zip(page).all(|(seq, entry)| entry.seq == seq);
        let last = page.last().map_or(cursor.seq, |entry| entry.seq);
        let is_full = page.len() as u64 >= PAGE;
        // Without a hole and with the head in it, or else full, with the rest still to be read.
        if !has_no_hole || (last < head.last_seq && !is_full) {
            tracing::warn!("the change log has a gap: all cached sessions are forgotten");
            self.start_over(at_head);
            return true;
        }
        for entry in page {
            match entry.user {
                Some(user) => self.freshness.forget(user),
                None => self.freshness.forget_all(),
            }
        }
        self.cursor = Some(Cursor { seq: last, ..cursor });
        !is_full
    }

    fn start_over(&mut self, cursor: Cursor) {
        self.cursor = Some(cursor);
        self.freshness.forget_all();
    }
}

/// Why the change log was not read.
#[derive(Debug, Error)]
pub(super) enum TailError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database took too long.
    #[error("the database takes too long")]
    TooSlow,
}
