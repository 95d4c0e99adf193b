//! Weighted scheduler of concurrent sends between delivery classes: known askers first, a guaranteed part for
//! strangers.

use std::array;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::domain::message::DeliveryClass;
use crate::store::outbox::OutboxMessage;

/// One place of so many is kept for each class, and one turn of so many is for a message that waits long, or for a
/// stranger.
const PART: usize = 4;

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

/// The places for concurrent sends.
pub(super) struct SendPermits {
    total: usize,
    used: ByClass<Arc<AtomicUsize>>,
    /// Messages that were begun.
    begun: ByClass<usize>,
    /// Messages of known askers that were begun since the last one of a stranger.
    known_in_a_row: usize,
}

/// A place that a message has while it is sent.
pub(super) struct SendPermit(Arc<AtomicUsize>);

impl Drop for SendPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SendPermits {
    /// So many places.
    pub(super) fn new(total: usize) -> Self {
        Self {
            total,
            used: ByClass::default(),
            begun: ByClass::default(),
            known_in_a_row: 0,
        }
    }

    /// How many more messages of a class may be sent. Neither class gets the last quarter: that is for the other one.
    pub(super) fn room(&self, class: DeliveryClass) -> usize {
        let used = |class| self.used.of(class).load(Ordering::Relaxed);
        let all: usize = DeliveryClass::ALL.into_iter().map(used).sum();
        let of_class = (self.total - self.total / PART).saturating_sub(used(class));
        self.total.saturating_sub(all).min(of_class)
    }

    /// Whether a class has no place.
    pub(super) fn is_short(&self) -> bool {
        DeliveryClass::ALL.into_iter().any(|class| self.room(class) == 0)
    }

    /// Whether the next place of a class is for the message that waits for the longest time.
    pub(super) fn is_for_longest_waiting(&self, class: DeliveryClass) -> bool {
        self.begun.of(class) % PART == PART - 1
    }

    /// The class that is next, of those that wait, in the order of [`DeliveryClass::ALL`].
    pub(super) fn next(&self, waiting: [bool; 2]) -> Option<DeliveryClass> {
        let [known, stranger] =
            array::from_fn(|index| waiting[index] && self.room(DeliveryClass::ALL[index]) > 0);
        if known && !(stranger && self.known_in_a_row >= PART - 1) {
            return Some(DeliveryClass::Known);
        }
        stranger.then_some(DeliveryClass::Stranger)
    }

    /// Takes a place for a message of a class.
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
    fn known_askers_come_first_and_strangers_get_every_fourth_place() {
        let mut permits = SendPermits::new(8);
        let mut order = Vec::new();
        for _ in 0..12 {
            let class = permits.next([true, true]).unwrap();
            order.push(class);
            drop(permits.take(class));
        }
        assert_eq!(order, [Known, Known, Known, Stranger].repeat(3));
        // Strangers alone use no turns up: a known asker is next.
        for _ in 0..10 {
            assert_eq!(permits.next([false, true]), Some(Stranger));
            drop(permits.take(Stranger));
        }
        assert_eq!(permits.next([true, true]), Some(Known));
        assert_eq!(permits.next([false, false]), None);
    }

    #[test]
    fn neither_class_gets_the_places_of_the_other() {
        for (total, most) in [(1, 1), (3, 3), (4, 3), (16, 12), (256, 192)] {
            for (class, other) in [(Known, Stranger), (Stranger, Known)] {
                let mut permits = SendPermits::new(total);
                let mut held = Vec::new();
                while permits.room(class) > 0 {
                    held.push(permits.take(class));
                }
                assert_eq!(held.len(), most);
                assert_eq!(permits.room(other), total - most);
                assert!(permits.is_short());
                assert_eq!(permits.next([true, true]).is_some(), total > most);
                held.clear();
                assert_eq!(permits.room(other), most);
            }
        }
    }

    #[test]
    fn one_place_of_four_is_for_the_longest_waiting_message() {
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
