//! The login engine: Argon2id on threads of its own, so that neither the async workers wait for it nor more hashes run
//! at once than there are threads. What else takes long about a password is done there, too.
//!
//! Each thread keeps its memory from one hash to the next. In front of them stands a bounded queue: full means
//! [`Error::Overloaded`] at once. A job whose caller has gone is dropped before it is hashed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::domain::RandomError;
use crate::domain::password::Password;
use crate::error::Error;

/// When to try again after the queue was full. By default it holds about a second of work.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The most memory a hash may ask for, in KiB: 1 GiB. A stored hash that asks for more is not checked.
pub const MAX_MEMORY_KIB: u32 = 1024 * 1024;

/// Salt length in bytes: what RFC 9106 section 4 recommends.
const SALT_LENGTH: usize = 16;

/// How passwords are hashed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Memory size m in KiB.
    pub memory_kib: u32,
    /// Number of passes t.
    pub iterations: u32,
    /// Degree of parallelism p. The lanes are computed one after another, on one thread.
    pub parallelism: u32,
    /// How many hashes run at once.
    pub threads: usize,
    /// How many may wait.
    pub queue: usize,
}

impl Options {
    fn params(&self) -> Result<Params, HashError> {
        Ok(Params::new(
            self.memory_kib,
            self.iterations,
            self.parallelism,
            Some(Params::DEFAULT_OUTPUT_LEN),
        )?)
    }
}

/// What checking a password found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is another password, or there is none.
    Wrong,
    /// It is the password.
    Right,
    /// It is the password, and this is a new hash of it: the stored one is weaker than today's parameters.
    RightButWeak {
        /// The stronger hash, a PHC string.
        stronger: String,
    },
}

/// A handle to the hashing threads. They end when the last handle is dropped. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hasher {
    queue: flume::Sender<Job>,
    completed: Arc<AtomicU64>,
}

impl Hasher {
    /// Starts the threads and makes the dummy hash against which the passwords of unknown numbers are checked.
    ///
    /// # Errors
    /// When the parameters are not those of Argon2id, or the machine has no thread, memory or random bytes to give.
    pub fn start(options: &Options) -> Result<Self, HashError> {
        let params = options.params()?;
        let mut arena = Arena::default();
        let dummy: Arc<str> = arena.hash(b"nobody has this password", &params)?.into();
        let (queue, jobs) = flume::bounded::<Job>(options.queue);
        let completed = Arc::new(AtomicU64::new(0));
        for number in 0..options.threads {
            let worker = Worker {
                jobs: jobs.clone(),
                params: params.clone(),
                dummy: dummy.clone(),
                completed: completed.clone(),
                arena: Arena::default(),
            };
            thread::Builder::new()
                .name(format!("hasher-{number}"))
                .spawn(move || worker.run())?;
        }
        Ok(Self { queue, completed })
    }

    /// Hashes a password with today's parameters. The answer is a PHC string.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the queue is full.
    pub async fn hash(&self, password: Password) -> Result<String, Error> {
        self.run(|reply| Job::Hash { password, reply }).await
    }

    /// Checks a password against a stored hash, or against the dummy where there is none, which takes as long. Does not
    /// tell whether the hash is weak.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the queue is full; [`Error::Internal`] when the stored hash cannot be read.
    pub async fn matches(&self, password: Password, stored: Option<String>) -> Result<bool, Error> {
        let verdict = self
            .run(|reply| Job::Verify {
                password,
                stored,
                upgrade: false,
                reply,
            })
            .await?;
        Ok(verdict != Verdict::Wrong)
    }

    /// As [`Self::matches`], and makes a new hash of a right password whose stored one is weak.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the queue is full; [`Error::Internal`] when the stored hash cannot be read.
    pub async fn verify(&self, password: Password, stored: Option<String>) -> Result<Verdict, Error> {
        self.run(|reply| Job::Verify {
            password,
            stored,
            upgrade: true,
            reply,
        })
        .await
    }

    /// Whether a password is among what attackers try first ([`Password::is_common`]).
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the queue is full.
    pub async fn is_common(&self, password: Password) -> Result<bool, Error> {
        self.run(|reply| Job::Judge { password, reply }).await
    }

    /// How many passwords were hashed or checked since the start. Those whose caller had gone do not count.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.completed.load(Ordering::Acquire)
    }

    async fn run<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        match self.queue.try_send(job(reply)) {
            Ok(()) => {}
            Err(flume::TrySendError::Full(_)) => {
                return Err(Error::Overloaded {
                    retry_after: RETRY_AFTER,
                });
            }
            Err(flume::TrySendError::Disconnected(_)) => return Err(Error::internal(HashError::Gone)),
        }
        answer
            .await
            .map_err(|_| Error::internal(HashError::Gone))?
            .map_err(Error::internal)
    }
}

type Reply<T> = oneshot::Sender<Result<T, HashError>>;

enum Job {
    Hash {
        password: Password,
        reply: Reply<String>,
    },
    Verify {
        password: Password,
        stored: Option<String>,
        upgrade: bool,
        reply: Reply<Verdict>,
    },
    Judge {
        password: Password,
        reply: Reply<bool>,
    },
}

struct Worker {
    jobs: flume::Receiver<Job>,
    params: Params,
    dummy: Arc<str>,
    completed: Arc<AtomicU64>,
    arena: Arena,
}

impl Worker {
    fn run(mut self) {
        while let Ok(job) = self.jobs.recv() {
            match job {
                Job::Hash { password, reply } => {
                    self.answer(reply, |worker| {
                        worker.arena.hash(password.expose_bytes(), &worker.params)
                    });
                }
                Job::Judge { password, reply } => {
                    if !reply.is_closed() {
                        // A caller that has gone meanwhile does not want the answer.
                        let _ = reply.send(Ok(password.is_common()));
                    }
                }
                Job::Verify {
                    password,
                    stored,
                    upgrade,
                    reply,
                } => {
                    self.answer(reply, |worker| {
                        worker.verify(&password, stored.as_deref(), upgrade)
                    });
                }
            }
        }
    }

    fn answer<T>(&mut self, reply: Reply<T>, work: impl FnOnce(&mut Self) -> Result<T, HashError>) {
        if reply.is_closed() {
            return;
        }
        let result = work(self);
        self.completed.fetch_add(1, Ordering::Release);
        // A caller that has gone meanwhile does not want the answer.
        let _ = reply.send(result);
    }

    fn verify(
        &mut self,
        password: &Password,
        stored: Option<&str>,
        upgrade: bool,
    ) -> Result<Verdict, HashError> {
        let hash = PasswordHash::new(stored.unwrap_or(&self.dummy))?;
        let params = Params::try_from(&hash)?;
        let matches = self.arena.matches(password.expose_bytes(), &hash, &params)?;
        if !matches || stored.is_none() {
            return Ok(Verdict::Wrong);
        }
        if upgrade && self.is_weak(&hash, &params) {
            let stronger = self.arena.hash(password.expose_bytes(), &self.params)?;
            return Ok(Verdict::RightButWeak { stronger });
        }
        Ok(Verdict::Right)
    }

    /// Whether a stored hash costs an attacker less than one of today.
    fn is_weak(&self, hash: &PasswordHash, params: &Params) -> bool {
        hash.algorithm != ARGON2ID_IDENT
            || hash.version != Some(Version::V0x13.into())
            || params.m_cost() < self.params.m_cost()
            || params.t_cost() < self.params.t_cost()
    }
}

/// The memory of one thread, kept from one hash to the next.
#[derive(Default)]
struct Arena {
    blocks: Vec<Block>,
}

impl Arena {
    fn hash(&mut self, password: &[u8], params: &Params) -> Result<String, HashError> {
        let mut salt = [0; SALT_LENGTH];
        getrandom::fill(&mut salt)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        self.compute(&argon2, password, &salt, params, &mut output)?;
        let hash = PasswordHash {
            algorithm: ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(params)?,
            salt: Some(Salt::new(&salt)?),
            hash: Some(Output::new(&output)?),
        };
        Ok(hash.to_string())
    }

    fn matches(&mut self, password: &[u8], hash: &PasswordHash, params: &Params) -> Result<bool, HashError> {
        let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
            return Err(HashError::Incomplete);
        };
        let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
        // PHC strings from before version 1.3 name no version.
        let version = hash.version.map_or(Ok(Version::V0x10), Version::try_from)?;
        let argon2 = Argon2::new(algorithm, version, params.clone());
        let mut output = vec![0; expected.len()];
        self.compute(&argon2, password, salt, params, &mut output)?;
        Ok(output.ct_eq(expected.as_bytes()).into())
    }

    fn compute(
        &mut self,
        argon2: &Argon2<'_>,
        password: &[u8],
        salt: &[u8],
        params: &Params,
        output: &mut [u8],
    ) -> Result<(), HashError> {
        if params.m_cost() > MAX_MEMORY_KIB {
            return Err(HashError::TooCostly);
        }
        self.blocks.resize_with(params.block_count(), Block::default);
        // Gives back what a costlier hash needed; a no-op where all have the same parameters.
        self.blocks.shrink_to_fit();
        Ok(argon2.hash_password_into_with_memory(password, salt, output, &mut self.blocks)?)
    }
}

/// Why hashing failed. None of these is a wrong password.
#[derive(Debug, Error)]
pub enum HashError {
    /// Argon2 does not take these parameters.
    #[error("Argon2 parameters: {0}")]
    Parameters(#[from] argon2::Error),
    /// The stored hash is not a PHC string of Argon2.
    #[error("stored hash: {0}")]
    Stored(#[from] argon2::password_hash::Error),
    /// The stored hash is not a PHC string.
    #[error("stored hash: {0}")]
    Phc(#[from] argon2::password_hash::phc::Error),
    /// The stored PHC string lacks the salt or the hash.
    #[error("stored hash: has no salt or no hash")]
    Incomplete,
    /// The stored hash asks for more than [`MAX_MEMORY_KIB`].
    #[error("stored hash: asks for too much memory")]
    TooCostly,
    /// No random bytes for a salt.
    #[error("no random bytes: {0}")]
    Random(#[from] RandomError),
    /// No thread.
    #[error("cannot start a hashing thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The hashing threads have ended.
    #[error("the hashing threads have ended")]
    Gone,
}

#[cfg(test)]
mod tests {
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
}
