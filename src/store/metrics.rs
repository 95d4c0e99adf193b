//! What is counted about the connections to the database.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sea_orm::DbErr;

use super::error::DbErrorKind;
use crate::telemetry::histogram::{Histogram, Times};

/// The upper bounds of the buckets of waits for a connection, in microseconds. Most find a free one at once.
const WAIT_BOUNDS_MICROSECONDS: [u64; 13] = [
    10, 50, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
];

/// The counters of a pool.
#[derive(Debug)]
pub(super) struct Metrics {
    waits: Histogram,
    errors: [AtomicU64; DbErrorKind::ALL.len()],
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            waits: Histogram::new(&WAIT_BOUNDS_MICROSECONDS),
            errors: Default::default(),
        }
    }
}

/// What the counters of a pool say, and how many connections it has now.
#[derive(Clone, Debug)]
pub struct PoolSnapshot {
    /// Connections that somebody uses.
    pub used: usize,
    /// Open connections that nobody uses.
    pub idle: usize,
    /// How long was waited for a connection, be it in vain.
    pub waits: Times,
    /// How many failures there were of each kind, with its name. That a row is there already is none.
    pub errors: [(&'static str, u64); DbErrorKind::ALL.len()],
}

impl Metrics {
    pub(super) fn waited(&self, time: Duration) {
        self.waits.note(time);
    }

    pub(super) fn failed(&self, error: &DbErr) {
        // How races for a phone number are decided.
        if error.sql_err().is_none() {
            self.errors[DbErrorKind::of(error) as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn snapshot(&self, used: usize, idle: usize) -> PoolSnapshot {
        let errors = DbErrorKind::ALL.map(|kind| {
            let count = self.errors[kind as usize].load(Ordering::Relaxed);
            (kind.as_str(), count)
        });
        PoolSnapshot {
            used,
            idle,
            waits: self.waits.times(),
            errors,
        }
    }
}
