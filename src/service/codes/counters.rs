//! Counters of messages, locked by a transaction.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::domain::code::Challenge;
use crate::domain::sms_limits::{Counted, Counter, CounterId, PrefixStats, PumpingGuard};
use crate::service::error::Error;
use crate::store::{Transaction, sms_counters};

/// The counters by which the pumping guard watches a prefix.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    /// The counter of the prefix and a source.
    pub(super) source: CounterId,
    /// The counter of the prefix.
    pub(super) prefix: CounterId,
}

impl Pair {
    pub(super) const fn ids(&self) -> [CounterId; 2] {
        [self.source, self.prefix]
    }
}

/// Counters that a transaction has locked.
pub(super) struct Locked {
    counters: BTreeMap<CounterId, Counter>,
    changed: BTreeSet<CounterId>,
    now: Timestamp,
}

impl Locked {
    /// Locks the counters that have a row.
    pub(super) async fn lock(tx: &Transaction, ids: &[CounterId], now: Timestamp) -> Result<Self, Error> {
        Ok(Self {
            counters: sms_counters::lock(tx, ids).await?.into_iter().collect(),
            changed: BTreeSet::new(),
            now,
        })
    }

    pub(super) fn has_all(&self, ids: &[CounterId]) -> bool {
        ids.iter().all(|id| self.counters.contains_key(id))
    }

    /// A counter. One without a row is new.
    pub(super) fn of(&self, id: CounterId) -> Counter {
        let counter = self.counters.get(&id).copied();
        counter.unwrap_or_else(|| Counter::new(self.now))
    }

    /// Changes a counter that has a row.
    pub(super) fn set(&mut self, id: CounterId, counter: Counter) {
        if let Some(old) = self.counters.get_mut(&id) {
            *old = counter;
            self.changed.insert(id);
        }
    }

    /// The usage of a prefix.
    pub(super) fn seen(&self, by: &Pair) -> PrefixStats {
        let [source, prefix] = by.ids().map(|id| self.of(id).usage);
        PrefixStats { source, prefix }
    }

    /// Changes the usage of a prefix.
    pub(super) fn see(&mut self, by: &Pair, seen: PrefixStats) {
        for (id, usage) in [(by.source, seen.source), (by.prefix, seen.prefix)] {
            let counter = self.of(id);
            self.set(id, Counter { usage, ..counter });
        }
    }

    /// Writes the changed counters.
    pub(super) async fn write(&self, tx: &Transaction) -> Result<(), Error> {
        for id in &self.changed {
            sms_counters::update(tx, *id, &self.of(*id), self.now).await?;
        }
        Ok(())
    }
}

/// Counts a used code for the pumping guard, in the transaction that deletes the challenge.
pub(super) async fn note_used(
    tx: &Transaction,
    challenge: &Challenge,
    pumping_guard: Option<&PumpingGuard>,
    now: Timestamp,
) -> Result<(), Error> {
    let (Some(source), Some(pumping_guard)) = (challenge.watched, pumping_guard) else {
        return Ok(());
    };
    let by = Pair {
        source,
        prefix: Counted::Prefix(&challenge.phone_number).id(),
    };
    let mut counters = Locked::lock(tx, &by.ids(), now).await?;
    let seen = pumping_guard.used(counters.seen(&by));
    counters.see(&by, seen);
    counters.write(tx).await
}
