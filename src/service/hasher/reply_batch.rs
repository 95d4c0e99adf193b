//! Answers that are given together, while many wait.
//!
//! A hash goes through so much memory that whatever runs after it finds the caches of its core empty. What a sign-in
//! does besides takes twice as long then, if it is done between two hashes. So where jobs have to wait anyway, their
//! answers are held back for a little and given several at a time, and what comes of them is done in one go:
//! docs/decisions/0016-reply-batches.md has what that gains.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An answer is held back for this part of the time at most that its job has waited in the queue, so that who is
/// answered at once today is answered at once.
const PART_OF_WAIT: u32 = 4;

/// So many answers are given together at most.
const MOST: usize = 16;

/// An answer, to be given by calling it.
type HeldReply = Box<dyn FnOnce() + Send>;

/// The answers of all threads that are held back. The next answer gives those that are due, and whoever is about to
/// wait gives all; if neither comes in time, whoever has a clock does, by [`ReplyBatch::give_due`].
#[derive(Default)]
pub(super) struct ReplyBatch(Mutex<HeldReplies>);

#[derive(Default)]
struct HeldReplies {
    answers: Vec<HeldReply>,
    /// When the first of them is to be given at the latest.
    until: Option<Instant>,
}

impl ReplyBatch {
    /// Holds an answer back whose job had waited for so long, or gives it with all others if that is due before another
    /// is to be expected, which takes `next`. Says when they are due, if that is sooner than before.
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
        let until = now + waited / PART_OF_WAIT;
        let is_sooner = held.until.is_none_or(|other| until < other);
        if is_sooner {
            held.until = Some(until);
        }
        let is_enough = held.answers.len() >= MOST || held.until.is_some_and(|until| now + next > until);
        if is_enough {
            give_all(held);
        }
        (is_sooner && !is_enough).then_some(until)
    }

    /// Gives all that are held back if the first of them is due, or says when it will be.
    pub(super) fn give_due(&self, now: Instant) -> Option<Instant> {
        let held = self.lock();
        let later = held.until.filter(|until| now < *until);
        if later.is_none() {
            give_all(held);
        }
        later
    }

    /// Gives all that are held back. To be called by whoever is about to wait.
    pub(super) fn give_all(&self) {
        give_all(self.lock());
    }

    /// No code that can panic runs under the lock, so what it guards is whole even if it is poisoned.
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

    /// Gives an answer at a time, whose job had waited for so long, and says which are given by that.
    struct Given {
        together: ReplyBatch,
        start: Instant,
        answers: mpsc::SyncSender<u32>,
        given: mpsc::Receiver<u32>,
    }

    impl Given {
        fn new() -> Self {
            let (answers, given) = mpsc::sync_channel(20);
            Self {
                together: ReplyBatch::default(),
                start: Instant::now(),
                answers,
                given,
            }
        }

        fn by(&self, answer: u32, at: Duration, waited: Duration) -> Vec<u32> {
            let answers = self.answers.clone();
            let give = move || answers.send(answer).unwrap();
            let due = self.together.lock().until;
            let sooner = self.together.give(give, waited, HASH, self.start + at);
            let now_due = self.together.lock().until;
            assert_eq!(sooner, now_due.filter(|_| now_due != due));
            self.given.try_iter().collect()
        }
    }

    #[test]
    fn who_has_hardly_waited_is_answered_at_once() {
        let given = Given::new();
        assert_eq!(given.by(1, ms(0), ms(0)), [1]);
        // A quarter of it ends before another answer is to be expected.
        assert_eq!(given.by(2, ms(0), ms(39)), [2]);
        assert_eq!(given.by(3, ms(0), ms(40)), NONE);
    }

    #[test]
    fn who_has_waited_is_answered_with_others_in_their_order() {
        let given = Given::new();
        // Until 25.
        assert_eq!(given.by(1, ms(0), ms(100)), NONE);
        assert_eq!(given.by(2, ms(5), ms(200)), NONE);
        assert_eq!(given.by(3, ms(10), ms(200)), NONE);
        assert_eq!(given.by(4, ms(15), ms(200)), NONE);
        assert_eq!(given.by(5, ms(16), ms(200)), [1, 2, 3, 4, 5]);
        // Anew.
        assert_eq!(given.by(6, ms(20), ms(200)), NONE);
        // Who came first in the queue may have waited for less than another.
        assert_eq!(given.by(7, ms(21), ms(4)), [6, 7]);
    }

    #[test]
    fn so_many_are_enough() {
        let given = Given::new();
        for answer in 1..16 {
            assert_eq!(given.by(answer, ms(0), ms(1000)), NONE);
        }
        assert_eq!(given.by(16, ms(0), ms(1000)), (1..=16).collect::<Vec<_>>());
    }

    #[test]
    fn whoever_has_a_clock_gives_what_is_due() {
        let given = Given::new();
        let at = |at| given.start + ms(at);
        assert_eq!(given.together.give_due(at(0)), None);
        // Until 25.
        assert_eq!(given.by(1, ms(0), ms(100)), NONE);
        assert_eq!(given.together.give_due(at(24)), Some(at(25)));
        assert_eq!(given.given.try_iter().next(), None);
        assert_eq!(given.together.give_due(at(25)), None);
        assert_eq!(given.given.try_iter().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn whoever_is_about_to_wait_gives_all() {
        let given = Given::new();
        assert_eq!(given.by(1, ms(0), ms(1000)), NONE);
        assert_eq!(given.by(2, ms(0), ms(1000)), NONE);
        given.together.give_all();
        assert_eq!(given.given.try_iter().collect::<Vec<_>>(), [1, 2]);
        given.together.give_all();
        assert_eq!(given.given.try_iter().next(), None);
    }
}
