//! Group commit: commits together what several callers ask for at the same time, where a commit takes as long for many
//! items as for one.
//!
//! A caller that finds no commit under way leads a group of its own, and begins at once. Callers that arrive meanwhile
//! wait in a queue; after the commit, the first of them leads all that wait, up to the maximum of a group. So no caller
//! waits for others to arrive, and the groups grow with the load. Where the database commits transactions in parallel,
//! each caller commits alone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// Groups commits. The queue is bounded by the callers that arrive within `max_wait`.
pub(crate) struct GroupCommit<T, R> {
    queue: Mutex<CommitQueue<T, R>>,
    max_group: usize,
    /// Maximum time in the queue: the same as the wait for the connection that writes. A commit that has begun is
    /// waited for.
    max_wait: Duration,
    /// Whether commits are grouped at all.
    is_grouping: bool,
}

struct CommitQueue<T, R> {
    is_busy: bool,
    /// In the order of their tickets.
    waiting: VecDeque<QueuedItem<T, R>>,
    next_ticket: u64,
}

struct QueuedItem<T, R> {
    ticket: u64,
    item: T,
    reply: oneshot::Sender<Turn<T, R>>,
}

/// The end of a wait in the queue.
enum Turn<T, R> {
    /// Another caller has committed the item.
    Done(R),
    /// The caller leads the next group.
    Leader(T, Leader<T, R>),
}

/// The reason why an item has no outcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SubmitError {
    /// The item waited in the queue for too long. It was not committed.
    TooLong,
    /// The leader of the group did not come to an end. Whether the item was committed is unknown.
    Unknown,
}

/// A place in the queue.
struct Waiter<T, R> {
    ticket: u64,
    turn: oneshot::Receiver<Turn<T, R>>,
}

/// The lead of a group. Dropped, whatever the outcome of the commit, it passes to the next caller in the queue.
struct Leader<T, R>(Arc<GroupCommit<T, R>>);

impl<T, R> GroupCommit<T, R> {
    /// Groups of at most `max_group` items.
    pub(super) fn new(max_group: usize, max_wait: Duration, is_grouping: bool) -> Self {
        let queue = CommitQueue {
            is_busy: false,
            waiting: VecDeque::new(),
            next_ticket: 0,
        };
        Self {
            queue: Mutex::new(queue),
            max_group,
            max_wait,
            is_grouping,
        }
    }

    /// Commits an item by `work`, perhaps together with items of other callers. `work` returns the outcome of each
    /// item, in order.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub(crate) async fn submit<F>(
        self: &Arc<Self>,
        item: T,
        work: impl FnOnce(Vec<T>) -> F,
    ) -> Result<R, SubmitError>
    where
        F: Future<Output = Vec<R>>,
    {
        if !self.is_grouping {
            let outcome = work(vec![item]).await.pop();
            return outcome.ok_or(SubmitError::Unknown);
        }
        let (item, leader) = match self.join(item) {
            Ok(turn) => turn,
            Err(waiter) => match self.wait(waiter).await? {
                Turn::Done(outcome) => return Ok(outcome),
                Turn::Leader(item, leader) => (item, leader),
            },
        };
        let (mut group, mut replies) = (vec![item], Vec::new());
        {
            let mut queue = self.queue();
            while group.len() < self.max_group
                && let Some(QueuedItem { item, reply, .. }) = queue.next()
            {
                group.push(item);
                replies.push(reply);
            }
        }
        let mut outcomes = work(group).await.into_iter();
        let own = outcomes.next();
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // A caller that has disconnected meanwhile needs no outcome.
            let _ = reply.send(Turn::Done(outcome));
        }
        drop(leader);
        own.ok_or(SubmitError::Unknown)
    }

    /// Takes the lead if no commit is under way, or else a place in the queue.
    fn join(self: &Arc<Self>, item: T) -> Result<(T, Leader<T, R>), Waiter<T, R>> {
        let mut queue = self.queue();
        if queue.is_busy {
            let (reply, turn) = oneshot::channel();
            let ticket = queue.next_ticket;
            queue.next_ticket += 1;
            queue.waiting.push_back(QueuedItem { ticket, item, reply });
            Err(Waiter { ticket, turn })
        } else {
            queue.is_busy = true;
            Ok((item, Leader(self.clone())))
        }
    }

    async fn wait(&self, waiter: Waiter<T, R>) -> Result<Turn<T, R>, SubmitError> {
        let Waiter { ticket, mut turn } = waiter;
        let turn = match timeout(self.max_wait, &mut turn).await {
            Ok(turn) => turn,
            Err(_) if self.queue().remove(ticket) => return Err(SubmitError::TooLong),
            // A leader has taken the item.
            Err(_) => turn.await,
        };
        turn.map_err(|_| SubmitError::Unknown)
    }

    /// No code that can panic runs under the lock, so the queue is consistent even if the lock is poisoned.
    fn queue(&self) -> MutexGuard<'_, CommitQueue<T, R>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, R> CommitQueue<T, R> {
    /// Removes the first item whose caller has not disconnected.
    fn next(&mut self) -> Option<QueuedItem<T, R>> {
        loop {
            match self.waiting.pop_front() {
                Some(next) if next.reply.is_closed() => {}
                next => return next,
            }
        }
    }

    /// Removes an item, and returns whether it was still in the queue.
    fn remove(&mut self, ticket: u64) -> bool {
        let place = self
            .waiting
            .binary_search_by_key(&ticket, |waiting| waiting.ticket);
        place.is_ok_and(|place| self.waiting.remove(place).is_some())
    }
}

impl<T, R> Drop for Leader<T, R> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        let next = queue.next();
        queue.is_busy = next.is_some();
        drop(queue);
        if let Some(QueuedItem { item, reply, .. }) = next {
            // If the caller disconnects at this moment, the returned leader is dropped, and the lead passes on.
            let _ = reply.send(Turn::Leader(item, Leader(self.0.clone())));
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

    fn group_commit(max_group: usize) -> Arc<Numbers> {
        Arc::new(Numbers::new(max_group, PATIENCE, true))
    }

    /// Work that returns the whole group for each item, after a signal.
    async fn work(all: Vec<u32>, told: oneshot::Receiver<()>) -> Vec<Vec<u32>> {
        told.await.unwrap();
        vec![all.clone(); all.len()]
    }

    /// Work that ends at once. It returns the own number of each item, and then the group.
    async fn at_once(all: Vec<u32>) -> Vec<Vec<u32>> {
        all.iter().map(|own| [&[*own], &all[..]].concat()).collect()
    }

    #[tokio::test]
    async fn a_single_caller_commits_at_once() {
        let commits = group_commit(3);
        for number in 0..3 {
            assert_eq!(commits.submit(number, at_once).await, Ok(vec![number, number]));
        }
    }

    #[tokio::test]
    async fn callers_that_arrive_during_a_commit_share_the_next_one() {
        let commits = group_commit(3);
        let (tell, told) = oneshot::channel();
        let first = begun(commits.submit(0, |all| work(all, told)));
        let others: Vec<_> = (1..=5)
            .map(|number| begun(commits.submit(number, at_once)))
            .collect();
        tell.send(()).unwrap();
        assert_eq!(first.await, Ok(vec![0]), "it began alone");
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
        assert_eq!(commits.submit(6, at_once).await, Ok(vec![6, 6]));
    }

    #[tokio::test]
    async fn a_disconnected_caller_in_the_queue_is_skipped() {
        let commits = group_commit(3);
        let (tell, told) = oneshot::channel();
        let first = begun(commits.submit(0, |all| work(all, told)));
        let goes = begun(commits.submit(1, at_once));
        let is_told_and_goes = begun(commits.submit(2, at_once));
        let stays = begun(commits.submit(3, at_once));
        drop(goes);
        tell.send(()).unwrap();
        first.await.unwrap();
        // The second caller has the lead, and disconnects before it notices.
        drop(is_told_and_goes);
        assert_eq!(stays.await, Ok(vec![3, 3]));
    }

    #[tokio::test]
    async fn a_cancelled_leader_passes_the_lead_on() {
        let commits = group_commit(2);
        let (tell, told) = oneshot::channel();
        let first = begun(commits.submit(0, |all| work(all, told)));
        let (_tell, never) = oneshot::channel();
        let mut leader = begun(commits.submit(1, |all| work(all, never)));
        let shares = begun(commits.submit(2, at_once));
        let waits = begun(commits.submit(3, at_once));
        tell.send(()).unwrap();
        first.await.unwrap();
        assert!(
            is_waiting(&mut leader),
            "it leads its own item and the second one"
        );
        drop(leader);
        assert_eq!(
            shares.await,
            Err(SubmitError::Unknown),
            "whether it was committed is unknown"
        );
        assert_eq!(waits.await, Ok(vec![3, 3]));
    }

    #[tokio::test]
    async fn the_item_of_a_disconnected_caller_is_not_committed() {
        let commits = group_commit(3);
        let (tell, told) = oneshot::channel();
        let first = begun(commits.submit(0, |all| work(all, told)));
        let leads = begun(commits.submit(1, at_once));
        let goes = begun(commits.submit(2, at_once));
        let stays = begun(commits.submit(3, at_once));
        let too = begun(commits.submit(4, at_once));
        drop(goes);
        tell.send(()).unwrap();
        first.await.unwrap();
        assert_eq!(leads.await, Ok(vec![1, 1, 3, 4]));
        assert_eq!(stays.await, Ok(vec![3, 1, 3, 4]));
        assert_eq!(too.await, Ok(vec![4, 1, 3, 4]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_in_the_queue_is_limited() {
        let commits = group_commit(3);
        let (tell, told) = oneshot::channel();
        let first = begun(commits.submit(0, |all| work(all, told)));
        let early = begun(commits.submit(1, at_once));
        advance(PATIENCE / 2).await;
        let mut late = begun(commits.submit(2, at_once));
        advance(PATIENCE / 2).await;
        assert_eq!(early.await, Err(SubmitError::TooLong));
        assert!(is_waiting(&mut late));
        tell.send(()).unwrap();
        assert_eq!(first.await, Ok(vec![0]));
        assert_eq!(late.await, Ok(vec![2, 2]), "the other item is not committed");
    }

    /// Otherwise the caller would get an error that says that the item was not committed.
    #[tokio::test(start_paused = true)]
    async fn a_commit_that_has_begun_is_waited_for() {
        let commits = group_commit(3);
        let (tell, told) = oneshot::channel();
        let first = begun(commits.submit(0, |all| work(all, told)));
        let (tell_leader, told_leader) = oneshot::channel();
        let mut leads = begun(commits.submit(1, |all| work(all, told_leader)));
        let mut shares = begun(commits.submit(2, at_once));
        tell.send(()).unwrap();
        first.await.unwrap();
        assert!(is_waiting(&mut leads));
        advance(PATIENCE * 10).await;
        assert!(is_waiting(&mut shares));
        tell_leader.send(()).unwrap();
        assert_eq!(leads.await, Ok(vec![1, 2]));
        assert_eq!(shares.await, Ok(vec![1, 2]));
    }

    #[tokio::test]
    async fn without_grouping_commits_run_in_parallel() {
        let commits = Arc::new(Numbers::new(3, PATIENCE, false));
        let (tell, told) = oneshot::channel();
        let mut first = begun(commits.submit(0, |all| work(all, told)));
        assert_eq!(commits.submit(1, at_once).await, Ok(vec![1, 1]));
        assert!(is_waiting(&mut first));
        tell.send(()).unwrap();
        assert_eq!(first.await, Ok(vec![0]));
    }
}
