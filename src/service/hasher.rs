//! The login engine: Argon2id on threads of its own, so that neither the async workers wait for it nor more hashes run
//! at once than there are threads. What else takes long about a password is done there, too.
//!
//! Each thread keeps its memory from one hash to the next. In front of them stands a bounded queue: full means
//! [`Error::Overloaded`] at once. A job whose caller has gone is dropped before it is hashed.

mod arena;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{ARGON2ID_IDENT, Params, Version};
use tokio::sync::oneshot;

use crate::domain::password::Password;
use crate::error::Error;
use arena::Arena;
pub use arena::{HashError, MAX_MEMORY_KIB};

/// When to try again after the queue was full. By default it holds about a second of work.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
