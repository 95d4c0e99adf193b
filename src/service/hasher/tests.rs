//! Tests of the hashing threads.

use super::*;

const OPTIONS: Options = Options {
    memory_kib: 64,
    iterations: 2,
    parallelism: 1,
    threads: 1,
    queue: 4,
};

fn password(text: &str) -> Password {
    Password::parse(text).unwrap()
}

/// `printf 'correct horse' | argon2 somesaltsomesalt -id -t 2 -k 64 -p 1 -l 32 -e`, with the reference
/// implementation of Argon2 as Debian packages it.
const REFERENCE: &str =
    "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$uL2hQzJmxaz0Tfm2KK6uNjA0+UvbrHBEBwVmJYrNXCE";

#[tokio::test]
async fn a_hash_of_the_reference_implementation_is_understood() {
    let hasher = Hasher::start(&OPTIONS).unwrap();
    let right = hasher
        .verify(password("correct horse"), Some(REFERENCE.to_owned()))
        .await
        .unwrap();
    assert_eq!(right, Verdict::Right);
    let wrong = hasher
        .verify(password("correct horsf"), Some(REFERENCE.to_owned()))
        .await
        .unwrap();
    assert_eq!(wrong, Verdict::Wrong);
    assert_eq!(hasher.completed(), 2);
}

#[tokio::test]
async fn a_hash_is_a_phc_string_with_the_live_parameters() {
    let hasher = Hasher::start(&OPTIONS).unwrap();
    let hash = hasher.hash(password("correct horse")).await.unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{hash}");
    assert_ne!(
        hash,
        hasher.hash(password("correct horse")).await.unwrap(),
        "each has a salt of its own"
    );
    assert_eq!(
        hasher
            .verify(password("correct horse"), Some(hash))
            .await
            .unwrap(),
        Verdict::Right
    );
}

#[tokio::test]
async fn a_weaker_hash_is_replaced_and_a_stronger_one_kept() {
    let raised = Hasher::start(&Options {
        memory_kib: 128,
        ..OPTIONS
    })
    .unwrap();
    let verdict = raised
        .verify(password("correct horse"), Some(REFERENCE.to_owned()))
        .await
        .unwrap();
    assert!(matches!(verdict, Verdict::RightButWeak { .. }), "{verdict:?}");
    let Verdict::RightButWeak { stronger } = verdict else {
        return;
    };
    assert!(
        stronger.starts_with("$argon2id$v=19$m=128,t=2,p=1$"),
        "{stronger}"
    );
    let lowered = Hasher::start(&OPTIONS).unwrap();
    assert_eq!(
        lowered
            .verify(password("correct horse"), Some(stronger))
            .await
            .unwrap(),
        Verdict::Right
    );
}

#[tokio::test]
async fn without_a_stored_hash_no_password_is_right() {
    let hasher = Hasher::start(&OPTIONS).unwrap();
    for text in ["correct horse", "nobody has this password"] {
        assert_eq!(hasher.verify(password(text), None).await.unwrap(), Verdict::Wrong);
    }
}

#[tokio::test]
async fn a_stored_hash_that_cannot_be_read_is_a_fault_and_not_a_wrong_password() {
    let hasher = Hasher::start(&OPTIONS).unwrap();
    for stored in [
        "",
        "plain",
        "$argon2id$v=19$m=64,t=2,p=1",
        "$scrypt$ln=14,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
        "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$YWFhYWFhYWFhYWFhYWFhYQ",
    ] {
        let result = hasher
            .verify(password("correct horse"), Some(stored.to_owned()))
            .await;
        assert!(
            matches!(result, Err(Error::Internal(_))),
            "{stored:?}: {result:?}"
        );
    }
}

/// No thread takes jobs here, so what happens to a full queue and to a caller that left does not depend on speed.
#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_caller_that_left_is_not_hashed() {
    let (queue, jobs) = flume::bounded(1);
    let hasher = Hasher {
        queue,
        completed: Arc::default(),
    };
    let mut waiting = Box::pin(hasher.hash(password("correct horse")));
    assert!(futures_poll(waiting.as_mut()).is_pending());
    let refused = hasher.hash(password("correct horse")).await;
    assert!(matches!(refused, Err(Error::Overloaded { .. })), "{refused:?}");
    drop(waiting);
    let worker = Worker {
        jobs,
        params: OPTIONS.params().unwrap(),
        dummy: "".into(),
        completed: hasher.completed.clone(),
        arena: Arena::default(),
    };
    let completed = hasher.completed.clone();
    drop(hasher);
    worker.run();
    assert_eq!(completed.load(Ordering::Acquire), 0);
}

fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
}
