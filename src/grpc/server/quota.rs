//! How much is taken of something of which there is so much and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Cheap to clone; all clones are about the same thing. Nobody waits for it: there is enough or there is not.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct Quota(Arc<QuotaState>);

#[derive(Debug)]
struct QuotaState {
    limit: usize,
    taken: AtomicUsize,
}

impl Quota {
    pub(in crate::grpc) fn new(limit: usize) -> Self {
        Self(Arc::new(QuotaState {
            limit,
            taken: AtomicUsize::new(0),
        }))
    }

    /// Takes `amount` until the answer is dropped. `None`: there is not that much left.
    pub(in crate::grpc) fn take(&self, amount: usize) -> Option<QuotaPermit> {
        let before = self.0.taken.fetch_add(amount, Ordering::Relaxed);
        // What was added is given back by the drop in any case.
        let taken = QuotaPermit {
            gauge: self.clone(),
            amount,
        };
        (before.saturating_add(amount) <= self.0.limit).then_some(taken)
    }

    /// Whether nearly all is taken.
    pub(in crate::grpc) fn is_nearly_used_up(&self) -> bool {
        self.taken() > self.0.limit - self.0.limit / 10
    }

    /// How much is taken now.
    pub(in crate::grpc) fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }
}

/// A part that is taken, and given back when this is dropped.
#[derive(Debug)]
pub(in crate::grpc) struct QuotaPermit {
    gauge: Quota,
    amount: usize,
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        self.gauge.0.taken.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_than_there_is() {
        let gauge = Quota::new(10);
        let first = gauge.take(7);
        assert!(first.is_some());
        assert!(gauge.take(4).is_none());
        let second = gauge.take(3);
        assert!(second.is_some());
        assert!(gauge.take(1).is_none());
        // What was refused took nothing.
        assert_eq!(gauge.taken(), 10);
        assert!(gauge.is_nearly_used_up());
        drop(first);
        assert_eq!(gauge.taken(), 3);
        let most = gauge.take(6);
        assert!(most.is_some() && !gauge.is_nearly_used_up());
    }
}
