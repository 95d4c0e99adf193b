//! Doing together what several ask for at the same time.
//!
//! Whoever asks while nobody is at work begins at once, and alone. Those who ask meanwhile stand in a line; when the
//! work is done, the first of them does that of all who stand there. So nobody waits for company, and the busier it is,
//! the more share one work.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// Where those who ask gather. Their line is as long as as many come in the time for which they have patience.
pub(crate) struct GroupCommit<T, R> {
    line: Mutex<CommitQueue<T, R>>,
    most: usize,
}

struct CommitQueue<T, R> {
    is_busy: bool,
    /// In the order of their tickets.
    waiting: VecDeque<QueuedItem<T, R>>,
    next_ticket: u64,
}

struct QueuedItem<T, R> {
    ticket: u64,
    asked: T,
    answer: oneshot::Sender<Turn<T, R>>,
}

/// What becomes of somebody who waits.
enum Turn<T, R> {
    /// Somebody else has done it.
    Done(R),
    /// It is for them to do it, with others.
    Leader(T, Leader<T, R>),
}

/// Why somebody has no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SubmitError {
    /// They stood in the line for too long: nothing was done.
    TooLong,
    /// Somebody else was at work on it and did not come to an end: nobody knows what was done.
    Unknown,
}

/// A place in the line, and what tells somebody there what becomes of them.
struct Waiter<T, R> {
    ticket: u64,
    answered: oneshot::Receiver<Turn<T, R>>,
}

/// That somebody is at work. When it is dropped, whatever became of the work, the next one is.
struct Leader<T, R>(Arc<GroupCommit<T, R>>);

impl<T, R> GroupCommit<T, R> {
    /// At most so many share one work.
    pub(crate) fn new(most: usize) -> Self {
        let line = CommitQueue {
            is_busy: false,
            waiting: VecDeque::new(),
            next_ticket: 0,
        };
        Self {
            line: Mutex::new(line),
            most,
        }
    }

    /// Has `work` done with what is asked, and with what others ask, which gives an answer for each. Nobody stands in
    /// the line for longer than `patience`; work that has begun is waited for.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub(crate) async fn submit<F>(
        self: &Arc<Self>,
        asked: T,
        patience: Duration,
        work: impl FnOnce(Vec<T>) -> F,
    ) -> Result<R, SubmitError>
    where
        F: Future<Output = Vec<R>>,
    {
        let (asked, lead) = match self.join(asked) {
            Ok(turn) => turn,
            Err(place) => match self.wait(place, patience).await? {
                Turn::Done(answer) => return Ok(answer),
                Turn::Leader(asked, lead) => (asked, lead),
            },
        };
        let (mut all, mut others) = (vec![asked], Vec::new());
        {
            let mut line = self.line();
            while all.len() < self.most
                && let Some(QueuedItem { asked, answer, .. }) = line.next()
            {
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
        own.ok_or(SubmitError::Unknown)
    }

    /// Begins, if nobody is at work, or else stands in the line.
    fn join(self: &Arc<Self>, asked: T) -> Result<(T, Leader<T, R>), Waiter<T, R>> {
        let mut line = self.line();
        if line.is_busy {
            let (answer, answered) = oneshot::channel();
            let ticket = line.next_ticket;
            line.next_ticket += 1;
            line.waiting.push_back(QueuedItem {
                ticket,
                asked,
                answer,
            });
            Err(Waiter { ticket, answered })
        } else {
            line.is_busy = true;
            Ok((asked, Leader(self.clone())))
        }
    }

    async fn wait(&self, place: Waiter<T, R>, patience: Duration) -> Result<Turn<T, R>, SubmitError> {
        let Waiter { ticket, mut answered } = place;
        let turn = match timeout(patience, &mut answered).await {
            Ok(turn) => turn,
            Err(_) if self.line().leave(ticket) => return Err(SubmitError::TooLong),
            // Somebody has begun.
            Err(_) => answered.await,
        };
        turn.map_err(|_| SubmitError::Unknown)
    }

    /// No code that can panic runs under the lock, so what it guards is whole even if it is poisoned.
    fn line(&self) -> MutexGuard<'_, CommitQueue<T, R>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, R> CommitQueue<T, R> {
    /// Takes the first out. Those who have gone are passed over.
    fn next(&mut self) -> Option<QueuedItem<T, R>> {
        loop {
            match self.waiting.pop_front() {
                Some(next) if next.answer.is_closed() => {}
                next => return next,
            }
        }
    }

    /// Takes somebody out who has no patience left, and says whether they were still there.
    fn leave(&mut self, ticket: u64) -> bool {
        let place = self
            .waiting
            .binary_search_by_key(&ticket, |waiting| waiting.ticket);
        place.is_ok_and(|place| self.waiting.remove(place).is_some())
    }
}

impl<T, R> Drop for Leader<T, R> {
    fn drop(&mut self) {
        let mut line = self.0.line();
        let next = line.next();
        line.is_busy = next.is_some();
        drop(line);
        if let Some(QueuedItem { asked, answer, .. }) = next {
            // If they have gone in this moment, what comes back is dropped, and the next one is asked.
            let _ = answer.send(Turn::Leader(asked, Leader(self.0.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::service::testing::{begun, is_waiting};

    type Numbers = GroupCommit<u32, Vec<u32>>;

    const PATIENCE: Duration = Duration::from_secs(2);

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
            assert_eq!(
                gather.submit(number, PATIENCE, at_once).await,
                Ok(vec![number, number])
            );
        }
    }

    #[tokio::test]
    async fn those_who_come_meanwhile_share_and_each_gets_their_answer() {
        let gather = Arc::new(Numbers::new(3));
        let (tell, told) = oneshot::channel();
        let first = begun(gather.submit(0, PATIENCE, |all| work(all, told)));
        let others: Vec<_> = (1..=5)
            .map(|number| begun(gather.submit(number, PATIENCE, at_once)))
            .collect();
        tell.send(()).unwrap();
        assert_eq!(first.await, Ok(vec![0]), "it had begun alone");
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
        assert_eq!(gather.submit(6, PATIENCE, at_once).await, Ok(vec![6, 6]));
    }

    #[tokio::test]
    async fn who_goes_while_waiting_is_passed_over() {
        let gather = Arc::new(Numbers::new(3));
        let (tell, told) = oneshot::channel();
        let first = begun(gather.submit(0, PATIENCE, |all| work(all, told)));
        let goes = begun(gather.submit(1, PATIENCE, at_once));
        let is_told_and_goes = begun(gather.submit(2, PATIENCE, at_once));
        let stays = begun(gather.submit(3, PATIENCE, at_once));
        drop(goes);
        tell.send(()).unwrap();
        first.await.unwrap();
        // It is for the second to go on, who goes without knowing it.
        drop(is_told_and_goes);
        assert_eq!(stays.await, Ok(vec![3, 3]));
    }

    #[tokio::test]
    async fn who_is_stopped_at_work_leaves_it_to_the_next() {
        let gather = Arc::new(Numbers::new(2));
        let (tell, told) = oneshot::channel();
        let first = begun(gather.submit(0, PATIENCE, |all| work(all, told)));
        let (_tell, never) = oneshot::channel();
        let mut leader = begun(gather.submit(1, PATIENCE, |all| work(all, never)));
        let shares = begun(gather.submit(2, PATIENCE, at_once));
        let waits = begun(gather.submit(3, PATIENCE, at_once));
        tell.send(()).unwrap();
        first.await.unwrap();
        assert!(is_waiting(&mut leader), "at work for itself and the second");
        drop(leader);
        assert_eq!(
            shares.await,
            Err(SubmitError::Unknown),
            "nobody knows what was done"
        );
        assert_eq!(waits.await, Ok(vec![3, 3]));
    }

    #[tokio::test]
    async fn nothing_is_done_for_who_has_gone() {
        let gather = Arc::new(Numbers::new(3));
        let (tell, told) = oneshot::channel();
        let first = begun(gather.submit(0, PATIENCE, |all| work(all, told)));
        let leads = begun(gather.submit(1, PATIENCE, at_once));
        let goes = begun(gather.submit(2, PATIENCE, at_once));
        let stays = begun(gather.submit(3, PATIENCE, at_once));
        let too = begun(gather.submit(4, PATIENCE, at_once));
        drop(goes);
        tell.send(()).unwrap();
        first.await.unwrap();
        assert_eq!(leads.await, Ok(vec![1, 1, 3, 4]));
        assert_eq!(stays.await, Ok(vec![3, 1, 3, 4]));
        assert_eq!(too.await, Ok(vec![4, 1, 3, 4]));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_stands_in_the_line_for_ever() {
        let gather = Arc::new(Numbers::new(3));
        let (tell, told) = oneshot::channel();
        let first = begun(gather.submit(0, PATIENCE, |all| work(all, told)));
        let early = begun(gather.submit(1, PATIENCE, at_once));
        advance(PATIENCE / 2).await;
        let mut late = begun(gather.submit(2, PATIENCE, at_once));
        advance(PATIENCE / 2).await;
        assert_eq!(early.await, Err(SubmitError::TooLong));
        assert!(is_waiting(&mut late));
        tell.send(()).unwrap();
        assert_eq!(first.await, Ok(vec![0]));
        assert_eq!(late.await, Ok(vec![2, 2]), "nothing is done for the other");
    }

    /// Else they would be told that nothing was done when it may have been.
    #[tokio::test(start_paused = true)]
    async fn work_that_has_begun_is_waited_for() {
        let gather = Arc::new(Numbers::new(3));
        let (tell, told) = oneshot::channel();
        let first = begun(gather.submit(0, PATIENCE, |all| work(all, told)));
        let (tell_leader, told_leader) = oneshot::channel();
        let mut leads = begun(gather.submit(1, PATIENCE, |all| work(all, told_leader)));
        let mut shares = begun(gather.submit(2, PATIENCE, at_once));
        tell.send(()).unwrap();
        first.await.unwrap();
        assert!(is_waiting(&mut leads));
        advance(PATIENCE * 10).await;
        assert!(is_waiting(&mut shares));
        tell_leader.send(()).unwrap();
        assert_eq!(leads.await, Ok(vec![1, 2]));
        assert_eq!(shares.await, Ok(vec![1, 2]));
    }
}
