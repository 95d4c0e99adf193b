//! Change-log follower: reads the log again and again, so that what other processes revoked is forgotten here.
//!
//! What a reading is worth depends on the server that answered it ([`LogCursor::take`]), and on the way to it. A
//! connection that was opened before a failover may lead to the old server, which may go on to accept writes that
//! nothing will ever see. So the follower opens a new connection twice in each staleness bound, and publishes no later
//! time than that of the last one: within the bound, new connections led to the server that was read. And where the
//! server commits synchronously to a standby, the follower has it commit a heartbeat on each new connection: a server
//! that is cut off from its standby cannot, even if it was not demoted. There, an answer of the database counts only if
//! a heartbeat was committed within the bound, too (see `lookup`).

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

/// The most entries that are read at a time.
pub(in crate::service) const MAX_ENTRIES: usize = 1000;

/// The settings of the follower.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct Options {
    /// How often the log is read.
    pub(in crate::service) interval: Duration,
    /// The longest that one reading may take.
    pub(in crate::service) timeout: Duration,
    /// The staleness bound.
    pub(in crate::service) bound: Duration,
}

/// How far the log was read.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    epoch: Uuid,
    seq: i64,
    /// The entry with that number. `None`: there is none, or an older version wrote it.
    entry_id: Option<Uuid>,
}

/// Follows the log through its readings, and forgets what they show to be out of date.
#[derive(Debug, Default)]
pub(in crate::service) struct LogCursor {
    /// `None`: the next reading is the first one, of everything before which nothing is known.
    cursor: Option<Cursor>,
    server: Option<Incarnation>,
}

/// What a reading has shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::service) enum Progress {
    /// The log is known up to its head.
    UpToHead,
    /// There is more to be read.
    NotYet,
    /// Another server has answered than before, whose log is still to be read.
    OtherServer,
}

impl LogCursor {
    /// The number from which the next reading starts. `None`: it reads the last entry only.
    pub(in crate::service) fn from(&self) -> Option<i64> {
        self.cursor.map(|cursor| cursor.seq)
    }

    /// Forgets what a reading shows to be out of date.
    ///
    /// - Another server than before: it may not have what was read from the one before, and the other way round.
    /// - Another epoch, a log that is shorter than it was, another entry with the number that was read last, or a gap:
    ///   another history, or entries that are missing.
    ///
    /// In each of these cases everything is forgotten, and the log is followed from its end on, which the next reading
    /// finds.
    pub(in crate::service) fn take(&mut self, reading: &ChangeLogRead, freshness: &Fence) -> Progress {
        let head = reading.head;
        if self.server != Some(reading.server) {
            freshness.follow(reading.server);
            if self.server.replace(reading.server).is_some() {
                tracing::warn!("another database server answers: all cached sessions are forgotten");
                self.cursor = None;
                return Progress::OtherServer;
            }
        }
        let Some(cursor) = self.cursor else {
            // What was read before the first reading may be out of date, and no entry will say so.
            freshness.forget_all();
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
            tracing::warn!("the change log has another history: all cached sessions are forgotten");
            return self.start_over(freshness);
        }
        // Without an entry at the cursor, the page has room for one more.
        let entries = &entries[..entries.len().min(MAX_ENTRIES)];
        let has_no_gap = (cursor.seq + 1..)
            .zip(entries)
            .all(|(seq, entry)| entry.seq == seq);
        let last = entries.last();
        let is_full = entries.len() == MAX_ENTRIES;
        // Without a gap and with the head in it, or else full, with the rest still to be read.
        if !has_no_gap || (last.map_or(cursor.seq, |entry| entry.seq) < head.last_seq && !is_full) {
            tracing::warn!("the change log has a gap: all cached sessions are forgotten");
            return self.start_over(freshness);
        }
        for entry in entries {
            match entry.user {
                Some(user) => freshness.forget(user),
                None => freshness.forget_all(),
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

    fn start_over(&mut self, freshness: &Fence) -> Progress {
        self.cursor = None;
        freshness.forget_all();
        Progress::NotYet
    }
}

/// Reads the change log.
pub(in crate::service) struct Follower {
    store: Store,
    clock: Arc<dyn Clock>,
    freshness: Arc<Fence>,
    metrics: Arc<RareCounters>,
    options: Options,
    follower: LogCursor,
    /// The time since boot before the connection was opened on which the log is read. `None`: there is none yet.
    connected_at: Option<Duration>,
    /// Whether the last attempt at a new connection failed, which is logged once.
    is_renewal_failing: bool,
}

impl Follower {
    pub(in crate::service) fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        freshness: Arc<Fence>,
        metrics: Arc<RareCounters>,
        options: Options,
    ) -> Self {
        Self {
            store,
            clock,
            freshness,
            metrics,
            options,
            follower: LogCursor::default(),
            connected_at: None,
            is_renewal_failing: false,
        }
    }

    /// Reads the log every interval, and whenever a reading is asked for. A failure is logged when it begins and when
    /// it ends, and not at every reading.
    pub(in crate::service) async fn run(mut self) {
        let mut ticks = interval(self.options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.freshness.reading_wanted() => {}
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
                            "a feature that this version does not respect is in use: every call is refused"
                        ),
                        _ => tracing::warn!(
                            error = chain(&error),
                            "change log not read: session checks ask the database"
                        ),
                    }
                    is_failing = true;
                }
            }
        }
    }

    /// Reads the log to its end, forgets what is out of date, and then publishes that.
    ///
    /// # Errors
    /// When the database fails or takes too long. What was forgotten by then stays so.
    pub(in crate::service) async fn read(&mut self) -> Result<(), FollowError> {
        let mut is_other = false;
        loop {
            match self.read_once().await? {
                Progress::UpToHead => return Ok(()),
                Progress::NotYet => {}
                // New connections lead now to one server, now to another.
                Progress::OtherServer if is_other => return Err(FollowError::SeveralServers),
                Progress::OtherServer => is_other = true,
            }
        }
    }

    /// Reads one page.
    pub(in crate::service) async fn read_once(&mut self) -> Result<Progress, FollowError> {
        let number = self.freshness.begin_reading();
        self.renew_connection().await;
        // Not the time of the answer: the database may have looked long before it arrives.
        let asked_at = self.clock.since_boot();
        let reading = changes::read(self.store.tail(), self.follower.from(), MAX_ENTRIES as u64);
        let reading = timeout(self.options.timeout, reading).await;
        let reading = reading.map_err(|_| FollowError::TooSlow)??;
        self.check_version(&reading)?;
        let taken = self.follower.take(&reading, &self.freshness);
        if taken == Progress::OtherServer {
            // The other connections are to the server of before, and so was the last heartbeat.
            self.store.end_generation();
            self.connected_at = None;
        }
        if taken == Progress::UpToHead {
            let known_until = if self.store.has_server() {
                self.connected_at.unwrap_or_default().min(asked_at)
            } else {
                asked_at
            };
            self.freshness.publish(known_until);
            self.metrics.set_read_at(asked_at);
            self.freshness.complete_reading(number);
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
        self.freshness.publish(Duration::ZERO);
        Err(FollowError::VersionFloor {
            required,
            level: self.store.version_level(),
        })
    }

    /// Opens a new connection if the one that there is may be too old before the next reading. If that fails, the log
    /// is read on the old one, so that it is known what was revoked there; but nothing later is published than before.
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
                self.freshness.set_synchronous(is_synchronous);
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

    /// Has a server that commits synchronously to a standby commit a heartbeat. If it does not, another host may be the
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

/// The age of a connection at which it is replaced, as a part of the staleness bound.
const RENEWAL_AGE: f64 = 0.6;

/// Why the change log was not read.
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
