//! Tests of the hashing threads.

mod waiting;

use std::time::Duration;

use argon2::{KeyId, ParamsBuilder};

use super::*;
use crate::domain::secret_keys::SecretKeys;

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

fn options() -> Options {
    Options {
        memory_kib: 64,
        iterations: 2,
        parallelism: 1,
        threads: 1,
        queue: Some(4),
        rescue_after: Some(NEVER),
        quota: None,
        engine: EngineChoice::Auto,
        peppers: SecretKeys::default(),
    }
}

fn password(text: &str) -> Password {
    Password::parse(text).unwrap()
}

fn new_password(text: &str) -> NewPassword {
    NewPassword::unchecked(password(text))
}

impl Hasher {
    async fn hashed(&self, text: &str) -> Result<String, Error> {
        self.hash(Flow::operator(), new_password(text), drop).await
    }

    async fn verified(&self, text: &str, stored: Option<String>) -> Result<Verdict, Error> {
        self.verify(Flow::operator(), password(text), stored, true, drop)
            .await
    }
}

/// `printf 'correct horse' | argon2 somesaltsomesalt -id -t 2 -k 64 -p 1 -l 32 -e`, with the reference implementation
/// of Argon2 in the Debian package.
const REFERENCE: &str =
    "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$uL2hQzJmxaz0Tfm2KK6uNjA0+UvbrHBEBwVmJYrNXCE";

#[tokio::test]
async fn a_hash_of_the_reference_implementation_is_understood() {
    let hasher = Hasher::start(&options()).unwrap();
    let right = hasher
        .verified("correct horse", Some(REFERENCE.to_owned()))
        .await
        .unwrap();
    assert_eq!(right, Verdict::Right);
    let wrong = hasher
        .verified("correct horsf", Some(REFERENCE.to_owned()))
        .await
        .unwrap();
    assert_eq!(wrong, Verdict::Wrong);
    assert_eq!(hasher.completed(), 2);
}

#[tokio::test]
async fn a_hash_is_a_phc_string_with_the_live_parameters() {
    let hasher = Hasher::start(&options()).unwrap();
    let hash = hasher.hashed("correct horse").await.unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{hash}");
    assert_ne!(
        hash,
        hasher.hashed("correct horse").await.unwrap(),
        "each has a salt of its own"
    );
    assert_eq!(
        hasher.verified("correct horse", Some(hash)).await.unwrap(),
        Verdict::Right
    );
}

#[tokio::test]
async fn a_weaker_hash_is_replaced_and_a_stronger_one_kept() {
    let raised = Hasher::start(&Options {
        memory_kib: 128,
        ..options()
    })
    .unwrap();
    let verdict = raised
        .verified("correct horse", Some(REFERENCE.to_owned()))
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
    let lowered = Hasher::start(&options()).unwrap();
    assert_eq!(
        lowered.verified("correct horse", Some(stronger)).await.unwrap(),
        Verdict::Right
    );
}

#[tokio::test]
async fn without_a_stored_hash_no_password_is_right() {
    let hasher = Hasher::start(&options()).unwrap();
    for text in ["correct horse", "the password of the dummy hash"] {
        assert_eq!(hasher.verified(text, None).await.unwrap(), Verdict::Wrong);
    }
}

#[tokio::test]
async fn a_stored_hash_that_cannot_be_parsed_is_an_internal_error() {
    let hasher = Hasher::start(&options()).unwrap();
    for stored in [
        "",
        "plain",
        "$argon2id$v=19$m=64,t=2,p=1",
        "$scrypt$ln=14,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
        "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$YWFhYWFhYWFhYWFhYWFhYQ",
    ] {
        let result = hasher.verified("correct horse", Some(stored.to_owned())).await;
        assert!(
            matches!(result, Err(Error::Internal(_))),
            "{stored:?}: {result:?}"
        );
    }
}

/// Holds for the smallest quota and for any load of the rest of the process.
#[tokio::test]
async fn under_a_quota_hashing_goes_on() {
    let hasher = Hasher::start(&Options {
        quota: Some(0.000_1),
        ..options()
    })
    .unwrap();
    for _ in 0..2 {
        hasher.hashed("correct horse").await.unwrap();
    }
    assert_eq!(hasher.completed(), 2);
}

/// Scheduling policies of the threads of this process with names that begin with `name`: 0 is the ordinary one, 5 is
/// `SCHED_IDLE`.
#[cfg(target_os = "linux")]
fn scheduling_policies(name: &str) -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            // The name is in parentheses and may contain parentheses. The policy is the 41st field, the 39th after the
            // name.
            let (before, after) = stat.rsplit_once(") ")?;
            let is_one = before.split_once('(')?.1.starts_with(name);
            is_one.then(|| after.split(' ').nth(38).unwrap().parse().unwrap())
        })
        .collect()
}

/// With `cargo test`, the threads of other tests exist too.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn hashing_threads_have_the_lowest_priority_and_the_rescuer_an_ordinary_one() {
    let hasher = Hasher::start(&options()).unwrap();
    hasher.hashed("correct horse").await.unwrap();
    assert!(scheduling_policies("hasher-0").contains(&5));
    assert!(
        scheduling_policies("hasher-rescue")
            .iter()
            .all(|policy| *policy == 0)
    );
}

#[test]
fn the_queue_holds_about_a_second_of_work() {
    let setup = |queue, hash_time| {
        let options = Options {
            threads: 2,
            queue,
            rescue_after: None,
            ..options()
        };
        Setup::new(&options, Engine::Fast, hash_time)
    };
    let millis = Duration::from_millis;
    for (hash_time, queue, rescue_after, retry_after) in [
        (millis(7), 2 * 143, millis(4004), millis(1001)),
        // The minimum is eight jobs a thread, the maximum 4096.
        (millis(500), 2 * 8, millis(16_000), millis(4000)),
        (
            Duration::from_micros(20),
            2 * 4096,
            Duration::from_micros(327_680),
            millis(1000),
        ),
        (Duration::ZERO, 2 * 4096, millis(250), millis(1000)),
    ] {
        let setup = setup(None, hash_time);
        assert_eq!(
            (setup.queue, setup.rescue_after, setup.retry_after),
            (queue, rescue_after, retry_after)
        );
    }
    let set = setup(Some(5), millis(400));
    assert_eq!(
        (set.queue, set.rescue_after, set.retry_after),
        (5, millis(4800), millis(1200))
    );
}

fn peppered(peppers: &str) -> Hasher {
    Hasher::start(&Options {
        peppers: SecretKeys::parse(peppers).unwrap(),
        ..options()
    })
    .unwrap()
}

const OLD: &str = "old:MDEyMzQ1Njc4OWFiY2RlZg==";
const NEW: &str = "new:ZmVkY2JhOTg3NjU0MzIxMA==";

#[tokio::test]
async fn a_hash_has_the_key_id_of_its_pepper_and_moves_to_the_current_one() {
    let mut hash = REFERENCE.to_owned();
    // bmV3 and b2xk are `new` and `old` in base64, as in PHC strings.
    for (peppers, key_id) in [(OLD, "b2xk"), (&format!("{NEW} {OLD}"), "bmV3")] {
        let hasher = peppered(peppers);
        let verdict = hasher.verified("correct horse", Some(hash.clone())).await;
        let Ok(Verdict::RightButWeak { stronger }) = verdict else {
            panic!("{verdict:?}")
        };
        let prefix = format!("$argon2id$v=19$m=64,t=2,p=1,keyid={key_id}$");
        assert!(stronger.starts_with(&prefix), "{stronger}");
        let stored = Some(stronger.clone());
        let verdict = hasher.verified("correct horse", stored.clone()).await;
        assert_eq!(verdict.unwrap(), Verdict::Right);
        let verdict = hasher.verified("correct horsf", stored).await;
        assert_eq!(verdict.unwrap(), Verdict::Wrong);
        assert_eq!(
            hasher.verified("correct horse", None).await.unwrap(),
            Verdict::Wrong
        );
        hash = stronger;
    }
    for peppers in ["", OLD] {
        let unknown = peppered(peppers)
            .verified("correct horse", Some(hash.clone()))
            .await;
        let Err(Error::Internal(cause)) = unknown else {
            panic!("{unknown:?}")
        };
        assert!(cause.to_string().contains("\"new\""), "{cause}");
    }
}

#[tokio::test]
async fn another_pepper_under_the_same_key_id_makes_every_password_wrong() {
    let hash = peppered(OLD).hashed("correct horse").await.unwrap();
    let other = peppered("old:ZmVkY2JhOTg3NjU0MzIxMA");
    let verdict = other.verified("correct horse", Some(hash)).await;
    assert_eq!(verdict.unwrap(), Verdict::Wrong);
}

#[test]
fn the_longest_phc_string_fits_its_column() {
    let key_id = KeyId::new(b"12345678").unwrap();
    let params = ParamsBuilder::new()
        .m_cost(u32::MAX)
        .t_cost(u32::MAX)
        .p_cost(64)
        .keyid(key_id)
        .build()
        .unwrap();
    let params = argon2::password_hash::phc::ParamsString::try_from(&params).unwrap();
    let rest = "$argon2id$v=19$$".len() + "$".len() + 22 + 43;
    assert!(rest + params.to_string().len() <= 255);
}

#[tokio::test]
async fn a_stored_hash_that_costs_too_much_is_not_computed() {
    let hasher = Hasher::start(&options()).unwrap();
    for cost in [
        "m=1048577,t=1",
        "m=4294967295,t=1",
        "m=8,t=1001",
        "m=8,t=4294967295",
    ] {
        let stored = REFERENCE.replace("m=64,t=2", cost);
        let outcome = hasher.verified("correct horse", Some(stored)).await;
        assert!(
            matches!(&outcome, Err(Error::Internal(cause)) if cause.to_string().contains("needs too much")),
            "{cost}: {outcome:?}"
        );
    }
}

/// Busy processes of ordinary priority, one more than there are cores. They end when this value is dropped.
#[cfg(target_os = "linux")]
struct Neighbours(Vec<std::process::Child>);

#[cfg(target_os = "linux")]
impl Neighbours {
    fn start() -> Self {
        let count = thread::available_parallelism().unwrap().get() + 1;
        let start = |_| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", "while :; do :; done"]).spawn().unwrap()
        };
        Self((0..count).map(start).collect())
    }
}

#[cfg(target_os = "linux")]
impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Covers waiting jobs and the job that a starved thread has started.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn relief_threads_hash_while_neighbours_starve_the_hashing_threads() {
    let hasher = Hasher::start(&Options {
        // A hash of some milliseconds, for which a starved thread takes seconds.
        memory_kib: 16 * 1024,
        threads: 1,
        ..options()
    })
    .unwrap();
    let neighbours = Neighbours::start();
    for _ in 0..3 {
        let jobs = [(); 4].map(|()| {
            let hasher = hasher.clone();
            async move { hasher.hashed("correct horse").await }
        });
        for outcome in tokio::task::JoinSet::from_iter(jobs).join_all().await {
            outcome.unwrap();
        }
    }
    drop(neighbours);
    let counted = hasher.snapshot();
    assert_eq!(counted.rescued, 0, "the rescue comes after an hour");
    assert_eq!(counted.completed, 12, "each job is answered once");
    assert!(counted.relieved > 0);
}
