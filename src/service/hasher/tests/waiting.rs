//! Tests of waiting jobs: capacity, removal, and the time of replies.

use super::*;
use crate::service::testing::begun;

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_cancelled_call_frees_its_slot() {
    let hasher = Hasher::start(&Options {
        queue: Some(1),
        ..options()
    })
    .unwrap();
    let held = hasher.hold();
    let waiting = begun(hasher.hashed("correct horse"));
    let refused = hasher.hashed("correct horse").await;
    assert!(
        matches!(refused, Err(Error::Overloaded { retry_after }) if retry_after >= Duration::from_secs(1)),
        "{refused:?}"
    );
    let counted = hasher.snapshot();
    assert_eq!((counted.depth, counted.refused, counted.dropped), (1, 1, 0));
    drop(waiting);
    let next = begun(hasher.hashed("correct horse"));
    let counted = hasher.snapshot();
    assert_eq!((counted.depth, counted.refused, counted.dropped), (1, 1, 1));
    drop(held);
    next.await.unwrap();
    let counted = hasher.snapshot();
    assert_eq!((counted.depth, counted.completed, counted.rescued), (0, 1, 0));
    assert_eq!(
        counted.waits.counts.iter().sum::<u64>(),
        1,
        "the other was not taken"
    );
}

/// The caller goes away after the thread has taken the job and before it hashes.
#[test]
fn a_job_without_a_caller_is_not_hashed() {
    let scheme = Scheme {
        params: options().params().unwrap(),
        peppers: SecretKeys::default(),
    };
    let common = Arc::new(Common {
        queue: Arc::new(Queue::new(1, Duration::ZERO)),
        metrics: Arc::default(),
        slots: Slots::new(1, 0),
        ticking: Ticking::default(),
        probe: Arc::default(),
        pause: Pause::new(),
        engine: Engine::Fast,
        scheme,
        dummy: String::new(),
        queue_capacity: None,
        cpu_quota: None,
        reply_batch: ReplyBatch::default(),
    });
    let (reply, answer) = oneshot::channel();
    let password = new_password("correct horse");
    let task = Arc::new(Task {
        job: Job::Hash {
            password,
            reply: reply.into(),
        },
        trace: TraceContext::default(),
    });
    assert!(common.queue.push(Flow::operator(), task).is_ok());
    drop(answer);
    common.queue.close();
    Worker::new(common.clone()).run(Duty::InTurn(0));
    let counted = common.metrics.snapshot(QueueState::default());
    assert_eq!((counted.completed, counted.dropped), (0, 1));
}

/// Replies are batched where many jobs wait, and none is lost: neither when the callers of the next jobs have gone
/// away, nor when the queue is closed.
#[tokio::test]
async fn every_remaining_call_is_answered() {
    for threads in [1, 2] {
        let hasher = Hasher::start(&Options {
            threads,
            queue: Some(100),
            ..options()
        })
        .unwrap();
        for round in 0..20 {
            let held = hasher.hold();
            let calls = (0..40).map(|_| {
                let hasher = hasher.clone();
                tokio::spawn(async move { hasher.hashed("correct horse").await })
            });
            let mut calls: Vec<_> = calls.collect();
            while hasher.snapshot().depth < 40 {
                tokio::task::yield_now().await;
            }
            drop(held);
            // Some of the calls end while others are hashed, most of them at the end of the queue.
            let going = calls.split_off(40 - round);
            for call in &going {
                call.abort();
            }
            for call in calls {
                call.await.unwrap().unwrap();
            }
            for call in going {
                let _ = call.await;
            }
        }
    }
}

/// Holds even if the next job takes far longer than the previous ones.
#[tokio::test]
async fn a_batched_reply_is_sent_in_time() {
    // A hash of seconds, for which the test does not wait.
    const SLOW: &str =
        "$argon2id$v=19$m=65536,t=200,p=1$c29tZXNhbHRzb21lc2FsdA$uL2hQzJmxaz0Tfm2KK6uNjA0+UvbrHBEBwVmJYrNXCE";
    let hasher = Hasher::start(&options()).unwrap();
    let held = hasher.hold();
    let mut calls = Vec::new();
    for stored in [REFERENCE, SLOW] {
        let other = hasher.clone();
        calls.push(tokio::spawn(async move {
            let stored = Some(stored.to_owned());
            other.verified("correct horse", stored).await
        }));
        while hasher.snapshot().depth < calls.len() {
            tokio::task::yield_now().await;
        }
    }
    // A job that hardly waited is answered at once.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(held);
    let slow = calls.pop().unwrap();
    assert_ne!(calls.pop().unwrap().await.unwrap().unwrap(), Verdict::Wrong);
    assert_eq!(hasher.completed(), 1, "the other is under way");
    slow.abort();
}

#[tokio::test]
async fn the_rescue_thread_takes_jobs_that_wait_too_long() {
    let hasher = Hasher::start(&Options {
        threads: 0,
        rescue_after: Some(Duration::ZERO),
        ..options()
    })
    .unwrap();
    for _ in 0..3 {
        hasher.hashed("correct horse").await.unwrap();
    }
    let counted = hasher.snapshot();
    assert_eq!((counted.completed, counted.rescued), (3, 3));
}
