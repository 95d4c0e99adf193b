//! Doing together what several ask for at the same time.
//!
//! Whoever asks while nobody is at work begins at once, and alone. Those who ask meanwhile stand in a line; when the work is done, the
//! first of them does that of all who stand there. So nobody waits for company, and the busier it is, the more share one work.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Where those who ask gather. Their line is as long as there are calls under way, which are bounded.
pub(super) struct Gather<T, R> {
    line: Mutex<Line<T, R>>,
    most: usize,
}

struct Line<T, R> {
    is_busy: bool,
    waiting: VecDeque<Waiting<T, R>>,
}

struct Waiting<T, R> {
    asked: T,
    answer: oneshot::Sender<Turn<T, R>>,
}

/// What becomes of somebody who waits.
enum Turn<T, R> {
    /// Somebody else has done it.
    Done(R),
    /// It is for them to do it, with others.
    Lead(T, Lead<T, R>),
}

/// Tells somebody who waits what becomes of them.
type Answered<T, R> = oneshot::Receiver<Turn<T, R>>;

/// That somebody is at work. When it is dropped, whatever became of the work, the next one is.
struct Lead<T, R>(Arc<Gather<T, R>>);

impl<T, R> Gather<T, R> {
    /// At most so many share one work.
    pub(super) fn new(most: usize) -> Self {
        let line = Line {
            is_busy: false,
            waiting: VecDeque::new(),
        };
        Self {
            line: Mutex::new(line),
            most,
        }
    }

    /// Has `work` done with what is asked, and with what others ask, which gives an answer for each. `None`: somebody else was at
    /// work on it and did not come to an end, so that nobody knows what was done.
    pub(super) async fn ask<F>(self: &Arc<Self>, asked: T, work: impl FnOnce(Vec<T>) -> F) -> Option<R>
    where
        F: Future<Output = Vec<R>>,
    {
        let (asked, lead) = match self.join(asked) {
            Ok(turn) => turn,
            Err(answer) => match answer.await.ok()? {
                Turn::Done(answer) => return Some(answer),
                Turn::Lead(asked, lead) => (asked, lead),
            },
        };
        let (mut all, mut others) = (vec![asked], Vec::new());
        {
            let mut line = self.line();
            let count = line.waiting.len().min(self.most.saturating_sub(1));
            for Waiting { asked, answer } in line.waiting.drain(..count) {
                all.push(asked);
                others.push(answer);
            }
        }
        let mut answers = work(all).await.into_iter();
        let own = answers.next();
        for (other, answer) in others.into_iter().zip(answers) {
            // Whoever has gone meanwhile does not want it.
            let _ = other.send(Turn::Done(answer));
        }
        drop(lead);
        own
    }

    /// Begins, if nobody is at work, or else stands in the line.
    fn join(self: &Arc<Self>, asked: T) -> Result<(T, Lead<T, R>), Answered<T, R>> {
        let mut line = self.line();
        if line.is_busy {
            let (answer, answered) = oneshot::channel();
            line.waiting.push_back(Waiting { asked, answer });
            Err(answered)
        } else {
            line.is_busy = true;
            Ok((asked, Lead(self.clone())))
        }
    }

    /// No code that can panic runs under the lock, so what it guards is whole even if it is poisoned.
    fn line(&self) -> MutexGuard<'_, Line<T, R>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, R> Drop for Lead<T, R> {
    fn drop(&mut self) {
        let mut line = self.0.line();
        // Those who have gone are passed over.
        let next = loop {
            match line.waiting.pop_front() {
                Some(next) if next.answer.is_closed() => {}
                next => break next,
            }
        };
        line.is_busy = next.is_some();
        drop(line);
        if let Some(Waiting { asked, answer }) = next {
            // If they have gone in this moment, what comes back is dropped, and the next one is asked.
            let _ = answer.send(Turn::Lead(asked, Lead(self.0.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Numbers = Gather<u32, Vec<u32>>;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Work that answers each with all who share it, when it is told to.
    async fn work(all: Vec<u32>, told: oneshot::Receiver<()>) -> Vec<Vec<u32>> {
        told.await.unwrap();
        vec![all.clone(); all.len()]
    }

    /// Work that nobody has to wait for. Each is answered with their number first.
    async fn at_once(all: Vec<u32>) -> Vec<Vec<u32>> {
        all.iter().map(|own| [&[*own], &all[..]].concat()).collect()
    }

    #[tokio::test]
    async fn who_is_alone_does_not_wait() {
        let gather = Arc::new(Numbers::new(3));
        for number in 0..3 {
            assert_eq!(gather.ask(number, at_once).await, Some(vec![number, number]));
        }
    }

    #[tokio::test]
    async fn those_who_come_meanwhile_share_and_each_gets_their_answer() {
        let gather = Arc::new(Numbers::new(3));
        let (tell, told) = oneshot::channel();
        let mut first = pin!(gather.ask(0, |all| work(all, told)));
        assert!(poll(first.as_mut()).is_pending());
        let mut others: Vec<_> = (1..=5)
            .map(|number| Box::pin(gather.ask(number, at_once)))
            .collect();
        for other in &mut others {
            assert!(poll(other.as_mut()).is_pending());
        }
        tell.send(()).unwrap();
        assert_eq!(first.await, Some(vec![0]), "it had begun alone");
        let mut answers = Vec::new();
        for other in others {
            answers.push(other.await.unwrap());
        }
        let expected = [
            [1, 1, 2, 3].as_slice(),
            &[2, 1, 2, 3],
            &[3, 1, 2, 3],
            &[4, 4, 5],
            &[5, 4, 5],
        ];
        assert_eq!(answers, expected);
        assert_eq!(gather.ask(6, at_once).await, Some(vec![6, 6]));
    }

    #[tokio::test]
    async fn who_goes_while_waiting_is_passed_over() {
        let gather = Arc::new(Numbers::new(3));
        let (tell, told) = oneshot::channel();
        let mut first = pin!(gather.ask(0, |all| work(all, told)));
        assert!(poll(first.as_mut()).is_pending());
        let mut goes = Box::pin(gather.ask(1, at_once));
        let mut is_told_and_goes = Box::pin(gather.ask(2, at_once));
        let mut stays = pin!(gather.ask(3, at_once));
        assert!(poll(goes.as_mut()).is_pending());
        assert!(poll(is_told_and_goes.as_mut()).is_pending());
        assert!(poll(stays.as_mut()).is_pending());
        drop(goes);
        tell.send(()).unwrap();
        first.await.unwrap();
        // It is for the second to go on, who goes without knowing it.
        drop(is_told_and_goes);
        assert_eq!(stays.await, Some(vec![3, 3]));
    }

    #[tokio::test]
    async fn who_is_stopped_at_work_leaves_it_to_the_next() {
        let gather = Arc::new(Numbers::new(2));
        let (tell, told) = oneshot::channel();
        let mut first = Box::pin(gather.ask(0, |all| work(all, told)));
        assert!(poll(first.as_mut()).is_pending());
        let (_tell, never) = oneshot::channel();
        let mut leader = Box::pin(gather.ask(1, |all| work(all, never)));
        let mut shares = pin!(gather.ask(2, at_once));
        let mut waits = pin!(gather.ask(3, at_once));
        assert!(poll(leader.as_mut()).is_pending());
        assert!(poll(shares.as_mut()).is_pending());
        assert!(poll(waits.as_mut()).is_pending());
        tell.send(()).unwrap();
        first.await.unwrap();
        assert!(
            poll(leader.as_mut()).is_pending(),
            "at work for itself and the second"
        );
        drop(leader);
        assert_eq!(shares.await, None, "nobody knows what was done");
        assert_eq!(waits.await, Some(vec![3, 3]));
    }
}
