//! Metrics of the database connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sea_orm::DbErr;

use super::error::DbErrorKind;
use crate::telemetry::histogram::{Histogram, Times};

/// Upper bounds of the wait buckets in microseconds. Most calls find a free connection at once.
const WAIT_BOUNDS_MICROSECONDS: [u64; 13] = [
    10, 50, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
];

/// Counters of a pool.
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

/// Snapshot of the counters of a pool, and its current number of connections.
#[derive(Clone, Debug)]
pub struct PoolSnapshot {
    /// Connections in use.
    pub used: usize,
    /// Open connections that are not in use.
    pub idle: usize,
    /// Waits for a connection, including failed ones.
    pub waits: Times,
    /// Number of failures of each kind, with its name. A violation of a unique index is not counted.
    pub errors: [(&'static str, u64); DbErrorKind::ALL.len()],
}

impl Metrics {
    pub(super) fn waited(&self, time: Duration) {
        self.waits.note(time);
    }

    pub(super) fn failed(&self, error: &DbErr) {
        // Unique indexes decide the races for a phone number.
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
