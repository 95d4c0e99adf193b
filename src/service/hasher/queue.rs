//! Bounded, fair, blocking queue in front of the hashing threads.
//!
//! [`fair`] implements the discipline: calling services, networks and phone numbers take turns, so that a flood delays
//! only its own flow. When the queue is full, the longest flow loses its newest job. A job leaves the queue when its
//! caller goes away.

mod fair;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::flow::Flow;
use fair::{Charge, Fair};

/// Error of a job that the full queue refuses.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Full;

/// Position of a job in the queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ticket {
    /// Sequence number in order of arrival.
    number: u64,
    flow: Flow,
}

/// Result of a push.
#[derive(Debug)]
pub(super) struct Pushed<T> {
    pub(super) ticket: Ticket,
    /// The newest job of the longest flow, which the full queue dropped.
    pub(super) displaced: Option<T>,
}

/// A job that was taken, and its wait in the queue.
#[derive(Debug)]
pub(super) struct Taken<T> {
    pub(super) job: T,
    pub(super) waited: Duration,
    /// To be settled by [`Queue::settle`] when the job is done. `None`: another thread settles it.
    pub(super) charge: Option<Charge>,
}

pub(super) struct Queue<T> {
    capacity: AtomicUsize,
    state: Mutex<State<T>>,
    /// Number of waiting jobs, readable without the lock.
    depth: AtomicUsize,
    /// Wakes the hashing threads.
    arrived: Condvar,
    /// Wakes the relief threads.
    relief: Condvar,
    /// Wakes the rescue thread when a job enters an empty queue or the timer is set.
    began: Condvar,
}

struct State<T> {
    jobs: Fair<T>,
    next: u64,
    is_closed: bool,
    /// Number of active [`Queue::hold`] calls.
    held: usize,
    /// Whether the relief threads take the jobs in place of the hashing threads.
    is_relieved: bool,
    /// Jobs that relief threads compute again: at most one for each hashing thread.
    again: Vec<T>,
    /// Number of active [`Queue::hold_taken`] calls.
    held_taken: usize,
    /// Time at which the rescue thread calls its `look` function.
    clock: Option<Instant>,
}

/// A waiting job.
struct Waiting<T> {
    since: Instant,
    job: T,
}

impl<T> Queue<T> {
    /// Creates a queue of at most `capacity` jobs. `estimate` is the expected processor time of the first jobs.
    pub(super) fn new(capacity: usize, estimate: Duration) -> Self {
        let state = State {
            jobs: Fair::new(nanoseconds(estimate)),
            next: 0,
            is_closed: false,
            held: 0,
            is_relieved: false,
            again: Vec::new(),
            held_taken: 0,
            clock: None,
        };
        Self {
            capacity: AtomicUsize::new(capacity),
            state: Mutex::new(state),
            depth: AtomicUsize::new(0),
            arrived: Condvar::new(),
            relief: Condvar::new(),
            began: Condvar::new(),
        }
    }

    /// Changes the maximum number of waiting jobs. Jobs that already wait stay.
    pub(super) fn set_capacity(&self, capacity: usize) {
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    /// Returns whether [`Self::push`] would refuse a job of this flow now.
    pub(super) fn is_full_for(&self, flow: Flow) -> bool {
        let capacity = self.capacity();
        if self.depth() < capacity {
            return false;
        }
        let state = self.lock();
        state.jobs.len() >= capacity && state.jobs.victim(flow).is_none()
    }

    /// Appends a job to its flow. If the queue is full, the newest job of the longest flow is dropped for it.
    ///
    /// # Errors
    /// [`Full`]: the new job itself is the newest job of the longest flow.
    pub(super) fn push(&self, flow: Flow, job: T) -> Result<Pushed<T>, Full> {
        let mut state = self.lock();
        let mut displaced = None;
        if state.jobs.len() >= self.capacity() {
            let victim = state.jobs.victim(flow).ok_or(Full)?;
            displaced = state.jobs.remove(victim).map(|waiting| waiting.job);
        }
        let number = state.next;
        state.next += 1;
        let ticket = Ticket { number, flow };
        let since = Instant::now();
        state.jobs.push(ticket, Waiting { since, job });
        let is_first = state.jobs.len() == 1;
        let takers = if state.is_relieved {
            &self.relief
        } else {
            &self.arrived
        };
        self.count(&state);
        drop(state);
        takers.notify_one();
        if is_first {
            self.began.notify_one();
        }
        Ok(Pushed { ticket, displaced })
    }

    /// Removes the job of a caller that has gone away. `None`: the job no longer waits.
    pub(super) fn remove(&self, ticket: Ticket) -> Option<T> {
        let mut state = self.lock();
        let removed = state.jobs.remove(ticket);
        self.count(&state);
        removed.map(|waiting| waiting.job)
    }

    /// Charges the measured processor time of a job to its flow, in place of the estimate.
    pub(super) fn settle(&self, charge: Charge, used: Duration) {
        self.lock().jobs.settle(charge, nanoseconds(used));
    }

    /// Waits for a job and takes the next one in the fair order. `None`: the queue is closed and empty. Calls
    /// `before_waiting` each time before it waits for a job.
    pub(super) fn take(&self, mut before_waiting: impl FnMut()) -> Option<Taken<T>> {
        let mut was_notified = false;
        let mut state = self.lock();
        loop {
            if state.held == 0 {
                let taken = if state.is_relieved {
                    None
                } else {
                    self.take_next(&mut state)
                };
                if taken.is_some() {
                    self.pass_held_taken(state);
                    return taken;
                }
                if state.is_closed {
                    return None;
                }
            }
            state = if was_notified {
                self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                drop(state);
                before_waiting();
                // A job may have arrived in the meantime.
                self.lock()
            };
            was_notified = !was_notified;
        }
    }

    /// Waits until the relief threads take the jobs, and takes the next one in the fair order. `None`: the queue is
    /// closed. Calls `at_end` once after each end of the relief, before it waits again.
    pub(super) fn take_relief(&self, mut at_end: impl FnMut()) -> Option<Taken<T>> {
        // The relief may have ended since the previous job was taken.
        let mut has_ended = true;
        let mut state = self.lock();
        loop {
            if state.is_relieved && state.held == 0 {
                has_ended = true;
                if let Some(job) = state.again.pop() {
                    // The thread that started the job settles its charge.
                    return Some(Taken {
                        job,
                        waited: Duration::ZERO,
                        charge: None,
                    });
                }
                let taken = self.take_next(&mut state);
                if taken.is_some() {
                    self.pass_held_taken(state);
                    return taken;
                }
            }
            if state.is_closed {
                return None;
            }
            if has_ended && !state.is_relieved {
                has_ended = false;
                drop(state);
                at_end();
                state = self.lock();
                continue;
            }
            state = self.relief.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Selects whether the relief threads or the hashing threads take the jobs. The relief threads compute the jobs of
    /// `again` a second time.
    pub(super) fn set_relieved(&self, is_relieved: bool, again: Vec<T>) {
        let mut state = self.lock();
        let is_new = state.is_relieved != is_relieved || !again.is_empty();
        state.is_relieved = is_relieved;
        if is_relieved {
            state.again.extend(again);
        } else {
            state.again.clear();
        }
        drop(state);
        if is_new {
            self.arrived.notify_all();
            self.relief.notify_all();
        }
    }

    /// Waits until the oldest job has waited for `age`, and takes the next one in the fair order: a flood must not get
    /// threads by being late. `None`: the queue is closed. Meanwhile it calls `look` at the time of
    /// [`Self::set_clock`]; `look` returns the next such time.
    pub(super) fn take_aged(
        &self,
        age: Duration,
        mut look: impl FnMut(Instant) -> Option<Instant>,
    ) -> Option<Taken<T>> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            let now = Instant::now();
            let due_in = state.clock.map(|due| due.saturating_duration_since(now));
            if due_in == Some(Duration::ZERO) {
                state.clock = None;
                drop(state);
                let next = look(now);
                state = self.lock();
                state.clock = earlier(state.clock, next);
                continue;
            }
            let oldest = state.jobs.oldest().filter(|_| state.held == 0);
            let missing = oldest.map(|since| age.saturating_sub(since.elapsed()));
            if missing == Some(Duration::ZERO) {
                let taken = self.take_next(&mut state);
                self.pass_held_taken(state);
                return taken;
            }
            state = match [missing, due_in].into_iter().flatten().min() {
                // Another thread may take that job by then, and another job may be the oldest.
                Some(rest) => {
                    let waited = self.began.wait_timeout(state, rest);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.began.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Sets the time at which [`Self::take_aged`] calls `look`, unless it already has an earlier one.
    pub(super) fn set_clock(&self, due: Instant) {
        let mut state = self.lock();
        state.clock = earlier(state.clock, Some(due));
        drop(state);
        self.began.notify_one();
    }

    /// Number of flows with waiting jobs.
    pub(super) fn flows(&self) -> usize {
        self.lock().jobs.flows()
    }

    /// Number of jobs that a thread has taken and not finished.
    pub(super) fn running(&self) -> usize {
        self.lock().jobs.running()
    }

    /// Maximum number of waiting jobs.
    pub(super) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Number of waiting jobs.
    pub(super) fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    /// Keeps all threads from taking a job until [`Self::release`].
    pub(super) fn hold(&self) {
        self.lock().held += 1;
    }

    /// Ends one [`Self::hold`].
    pub(super) fn release(&self) {
        let mut state = self.lock();
        state.held = state.held.saturating_sub(1);
        drop(state);
        self.wake_all();
    }

    /// Keeps the threads from starting the jobs that they take until [`Self::release_taken`].
    pub(super) fn hold_taken(&self) {
        self.lock().held_taken += 1;
    }

    /// Ends one [`Self::hold_taken`].
    pub(super) fn release_taken(&self) {
        let mut state = self.lock();
        state.held_taken = state.held_taken.saturating_sub(1);
        drop(state);
        self.wake_all();
    }

    /// Ends the queue: wakes all threads, which then stop.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.wake_all();
    }

    fn take_next(&self, state: &mut State<T>) -> Option<Taken<T>> {
        let (waiting, charge) = state.jobs.take()?;
        self.count(state);
        Some(Taken {
            job: waiting.job,
            waited: waiting.since.elapsed(),
            charge: Some(charge),
        })
    }

    fn pass_held_taken(&self, mut state: MutexGuard<'_, State<T>>) {
        while state.held_taken > 0 && !state.is_closed {
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn count(&self, state: &State<T>) {
        self.depth.store(state.jobs.len(), Ordering::Relaxed);
    }

    fn wake_all(&self) {
        self.arrived.notify_all();
        self.relief.notify_all();
        self.began.notify_all();
    }

    /// No code that can panic runs under the lock, so the guarded value is consistent even if the lock is poisoned.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
