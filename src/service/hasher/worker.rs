//! What a hashing thread does: takes a job, hashes in memory of its own, answers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::{ARGON2ID_IDENT, Params, Version};
#[cfg(target_os = "linux")]
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::sync::oneshot;

use super::arena::{Arena, Scheme};
use super::bound::Bound;
use super::engine::Engine;
use super::metrics::Metrics;
use super::pace::{self, Pacer};
use super::queue::{Queue, Taken};
use super::together::Together;
use super::{HashError, Verdict};
use crate::domain::password::Password;
use crate::trace::{Current, What};

/// The lowest priority of an ordinary thread that Linux has.
#[cfg(target_os = "linux")]
const LOWEST_PRIORITY: i32 = 19;

pub(super) type Reply<T> = oneshot::Sender<Result<T, HashError>>;

pub(super) enum Job {
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

impl Job {
    /// Answers the caller of a job that made room for another.
    pub(super) fn refuse(self) {
        // A caller that has gone does not want the answer.
        match self {
            Self::Hash { reply, .. } => drop(reply.send(Err(HashError::Displaced))),
            Self::Verify { reply, .. } => drop(reply.send(Err(HashError::Displaced))),
            Self::Judge { reply, .. } => drop(reply.send(Err(HashError::Displaced))),
        }
    }
}

/// A job, and the trace that it belongs to.
pub(super) struct Task {
    pub(super) job: Job,
    pub(super) trace: Current,
}

/// Which jobs a thread takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Duty {
    /// All, in turn, at the lowest priority.
    InTurn,
    /// Those that have waited for so long, at ordinary priority.
    Rescue(Duration),
}

/// What all threads share.
pub(super) struct Common {
    pub(super) queue: Arc<Queue<Task>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) engine: Engine,
    pub(super) scheme: Scheme,
    /// What an unknown number is checked against.
    pub(super) dummy: String,
    /// Without one, the queue keeps the bound that was set.
    pub(super) bound: Option<Bound>,
    /// There is one under a quota.
    pub(super) pacer: Option<Pacer>,
    /// The answers of those who work in turn.
    pub(super) together: Together,
}

pub(super) struct Worker {
    common: Arc<Common>,
    arena: Arena,
}

impl Worker {
    pub(super) fn new(common: Arc<Common>) -> Self {
        let arena = Arena::new(common.engine);
        Self { common, arena }
    }

    /// Works until the queue is closed.
    pub(super) fn run(mut self, duty: Duty) {
        if matches!(duty, Duty::InTurn) {
            lower_priority();
        }
        while let Some(taken) = self.take(duty) {
            // A fault in one job must not cost the others their thread. The caller of this one sees that its end of the
            // channel is gone; the panic itself is on standard error.
            let common = self.common.clone();
            let waited = match duty {
                Duty::InTurn => taken.waited,
                // Nobody holds that back.
                Duty::Rescue(_) => Duration::ZERO,
            };
            let work = || catch_unwind(AssertUnwindSafe(|| self.work(taken.job, waited)));
            let (outcome, used) = pace::measured(work);
            if let Some(pacer) = &common.pacer {
                pacer.charge(used);
            }
            common.queue.settle(taken.charge, used);
            if outcome.is_err() {
                self.arena = Arena::new(self.common.engine);
            }
        }
        self.common.together.give_all();
    }

    fn take(&self, duty: Duty) -> Option<Taken<Task>> {
        let Common {
            queue,
            metrics,
            pacer,
            together,
            ..
        } = self.common.as_ref();
        // Before a job is taken, so that it can still leave, and be refused, while it waits.
        if let Some(pacer) = pacer {
            pacer.wait();
        }
        let taken = match duty {
            Duty::InTurn => queue.take(|| together.give_all()),
            Duty::Rescue(age) => queue
                .take_aged(age, |now| together.give_due(now))
                .inspect(|_| Metrics::add(&metrics.rescued)),
        }?;
        metrics.waited(taken.waited);
        taken.job.trace.ended("hash queue", taken.waited);
        Some(taken)
    }

    fn work(&mut self, Task { job, trace }: Task, waited: Duration) {
        let common = self.common.clone();
        let (completed, scheme) = (&common.metrics.completed, &common.scheme);
        match job {
            Job::Hash { password, reply } => {
                self.answer(reply, &trace, Some((completed, waited)), |arena| {
                    arena.hash(password.expose_bytes(), scheme)
                });
            }
            Job::Judge { password, reply } => self.answer(reply, &trace, None, |_| Ok(password.is_common())),
            Job::Verify {
                password,
                stored,
                upgrade,
                reply,
            } => self.answer(reply, &trace, Some((completed, waited)), |arena| {
                verify(arena, &common, &password, stored.as_deref(), upgrade)
            }),
        }
    }

    /// `hashes`: what counts this job as one that hashes, and how long it had waited.
    fn answer<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        trace: &Current,
        hashes: Option<(&AtomicU64, Duration)>,
        work: impl FnOnce(&mut Arena) -> Result<T, HashError>,
    ) {
        if reply.is_closed() {
            return Metrics::add(&self.common.metrics.dropped);
        }
        let begun = Instant::now();
        let span = trace.child("hash", What::Work);
        let result = work(&mut self.arena);
        // Before the answer: others go on with it, and may send the trace, while this thread has to wait for the processor.
        drop(span);
        // A caller that has gone meanwhile does not want the answer.
        let answer = move || drop(reply.send(result));
        if let Some((counter, waited)) = hashes {
            let (now, took) = (Instant::now(), begun.elapsed());
            self.common.metrics.hashed(took);
            Metrics::add(counter);
            if let Some(bound) = &self.common.bound {
                bound.took(took);
                self.common.queue.set_bound(bound.jobs());
            }
            if self.common.pacer.is_some() {
                // This thread may have to wait before it takes another job.
                answer();
            } else if let Some(due) = self.common.together.give(answer, waited, took, now) {
                self.common.queue.set_clock(due);
            }
        } else {
            answer();
        }
    }
}

fn verify(
    arena: &mut Arena,
    common: &Common,
    password: &Password,
    stored: Option<&str>,
    upgrade: bool,
) -> Result<Verdict, HashError> {
    let scheme = &common.scheme;
    let hash = PasswordHash::new(stored.unwrap_or(&common.dummy))?;
    let params = Params::try_from(&hash)?;
    let matches = arena.matches(password.expose_bytes(), &hash, &params, scheme)?;
    if !matches || stored.is_none() {
        return Ok(Verdict::Wrong);
    }
    if upgrade && is_weak(&hash, &params, &scheme.params) {
        let stronger = arena.hash(password.expose_bytes(), scheme)?;
        return Ok(Verdict::RightButWeak { stronger });
    }
    Ok(Verdict::Right)
}

/// Whether a stored hash costs an attacker less than one of today, or has another pepper or none.
fn is_weak(hash: &PasswordHash, params: &Params, today: &Params) -> bool {
    hash.algorithm != ARGON2ID_IDENT
        || hash.version != Some(Version::V0x13.into())
        || params.m_cost() < today.m_cost()
        || params.t_cost() < today.t_cost()
        || params.keyid() != today.keyid()
}

/// Gives this thread the lowest priority, so that session checks and health checks come first while people sign in.
fn lower_priority() {
    // Linux lets a thread that wakes up take the place of an idle one at once. From one of nice 19 it takes it only after
    // some milliseconds, which every hundredth check would feel. Elsewhere it would slow down the whole program.
    #[cfg(target_os = "linux")]
    {
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        if set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle).is_ok() {
            return;
        }
        // Where a sandbox forbids that. What POSIX says about the process is about the thread on Linux: setpriority(2),
        // "C library/kernel differences".
        if let Err(error) = rustix::process::setpriority_process(None, LOWEST_PRIORITY) {
            tracing::warn!(%error, "a hashing thread keeps its ordinary priority");
        }
    }
}
