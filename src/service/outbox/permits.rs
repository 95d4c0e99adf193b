//! Weighted scheduler of concurrent deliveries between delivery classes: known users come first, and unknown users have
//! a guaranteed share.

use std::array;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::domain::message::DeliveryClass;
use crate::store::outbox::OutboxMessage;

/// One permit of four is reserved for each class. One turn of four belongs to the message that waits longest, or to an
/// unknown user.
const SHARE_DIVISOR: usize = 4;

/// A value for each class.
#[derive(Debug, Default)]
pub(super) struct ByClass<T> {
    known: T,
    stranger: T,
}

impl<T> ByClass<T> {
    pub(super) const fn of(&self, class: DeliveryClass) -> &T {
        match class {
            DeliveryClass::Known => &self.known,
            DeliveryClass::Stranger => &self.stranger,
        }
    }

    pub(super) const fn of_mut(&mut self, class: DeliveryClass) -> &mut T {
        match class {
            DeliveryClass::Known => &mut self.known,
            DeliveryClass::Stranger => &mut self.stranger,
        }
    }
}

/// The permits for concurrent deliveries.
pub(super) struct SendPermits {
    total: usize,
    used: ByClass<Arc<AtomicUsize>>,
    /// Number of messages that were started.
    begun: ByClass<usize>,
    /// Number of messages of known users that were started since the last one of an unknown user.
    known_in_a_row: usize,
}

/// Permit of one delivery. Dropping it returns it.
pub(super) struct SendPermit(Arc<AtomicUsize>);

impl Drop for SendPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SendPermits {
    /// Creates this number of permits.
    pub(super) fn new(total: usize) -> Self {
        Self {
            total,
            used: ByClass::default(),
            begun: ByClass::default(),
            known_in_a_row: 0,
        }
    }

    /// Number of free permits of a class. Neither class gets the last quarter, which is reserved for the other.
    pub(super) fn free(&self, class: DeliveryClass) -> usize {
        let used = |class| self.used.of(class).load(Ordering::Relaxed);
        let all: usize = DeliveryClass::ALL.into_iter().map(used).sum();
        let of_class = (self.total - self.total / SHARE_DIVISOR).saturating_sub(used(class));
        self.total.saturating_sub(all).min(of_class)
    }

    /// Returns whether any class has no free permit.
    pub(super) fn is_short(&self) -> bool {
        DeliveryClass::ALL.into_iter().any(|class| self.free(class) == 0)
    }

    /// Returns whether the next permit of a class belongs to the message that waits longest.
    pub(super) fn is_for_longest_waiting(&self, class: DeliveryClass) -> bool {
        self.begun.of(class) % SHARE_DIVISOR == SHARE_DIVISOR - 1
    }

    /// Returns the next class among those with waiting messages, in the order of [`DeliveryClass::ALL`].
    pub(super) fn next(&self, waiting: [bool; 2]) -> Option<DeliveryClass> {
        let [known, stranger] =
            array::from_fn(|index| waiting[index] && self.free(DeliveryClass::ALL[index]) > 0);
        if known && !(stranger && self.known_in_a_row >= SHARE_DIVISOR - 1) {
            return Some(DeliveryClass::Known);
        }
        stranger.then_some(DeliveryClass::Stranger)
    }

    /// Takes a permit for a message of a class.
    pub(super) fn take(&mut self, class: DeliveryClass) -> SendPermit {
        *self.begun.of_mut(class) += 1;
        self.known_in_a_row = match class {
            DeliveryClass::Known => self.known_in_a_row + 1,
            DeliveryClass::Stranger => 0,
        };
        let used = self.used.of(class).clone();
        used.fetch_add(1, Ordering::Relaxed);
        SendPermit(used)
    }
}

/// The next messages of each class.
pub(super) type NextMessages = ByClass<VecDeque<OutboxMessage>>;

#[cfg(test)]
mod tests {
    use super::*;
    use DeliveryClass::{Known, Stranger};

    #[test]
    fn known_users_come_first_and_unknown_users_get_every_fourth_turn() {
        let mut permits = SendPermits::new(8);
        let mut order = Vec::new();
        for _ in 0..12 {
            let class = permits.next([true, true]).unwrap();
            order.push(class);
            drop(permits.take(class));
        }
        assert_eq!(order, [Known, Known, Known, Stranger].repeat(3));
        // Messages of unknown users alone use no turns up: a known user is next.
        for _ in 0..10 {
            assert_eq!(permits.next([false, true]), Some(Stranger));
            drop(permits.take(Stranger));
        }
        assert_eq!(permits.next([true, true]), Some(Known));
        assert_eq!(permits.next([false, false]), None);
    }

    #[test]
    fn neither_class_gets_the_reserved_permits_of_the_other() {
        for (total, limit) in [(1, 1), (3, 3), (4, 3), (16, 12), (256, 192)] {
            for (class, other) in [(Known, Stranger), (Stranger, Known)] {
                let mut permits = SendPermits::new(total);
                let mut permits_of_class = Vec::new();
                while permits.free(class) > 0 {
                    permits_of_class.push(permits.take(class));
                }
                assert_eq!(permits_of_class.len(), limit);
                assert_eq!(permits.free(other), total - limit);
                assert!(permits.is_short());
                assert_eq!(permits.next([true, true]).is_some(), total > limit);
                permits_of_class.clear();
                assert_eq!(permits.free(other), limit);
            }
        }
    }

    #[test]
    fn one_permit_of_four_is_for_the_longest_waiting_message() {
        let mut permits = SendPermits::new(4);
        let turns: Vec<bool> = (0..8)
            .map(|_| {
                let is_for_longest = permits.is_for_longest_waiting(Stranger);
                drop(permits.take(Stranger));
                is_for_longest
            })
            .collect();
        assert_eq!(turns, [false, false, false, true, false, false, false, true]);
    }
}
