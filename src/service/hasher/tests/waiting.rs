//! Jobs that wait: how many may, who leaves, and who is answered when.

use super::*;
use crate::service::testing::begun;

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_caller_that_goes_makes_room() {
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

/// What a thread does when its caller goes between the taking and the hashing.
#[test]
fn a_job_whose_caller_has_gone_is_not_hashed() {
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
        bound: None,
        pacer: None,
        together: ReplyBatch::default(),
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

/// Answers are held back where many wait, and nobody is forgotten: neither when those who are expected next have gone,
/// nor when the queue ends.
#[tokio::test]
async fn everybody_who_stays_is_answered() {
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
            // Some of them go while others are hashed, at the end of the queue most of all.
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

/// Also if what comes next takes far longer than what came before.
#[tokio::test]
async fn an_answer_that_is_held_back_is_given_in_time() {
    // Seconds, which nobody waits for.
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
    // Who has hardly waited is answered at once.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(held);
    let slow = calls.pop().unwrap();
    assert_ne!(calls.pop().unwrap().await.unwrap().unwrap(), Verdict::Wrong);
    assert_eq!(hasher.completed(), 1, "the other is under way");
    slow.abort();
}

#[tokio::test]
async fn what_waits_for_too_long_is_taken_by_the_thread_of_ordinary_priority() {
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
