//! The bounded queue in front of the hashing threads. Beside being taken in turn, a job can be taken because it has
//! waited for too long, and can leave because its caller has gone.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Why a job was not taken in.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Full;

/// The place of a job in the queue.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Ticket(u64);

/// A job that was taken out, and how long it had waited.
#[derive(Debug)]
pub(super) struct Taken<T> {
    pub(super) job: T,
    pub(super) waited: Duration,
}

pub(super) struct Queue<T> {
    bound: AtomicUsize,
    state: Mutex<State<T>>,
    /// As long as `waiting`, to be read without a lock.
    depth: AtomicUsize,
    /// Rung for those who take in turn.
    arrived: Condvar,
    /// The same for the relief threads.
    relief: Condvar,
    /// Rung for who takes what is old, when there is a new oldest job in an empty queue, or the clock is set.
    began: Condvar,
}

struct State<T> {
    /// The oldest first, and so in the order of their tickets.
    waiting: VecDeque<Waiting<T>>,
    next: u64,
    is_closed: bool,
    /// How many [`Queue::hold`] are in force.
    held: usize,
    /// Whether the relief threads take the jobs, and the others do not.
    is_relieved: bool,
    /// Jobs that relief threads compute once more. At most one for each other thread.
    again: Vec<T>,
    /// When who takes what is old has to look at answers that are held back.
    clock: Option<Instant>,
}

struct Waiting<T> {
    ticket: Ticket,
    since: Instant,
    job: T,
}

impl<T> Queue<T> {
    /// A queue of at most `bound` jobs.
    pub(super) fn new(bound: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            next: 0,
            is_closed: false,
            held: 0,
            is_relieved: false,
            again: Vec::new(),
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

    /// Whether no more jobs may wait.
    pub(super) fn is_full(&self) -> bool {
        self.depth.load(Ordering::Relaxed) >= self.bound.load(Ordering::Relaxed)
    }

    /// Puts a job at the end.
    pub(super) fn push(&self, job: T) -> Result<Ticket, Full> {
        let mut state = self.lock();
        if state.waiting.len() >= self.bound.load(Ordering::Relaxed) {
            return Err(Full);
        }
        let ticket = Ticket(state.next);
        state.next += 1;
        state.waiting.push_back(Waiting {
            ticket,
            since: Instant::now(),
            job,
        });
        let is_first = state.waiting.len() == 1;
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
        Ok(ticket)
    }

    /// Takes a job out whose caller has gone. `None`: it is not there any more.
    pub(super) fn remove(&self, ticket: Ticket) -> Option<T> {
        let mut state = self.lock();
        let place = state
            .waiting
            .binary_search_by_key(&ticket, |waiting| waiting.ticket)
            .ok()?;
        let removed = state.waiting.remove(place);
        self.count(&state);
        removed.map(|waiting| waiting.job)
    }

    /// Waits for a job and takes the oldest. `None`: the queue is closed and empty. While there is none to take,
    /// `before_waiting` is called each time before it waits.
    pub(super) fn take(&self, mut before_waiting: impl FnMut()) -> Option<Taken<T>> {
        let mut is_told = false;
        let mut state = self.lock();
        loop {
            if state.held == 0 {
                let taken = if state.is_relieved {
                    None
                } else {
                    self.take_oldest(&mut state)
                };
                if taken.is_some() {
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

    /// Waits until the relief threads take the jobs, and takes the oldest. `None`: the queue is closed. When that has ended,
    /// `at_end` is called before it waits again.
    pub(super) fn take_relief(&self, mut at_end: impl FnMut()) -> Option<Taken<T>> {
        let mut has_ended = false;
        let mut state = self.lock();
        loop {
            if state.is_relieved && state.held == 0 {
                has_ended = true;
                if let Some(job) = state.again.pop() {
                    let waited = Duration::ZERO;
                    return Some(Taken { job, waited });
                }
                let taken = self.take_oldest(&mut state);
                if taken.is_some() {
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

    /// Waits until the oldest job has waited for `age`, and takes it. `None`: the queue is closed. Meanwhile `look` is called when
    /// [`Self::set_clock`] said, and says when to call it again.
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
            let oldest = state.waiting.front().filter(|_| state.held == 0);
            let missing = oldest.map(|oldest| age.saturating_sub(oldest.since.elapsed()));
            if missing == Some(Duration::ZERO) {
                return self.take_oldest(&mut state);
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

    /// Takes nothing in any more, and tells those who wait.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.wake_all();
    }

    fn take_oldest(&self, state: &mut State<T>) -> Option<Taken<T>> {
        let oldest = state.waiting.pop_front()?;
        self.count(state);
        Some(Taken {
            job: oldest.job,
            waited: oldest.since.elapsed(),
        })
    }

    fn count(&self, state: &State<T>) {
        self.depth.store(state.waiting.len(), Ordering::Relaxed);
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
