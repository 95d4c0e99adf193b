//! Background tasks of session checks: the change-log follower, the write probe, the writes of `last_seen_at`, and
//! housekeeping.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{Sessions, SessionsState};
use crate::service::error::chain;
use crate::service::housekeeping;
use crate::service::revocation::follower::{self as follower, Follower};
use crate::store::heartbeat;

/// Maximum wait of a session's use until it is written.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Interval of the write probe, while the database accepts writes and while it does not.
const WRITE_PROBE_INTERVAL: Duration = Duration::from_secs(2);
const WRITE_PROBE_RETRY: Duration = Duration::from_millis(250);

/// Time for which a conflict with other transactions is no evidence against the database. A commit that waits for a
/// lost standby holds its row.
const CONTENTION_TOLERANCE: Duration = Duration::from_secs(10);

/// Interval at which the number of checks is logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

impl Sessions {
    /// Creates a follower that has not read the change log yet.
    pub(super) fn follower(&self) -> Follower {
        Follower::new(
            self.0.store.clone(),
            self.0.clock.clone(),
            self.0.fence.clone(),
            self.0.metrics.rare().clone(),
            follower::Options {
                interval: self.0.options.change_log_interval,
                timeout: self.0.options.change_log_timeout,
                bound: self.0.fence.bound(),
            },
        )
    }

    /// Runs the background tasks until `stop` is cancelled, and then writes `last_seen_at` for the last time.
    pub async fn run_background(self, stop: CancellationToken) {
        let options = &self.0.options;
        let work = async {
            tokio::join!(
                self.follower().run(),
                self.probe_writes(),
                every(FLUSH_INTERVAL, || self.flush()),
                every(options.cleanup_interval, || self.clean_up()),
                self.report(),
            )
        };
        // Boxed because the future is large and exists once.
        Box::pin(stop.run_until_cancelled(work)).await;
        self.flush().await;
    }

    /// Logs the number of checks. Successful checks have no log lines of their own.
    async fn report(&self) {
        let mut before = self.metrics();
        let mut ticks = interval(REPORT_INTERVAL);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let now = self.metrics();
            let (cached, lag) = (now.cached, now.change_log_lag);
            let (hits, misses, strong) = now.since(&before);
            if hits + misses + strong > 0 {
                tracing::info!(hits, misses, strong, cached, ?lag, "session checks");
            }
            before = now;
        }
    }

    /// Probes periodically, by a heartbeat, whether the database accepts writes. Logs each change once.
    async fn probe_writes(&self) {
        let SessionsState { store, metrics, .. } = self.0.as_ref();
        let mut last_accepted = Instant::now();
        loop {
            let accepted = match heartbeat::beat(&store.counter_writer()).await {
                Ok(()) => Some(true),
                // The pool is busy, or another transaction blocks the row: for a while this is no evidence against the
                // database.
                Err(error) if error.is_contention() && last_accepted.elapsed() < CONTENTION_TOLERANCE => None,
                Err(error) => {
                    if metrics.rare().accepts_writes() {
                        tracing::warn!(error = chain(&error), "the database does not accept writes");
                    }
                    Some(false)
                }
            };
            if let Some(accepted) = accepted {
                if accepted {
                    last_accepted = Instant::now();
                }
                if accepted && !metrics.rare().accepts_writes() {
                    tracing::info!("the database accepts writes again");
                }
                metrics.rare().set_accepts_writes(accepted);
            }
            sleep(if accepted == Some(false) {
                WRITE_PROBE_RETRY
            } else {
                WRITE_PROBE_INTERVAL
            })
            .await;
        }
    }

    pub(super) async fn flush(&self) {
        let SessionsState {
            store,
            last_seen,
            options,
            ..
        } = self.0.as_ref();
        if let Err(error) = last_seen.flush(store, &options.lifetimes).await {
            tracing::warn!(error = chain(&error), "last_seen_at not written");
        }
    }

    /// Runs one pass of housekeeping.
    pub(super) async fn clean_up(&self) {
        let SessionsState {
            store,
            options,
            metrics,
            ..
        } = self.0.as_ref();
        let now = || self.0.clock.now();
        let alive = housekeeping::run(store, &options.lifetimes, options.audit_retention, &now).await;
        if let Some(alive) = alive {
            metrics.rare().set_alive(alive);
        }
    }
}

/// Repeats `work` at every period.
async fn every<F: Future<Output = ()>>(period: Duration, mut work: impl FnMut() -> F) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        work().await;
    }
}
