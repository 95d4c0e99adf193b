//! A future that waits for what seldom happens, beside one that is busy.
//!
//! A task polls all that it waits for whenever any of it is ready. A connection is polled for every piece of what comes
//! and goes, and what ends it (four timers, two tokens, and their locks) would be asked each time.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Polls its future only after that has asked for it.
pub(super) struct LazyPoll<F> {
    future: Pin<Box<F>>,
    asked: Arc<PollRequest>,
    /// What the future is polled with, and whom that wakes.
    wakers: Option<(Waker, Waker)>,
}

impl<F> LazyPoll<F> {
    pub(super) fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            asked: Arc::new(PollRequest {
                is_asked: AtomicBool::new(true),
                task: Mutex::new(None),
            }),
            wakers: None,
        }
    }
}

impl<F: Future> Future for LazyPoll<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let is_known = self
            .wakers
            .as_ref()
            .is_some_and(|(_, task)| task.will_wake(cx.waker()));
        if !is_known {
            let task = cx.waker().clone();
            *self.asked.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.clone());
            self.wakers = Some((Waker::from(self.asked.clone()), task));
        }
        // First the task is known, and then it is looked: who asks in between wakes it.
        if !self.asked.is_asked.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let Self { future, wakers, .. } = &mut *self;
        match wakers {
            Some((asking, _)) => future.as_mut().poll(&mut Context::from_waker(asking)),
            None => Poll::Pending,
        }
    }
}

/// Whether the future has asked to be polled, and whose poll that is.
struct PollRequest {
    is_asked: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for PollRequest {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_asked.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_asks_and_not_when_others_do() {
        let polls = AtomicU32::new(0);
        let (tell, told) = oneshot::channel();
        let mut told = Box::pin(told);
        let mut seldom = LazyPoll::new(poll_fn(|cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            told.as_mut().poll(cx)
        }));
        for _ in 0..100 {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                _ = &mut seldom => panic!("nothing was told"),
            }
            // As if the other future of the select had been busy.
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut seldom).poll(cx).is_pending())).await);
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        tell.send(7).unwrap();
        assert_eq!((&mut seldom).await, Ok(7));
        drop(seldom);
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn it_wakes_the_task_that_it_is_in_now() {
        let mut seldom = LazyPoll::new(async {
            sleep(Duration::from_millis(20)).await;
            7
        });
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut seldom).poll(cx).is_pending())).await);
        // Another task than the one that it was polled by first.
        assert_eq!(tokio::spawn(seldom).await.unwrap(), 7);
    }
}
