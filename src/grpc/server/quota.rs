//! A counted limit with RAII permits. It never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A counted limit. Cheap to clone: all clones share the count.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct Quota(Arc<QuotaState>);

#[derive(Debug)]
struct QuotaState {
    limit: usize,
    in_use: AtomicUsize,
}

impl Quota {
    pub(in crate::grpc) fn new(limit: usize) -> Self {
        Self(Arc::new(QuotaState {
            limit,
            in_use: AtomicUsize::new(0),
        }))
    }

    /// Acquires `amount` until the permit is dropped. `None`: less than `amount` is left.
    pub(in crate::grpc) fn acquire(&self, amount: usize) -> Option<QuotaPermit> {
        let before = self.0.in_use.fetch_add(amount, Ordering::Relaxed);
        // The drop of the permit releases `amount`, also when the limit is exceeded here.
        let permit = QuotaPermit {
            quota: self.clone(),
            amount,
        };
        (before.saturating_add(amount) <= self.0.limit).then_some(permit)
    }

    /// Whether more than nine tenths are in use.
    pub(in crate::grpc) fn is_nearly_exhausted(&self) -> bool {
        self.in_use() > self.0.limit - self.0.limit / 10
    }

    /// Returns the amount in use.
    pub(in crate::grpc) fn in_use(&self) -> usize {
        self.0.in_use.load(Ordering::Relaxed)
    }
}

/// An acquired amount, which is released on drop.
#[derive(Debug)]
pub(in crate::grpc) struct QuotaPermit {
    quota: Quota,
    amount: usize,
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        self.quota.0.in_use.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_never_exceeded() {
        let quota = Quota::new(10);
        let first = quota.acquire(7);
        assert!(first.is_some());
        assert!(quota.acquire(4).is_none());
        let second = quota.acquire(3);
        assert!(second.is_some());
        assert!(quota.acquire(1).is_none());
        // A refusal acquires nothing.
        assert_eq!(quota.in_use(), 10);
        assert!(quota.is_nearly_exhausted());
        drop(first);
        assert_eq!(quota.in_use(), 3);
        let third = quota.acquire(6);
        assert!(third.is_some() && !quota.is_nearly_exhausted());
    }
}
