//! Change-log follower: reads the log periodically and invalidates what other processes have revoked.
//!
//! The worth of a reading depends on the server that answered it ([`LogCursor::take`]) and on the connection. A
//! connection from before a failover may lead to the old server, which may still accept writes that no other server
//! will ever have. The follower therefore opens a new connection twice in each staleness bound, and publishes no later
//! time than that of the last connection: within the bound, new connections led to the server that was read. If the
//! server commits synchronously to a standby, the follower also commits a heartbeat on each new connection: a server
//! that is cut off from its standby cannot commit it, even if it was not demoted. For such a server, an answer of the
//! database is usable only if a heartbeat was also committed within the bound (see `lookup`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval, timeout};
use uuid::Uuid;

use super::fence::Fence;
use crate::clock::Clock;
use crate::service::error::chain;
use crate::service::sessions::metrics::RareCounters;
use crate::store::changes::{self, ChangeLogRead};
use crate::store::{Incarnation, Store, StoreError, heartbeat};

/// Maximum number of entries per reading.
pub(in crate::service) const MAX_ENTRIES: usize = 1000;

/// Settings of the follower.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct Options {
    /// Interval between two readings.
    pub(in crate::service) interval: Duration,
    /// Timeout of one reading.
    pub(in crate::service) timeout: Duration,
    /// The staleness bound.
    pub(in crate::service) bound: Duration,
}

/// Position up to which the log was read.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    epoch: Uuid,
    seq: i64,
    /// Id of the entry with that number. `None`: there is no such entry, or an older version wrote it.
    entry_id: Option<Uuid>,
}

/// Position and history of the log, against which each reading is checked.
#[derive(Debug, Default)]
pub(in crate::service) struct LogCursor {
    /// `None`: the next reading is the first one, and everything read before it may be stale.
    cursor: Option<Cursor>,
    server: Option<Incarnation>,
}

/// Result of a reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::service) enum Progress {
    /// The log is known up to its head.
    UpToHead,
    /// More entries have to be read.
    NotYet,
    /// Another server answered, and its log still has to be read.
    OtherServer,
}

impl LogCursor {
    /// Number of the entry at which the next reading starts. `None`: it reads only the last entry.
    pub(in crate::service) fn from(&self) -> Option<i64> {
        self.cursor.map(|cursor| cursor.seq)
    }

    /// Invalidates what a reading shows to be stale.
    ///
    /// - Another server than before: it may lack changes of the previous server, and the reverse.
    /// - Another epoch, a shorter log, another entry at the last number, or a gap: another history, or missing entries.
    ///
    /// In each of these cases everything is invalidated, and the next reading follows the log from its end.
    pub(in crate::service) fn take(&mut self, reading: &ChangeLogRead, fence: &Fence) -> Progress {
        let head = reading.head;
        if self.server != Some(reading.server) {
            fence.follow(reading.server);
            if self.server.replace(reading.server).is_some() {
                tracing::warn!("another database server answers: all cached sessions are invalidated");
                self.cursor = None;
                return Progress::OtherServer;
            }
        }
        let Some(cursor) = self.cursor else {
            // Data from before the first reading may be stale, and no entry will invalidate it.
            fence.forget_all();
            self.cursor = Some(Cursor {
                epoch: head.epoch,
                seq: head.last_seq,
                entry_id: reading.entries.last().and_then(|entry| entry.entry_id),
            });
            return Progress::UpToHead;
        };
        let (at_cursor, entries) = match reading.entries.split_first() {
            Some((first, rest)) if first.seq == cursor.seq => (first.entry_id, rest),
            _ => (None, &reading.entries[..]),
        };
        if cursor.epoch != head.epoch || head.last_seq < cursor.seq || at_cursor != cursor.entry_id {
            tracing::warn!("the change log has another history: all cached sessions are invalidated");
            return self.start_over(fence);
        }
        // Without an entry at the cursor, the page has room for one more.
        let entries = &entries[..entries.len().min(MAX_ENTRIES)];
        let has_no_gap = (cursor.seq + 1..)
            .zip(entries)
            .all(|(seq, entry)| entry.seq == seq);
        let last = entries.last();
        let is_full = entries.len() == MAX_ENTRIES;
        // The entries have no gap, and they reach the head or fill the page.
        if !has_no_gap || (last.map_or(cursor.seq, |entry| entry.seq) < head.last_seq && !is_full) {
            tracing::warn!("the change log has a gap: all cached sessions are invalidated");
            return self.start_over(fence);
        }
        for entry in entries {
            match entry.user {
                Some(user) => fence.forget(user),
                None => fence.forget_all(),
            }
        }
        if let Some(last) = last {
            self.cursor = Some(Cursor {
                seq: last.seq,
                entry_id: last.entry_id,
                ..cursor
            });
        }
        if is_full {
            Progress::NotYet
        } else {
            Progress::UpToHead
        }
    }

    fn start_over(&mut self, fence: &Fence) -> Progress {
        self.cursor = None;
        fence.forget_all();
        Progress::NotYet
    }
}

/// Reads the change log.
pub(in crate::service) struct Follower {
    store: Store,
    clock: Arc<dyn Clock>,
    fence: Arc<Fence>,
    metrics: Arc<RareCounters>,
    options: Options,
    log: LogCursor,
    /// Time since boot before the current connection was opened. `None`: there is no connection yet.
    connected_at: Option<Duration>,
    /// Whether the last attempt at a new connection failed. Only the first failure is logged.
    is_renewal_failing: bool,
}

impl Follower {
    pub(in crate::service) fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        fence: Arc<Fence>,
        metrics: Arc<RareCounters>,
        options: Options,
    ) -> Self {
        Self {
            store,
            clock,
            fence,
            metrics,
            options,
            log: LogCursor::default(),
            connected_at: None,
            is_renewal_failing: false,
        }
    }

    /// Reads the log at every interval and on request. Logs the start and the end of a failure, not every failed
    /// reading.
    pub(in crate::service) async fn run(mut self) {
        let mut ticks = interval(self.options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.fence.reading_requested() => {}
            }
            match self.read().await {
                Ok(()) => {
                    if is_failing {
                        tracing::info!("the change log is read again");
                    }
                    is_failing = false;
                }
                Err(error) => {
                    self.metrics.change_log_failures.fetch_add(1, Ordering::Relaxed);
                    match (&error, is_failing) {
                        (_, true) => {}
                        (FollowError::VersionFloor { .. }, false) => tracing::error!(
                            error = chain(&error),
                            "the database requires a newer version of this program: every call is refused"
                        ),
                        _ => tracing::warn!(
                            error = chain(&error),
                            "change log not read: session checks query the database"
                        ),
                    }
                    is_failing = true;
                }
            }
        }
    }

    /// Reads the log to its end, invalidates stale data, and then publishes the time.
    ///
    /// # Errors
    /// The database fails or takes too long. Invalidations up to then remain.
    pub(in crate::service) async fn read(&mut self) -> Result<(), FollowError> {
        let mut is_other = false;
        loop {
            match self.read_once().await? {
                Progress::UpToHead => return Ok(()),
                Progress::NotYet => {}
                // New connections lead to different servers by turns.
                Progress::OtherServer if is_other => return Err(FollowError::SeveralServers),
                Progress::OtherServer => is_other = true,
            }
        }
    }

    /// Reads one page.
    pub(in crate::service) async fn read_once(&mut self) -> Result<Progress, FollowError> {
        let number = self.fence.begin_reading();
        self.renew_connection().await;
        // The time before the query, not that of the answer: the database may have read the log long before the answer
        // arrives.
        let asked_at = self.clock.since_boot();
        let reading = changes::read(self.store.tail(), self.log.from(), MAX_ENTRIES as u64);
        let reading = timeout(self.options.timeout, reading).await;
        let reading = reading.map_err(|_| FollowError::TooSlow)??;
        self.check_version(&reading)?;
        let taken = self.log.take(&reading, &self.fence);
        if taken == Progress::OtherServer {
            // The other connections lead to the previous server, and the last heartbeat went there too.
            self.store.end_generation();
            self.connected_at = None;
        }
        if taken == Progress::UpToHead {
            let known_until = if self.store.has_server() {
                self.connected_at.unwrap_or_default().min(asked_at)
            } else {
                asked_at
            };
            self.fence.publish(known_until);
            self.metrics.set_read_at(asked_at);
            self.fence.complete_reading(number);
        }
        Ok(taken)
    }

    /// Stops all answers if the database requires a newer version of this program.
    fn check_version(&self, reading: &ChangeLogRead) -> Result<(), FollowError> {
        let required = reading.head.version_floor;
        let is_below = required > self.store.version_level();
        self.store.set_closed(is_below);
        if !is_below {
            return Ok(());
        }
        self.fence.publish(Duration::ZERO);
        Err(FollowError::VersionFloor {
            required,
            level: self.store.version_level(),
        })
    }

    /// Opens a new connection if the current one may be too old before the next reading. If that fails, the follower
    /// reads the log on the old connection, to learn about revocations there, but publishes no later time than before.
    async fn renew_connection(&mut self) {
        let Options { interval, bound, .. } = self.options;
        let now = self.clock.since_boot();
        let is_due = self
            .connected_at
            .is_none_or(|at| now.saturating_sub(at) + interval > bound.mul_f64(RENEWAL_AGE));
        if !self.store.has_server() || !is_due {
            return;
        }
        let renewed = timeout(self.options.timeout, self.store.renew_tail()).await;
        let renewed = match renewed.unwrap_or_else(|_| Err(too_slow())) {
            Ok(is_synchronous) => {
                self.fence.set_synchronous(is_synchronous);
                self.prove_commit(is_synchronous).await
            }
            failed => failed.map(|_| ()),
        };
        match renewed {
            Ok(()) => {
                self.connected_at = Some(now);
                self.is_renewal_failing = false;
            }
            Err(error) => {
                if !self.is_renewal_failing {
                    tracing::warn!(error = chain(&error), "no new connection for the change log");
                }
                self.is_renewal_failing = true;
            }
        }
    }

    /// Commits a heartbeat on a server that commits synchronously to a standby. If that fails, another host may be the
    /// primary.
    async fn prove_commit(&self, is_synchronous: bool) -> Result<(), StoreError> {
        if !is_synchronous {
            return Ok(());
        }
        let beat = timeout(self.options.timeout, heartbeat::beat(self.store.tail())).await;
        beat.unwrap_or_else(|_| Err(too_slow()))
            .inspect_err(|_| self.store.try_another_host())
    }
}

fn too_slow() -> StoreError {
    StoreError::unavailable("the database takes too long")
}

/// Part of the staleness bound after which a connection is replaced.
const RENEWAL_AGE: f64 = 0.6;

/// Reason for which the change log was not read.
#[derive(Debug, Error)]
pub(in crate::service) enum FollowError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database took too long.
    #[error("the database takes too long")]
    TooSlow,
    /// Several servers that accept writes answer by turns.
    #[error("several database servers that accept writes answer by turns")]
    SeveralServers,
    /// The database requires a newer version of this program.
    #[error("the database requires version level {required}, and this program has {level}")]
    VersionFloor {
        /// The version floor of the database.
        required: i32,
        /// The version level of this program.
        level: i32,
    },
}
