//! Lazy poll: polls a rarely ready future only after its own waker was called.
//!
//! A task polls all futures that it waits for whenever one of them is ready. A connection is polled for every frame.
//! Without this wrapper each poll would check the conditions that close it: four timers, two tokens, and their locks.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// A future that polls the inner one only after the inner one was woken.
pub(super) struct LazyPoll<F> {
    future: Pin<Box<F>>,
    request: Arc<PollRequest>,
    /// The waker of the inner future, and the waker of the task that it wakes.
    wakers: Option<(Waker, Waker)>,
}

impl<F> LazyPoll<F> {
    pub(super) fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            request: Arc::new(PollRequest {
                is_woken: AtomicBool::new(true),
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
            *self.request.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.clone());
            self.wakers = Some((Waker::from(self.request.clone()), task));
        }
        // The task is stored before the flag is read, so a wake in between is not lost: it wakes the task.
        if !self.request.is_woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let Self { future, wakers, .. } = &mut *self;
        match wakers {
            Some((inner, _)) => future.as_mut().poll(&mut Context::from_waker(inner)),
            None => Poll::Pending,
        }
    }
}

/// Whether the inner future was woken, and the task to wake for it.
struct PollRequest {
    is_woken: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for PollRequest {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
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
    async fn it_is_polled_only_after_its_own_waker_was_called() {
        let polls = AtomicU32::new(0);
        let (sender, receiver) = oneshot::channel();
        let mut receiver = Box::pin(receiver);
        let mut lazy = LazyPoll::new(poll_fn(|cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            receiver.as_mut().poll(cx)
        }));
        for _ in 0..100 {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                _ = &mut lazy => panic!("nothing was sent"),
            }
            // As if the other future of the select had been woken.
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut lazy).poll(cx).is_pending())).await);
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        sender.send(7).unwrap();
        assert_eq!((&mut lazy).await, Ok(7));
        drop(lazy);
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn it_wakes_the_task_that_polled_it_last() {
        let mut lazy = LazyPoll::new(async {
            sleep(Duration::from_millis(20)).await;
            7
        });
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut lazy).poll(cx).is_pending())).await);
        // Another task polls it now.
        assert_eq!(tokio::spawn(lazy).await.unwrap(), 7);
    }
}
