//! Reply batching: delivers several results at once while many jobs wait.
//!
//! A hash passes through so much memory that the code after it finds the caches of its core empty. The other work of a
//! sign-in takes twice as long if it runs between two hashes. When jobs have to wait anyway, their replies are
//! therefore delayed for a little and sent several at a time, so that the work after them runs in one go.
//! docs/decisions/0016-reply-batches.md has the measured gain.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Inverse of the part of a job's wait for which its reply may be delayed. A job that did not wait is answered at once.
const WAIT_DIVISOR: u32 = 4;

/// Maximum number of replies in a batch.
const MAX_BATCH: usize = 16;

/// A reply. Calling it sends it.
type HeldReply = Box<dyn FnOnce() + Send>;

/// The delayed replies of all threads. The next reply sends the batch if it is due, and a thread that is about to wait
/// sends all of them. If neither happens in time, the thread with a timer sends them by [`ReplyBatch::give_due`].
#[derive(Default)]
pub(super) struct ReplyBatch(Mutex<HeldReplies>);

#[derive(Default)]
struct HeldReplies {
    answers: Vec<HeldReply>,
    /// Latest time at which the first of them has to be sent.
    until: Option<Instant>,
}

impl ReplyBatch {
    /// Delays the reply of a job that has waited for `waited`. Sends the whole batch instead if the batch is due before
    /// the next reply, which is expected in `next`. Returns the due time if it is earlier than before.
    #[must_use]
    pub(super) fn give(
        &self,
        answer: impl FnOnce() + Send + 'static,
        waited: Duration,
        next: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let answer = Box::new(answer);
        let mut held = self.lock();
        held.answers.push(answer);
        let until = now + waited / WAIT_DIVISOR;
        let is_sooner = held.until.is_none_or(|other| until < other);
        if is_sooner {
            held.until = Some(until);
        }
        let is_enough = held.answers.len() >= MAX_BATCH || held.until.is_some_and(|until| now + next > until);
        if is_enough {
            give_all(held);
        }
        (is_sooner && !is_enough).then_some(until)
    }

    /// Sends all delayed replies if the first of them is due. Otherwise returns the due time.
    pub(super) fn give_due(&self, now: Instant) -> Option<Instant> {
        let held = self.lock();
        let later = held.until.filter(|until| now < *until);
        if later.is_none() {
            give_all(held);
        }
        later
    }

    /// Sends all delayed replies. A thread calls it before it waits.
    pub(super) fn give_all(&self) {
        give_all(self.lock());
    }

    /// No code that can panic runs under the lock, so the guarded value is consistent even if the lock is poisoned.
    fn lock(&self) -> MutexGuard<'_, HeldReplies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn give_all(mut held: MutexGuard<'_, HeldReplies>) {
    let HeldReplies { answers, .. } = std::mem::take(&mut *held);
    drop(held);
    for answer in answers {
        answer();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const HASH: Duration = Duration::from_millis(10);

    const NONE: [u32; 0] = [];

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Gives the batch one reply at a time and returns the replies that were sent.
    struct Given {
        batch: ReplyBatch,
        start: Instant,
        answers: mpsc::SyncSender<u32>,
        given: mpsc::Receiver<u32>,
    }

    impl Given {
        fn new() -> Self {
            let (answers, given) = mpsc::sync_channel(20);
            Self {
                batch: ReplyBatch::default(),
                start: Instant::now(),
                answers,
                given,
            }
        }

        fn by(&self, answer: u32, at: Duration, waited: Duration) -> Vec<u32> {
            let answers = self.answers.clone();
            let give = move || answers.send(answer).unwrap();
            let due = self.batch.lock().until;
            let sooner = self.batch.give(give, waited, HASH, self.start + at);
            let now_due = self.batch.lock().until;
            assert_eq!(sooner, now_due.filter(|_| now_due != due));
            self.given.try_iter().collect()
        }
    }

    #[test]
    fn a_job_that_hardly_waited_is_answered_at_once() {
        let given = Given::new();
        assert_eq!(given.by(1, ms(0), ms(0)), [1]);
        // A quarter of the wait ends before another reply is expected.
        assert_eq!(given.by(2, ms(0), ms(39)), [2]);
        assert_eq!(given.by(3, ms(0), ms(40)), NONE);
    }

    #[test]
    fn jobs_that_waited_are_answered_together_in_order() {
        let given = Given::new();
        // The batch is due at 25 ms.
        assert_eq!(given.by(1, ms(0), ms(100)), NONE);
        assert_eq!(given.by(2, ms(5), ms(200)), NONE);
        assert_eq!(given.by(3, ms(10), ms(200)), NONE);
        assert_eq!(given.by(4, ms(15), ms(200)), NONE);
        assert_eq!(given.by(5, ms(16), ms(200)), [1, 2, 3, 4, 5]);
        // A new batch begins.
        assert_eq!(given.by(6, ms(20), ms(200)), NONE);
        // A job that was first in the queue may have waited for less time than another.
        assert_eq!(given.by(7, ms(21), ms(4)), [6, 7]);
    }

    #[test]
    fn a_full_batch_is_sent_at_once() {
        let given = Given::new();
        for answer in 1..16 {
            assert_eq!(given.by(answer, ms(0), ms(1000)), NONE);
        }
        assert_eq!(given.by(16, ms(0), ms(1000)), (1..=16).collect::<Vec<_>>());
    }

    #[test]
    fn the_timer_sends_a_batch_that_is_due() {
        let given = Given::new();
        let at = |at| given.start + ms(at);
        assert_eq!(given.batch.give_due(at(0)), None);
        // The batch is due at 25 ms.
        assert_eq!(given.by(1, ms(0), ms(100)), NONE);
        assert_eq!(given.batch.give_due(at(24)), Some(at(25)));
        assert_eq!(given.given.try_iter().next(), None);
        assert_eq!(given.batch.give_due(at(25)), None);
        assert_eq!(given.given.try_iter().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_thread_sends_the_batch_before_it_waits() {
        let given = Given::new();
        assert_eq!(given.by(1, ms(0), ms(1000)), NONE);
        assert_eq!(given.by(2, ms(0), ms(1000)), NONE);
        given.batch.give_all();
        assert_eq!(given.given.try_iter().collect::<Vec<_>>(), [1, 2]);
        given.batch.give_all();
        assert_eq!(given.given.try_iter().next(), None);
    }
}
