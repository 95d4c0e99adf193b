//! Bounded, fair, blocking queue in front of the hashing threads.
//!
//! [`fair`] has the discipline: jobs are taken in turns of calling services, networks and phone numbers, so that a
//! flood delays its own flow and no other. When the queue is full, the longest flow loses its newest job. A job leaves
//! when its caller goes.

mod fair;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::flow::Flow;
use fair::{Charge, Fair};

/// Why a job was not taken in.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Full;

/// The place of a job in the queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ticket {
    /// Jobs are numbered in the order in which they come.
    number: u64,
    flow: Flow,
}

/// A job that was put into the queue.
#[derive(Debug)]
pub(super) struct Pushed<T> {
    pub(super) ticket: Ticket,
    /// The newest job of the longest flow, which made room.
    pub(super) displaced: Option<T>,
}

/// A job that was taken out, and how long it had waited.
#[derive(Debug)]
pub(super) struct Taken<T> {
    pub(super) job: T,
    pub(super) waited: Duration,
    /// To be settled by [`Queue::settle`] when the job is done. `None`: another thread does that.
    pub(super) charge: Option<Charge>,
}

pub(super) struct Queue<T> {
    bound: AtomicUsize,
    state: Mutex<State<T>>,
    /// Number of waiting jobs, to be read without a lock.
    depth: AtomicUsize,
    /// Rung for those who take in turn.
    arrived: Condvar,
    /// The same for the relief threads.
    relief: Condvar,
    /// Rung for who takes what is old, when there is a new oldest job in an empty queue, or the clock is set.
    began: Condvar,
}

struct State<T> {
    jobs: Fair<T>,
    next: u64,
    is_closed: bool,
    /// How many [`Queue::hold`] are in force.
    held: usize,
    /// Whether the relief threads take the jobs, and the others do not.
    is_relieved: bool,
    /// Jobs that relief threads compute once more. At most one for each other thread.
    again: Vec<T>,
    /// How many [`Queue::hold_taken`] are in force.
    held_taken: usize,
    /// When who takes what is old has to look at answers that are held back.
    clock: Option<Instant>,
}

/// A job that waits.
struct Waiting<T> {
    since: Instant,
    job: T,
}

impl<T> Queue<T> {
    /// A queue of at most `bound` jobs, the first of which are expected to take `estimate`.
    pub(super) fn new(bound: usize, estimate: Duration) -> Self {
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
            bound: AtomicUsize::new(bound),
            state: Mutex::new(state),
            depth: AtomicUsize::new(0),
            arrived: Condvar::new(),
            relief: Condvar::new(),
            began: Condvar::new(),
        }
    }

    /// Changes how many jobs may wait. Those that wait already stay.
    pub(super) fn set_bound(&self, bound: usize) {
        self.bound.store(bound, Ordering::Relaxed);
    }

    /// Whether [`Self::push`] would refuse a job of this flow now.
    pub(super) fn is_full_for(&self, flow: Flow) -> bool {
        let bound = self.bound();
        if self.depth() < bound {
            return false;
        }
        let state = self.lock();
        state.jobs.len() >= bound && state.jobs.victim(flow).is_none()
    }

    /// Puts a job at the end of its flow. If the queue is full, the newest job of the longest flow makes room, unless
    /// this job is that.
    pub(super) fn push(&self, flow: Flow, job: T) -> Result<Pushed<T>, Full> {
        let mut state = self.lock();
        let mut displaced = None;
        if state.jobs.len() >= self.bound() {
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

    /// Removes the job of a caller that left. `None`: it does not wait any more.
    pub(super) fn remove(&self, ticket: Ticket) -> Option<T> {
        let mut state = self.lock();
        let removed = state.jobs.remove(ticket);
        self.count(&state);
        removed.map(|waiting| waiting.job)
    }

    /// Charges the processor time that a job used to its flow, in place of the estimate.
    pub(super) fn settle(&self, charge: Charge, used: Duration) {
        self.lock().jobs.settle(charge, nanoseconds(used));
    }

    /// Waits for a job and takes the next one in the fair order. `None`: the queue is closed and empty. While there is
    /// no job to take, `before_waiting` is called each time before it waits.
    pub(super) fn take(&self, mut before_waiting: impl FnMut()) -> Option<Taken<T>> {
        let mut is_told = false;
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
            state = if is_told {
                self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                drop(state);
                before_waiting();
                // Meanwhile a job may have come.
                self.lock()
            };
            is_told = !is_told;
        }
    }

    /// Waits until the relief threads take the jobs, and takes the next one in the fair order. `None`: the queue is
    /// closed. When that has ended, `at_end` is called before it waits again.
    pub(super) fn take_relief(&self, mut at_end: impl FnMut()) -> Option<Taken<T>> {
        // The relief may have ended since the job before was taken.
        let mut has_ended = true;
        let mut state = self.lock();
        loop {
            if state.is_relieved && state.held == 0 {
                has_ended = true;
                if let Some(job) = state.again.pop() {
                    // It is charged to its flow by the thread that began it.
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

    /// Has the relief threads take the jobs, or the others, and the relief threads compute these once more.
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
    /// threads by being late. `None`: the queue is closed. Meanwhile `look` is called at the time of
    /// [`Self::set_clock`] and returns the next time.
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
                // By then it may have been taken in turn, and another may be the oldest.
                Some(rest) => {
                    let waited = self.began.wait_timeout(state, rest);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.began.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Tells who waits in [`Self::take_aged`] when to look.
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

    /// Number of jobs that were taken and are not done.
    pub(super) fn running(&self) -> usize {
        self.lock().jobs.running()
    }

    /// How many jobs may wait.
    pub(super) fn bound(&self) -> usize {
        self.bound.load(Ordering::Relaxed)
    }

    /// How many jobs wait.
    pub(super) fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    /// Lets nobody take a job until [`Self::release`].
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

    /// Keeps the threads from working on the jobs that they take, until [`Self::release_taken`].
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

    /// Takes nothing in any more, and tells those who wait.
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

    /// No code that can panic runs under the lock, so what it guards is whole even if it is poisoned.
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
