//! What a hashing thread does: takes a job, hashes in memory of its own, answers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::{ARGON2ID_IDENT, Params, Version};
#[cfg(target_os = "linux")]
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio::sync::oneshot;

use super::cpu_quota::{self, CpuQuota};
use super::engine::Engine;
use super::metrics::Metrics;
use super::phc::{PhcHasher, Scheme};
use super::queue::{Queue, Taken};
use super::queue_capacity::QueueCapacity;
use super::relief::{Monitor, Pause, Probe, Slots, TICK, Ticking};
use super::reply_batch::ReplyBatch;
use super::{HashError, Verdict};
use crate::domain::password::Password;
use crate::service::password_policy::NewPassword;
use crate::telemetry::tracing::{SpanKind, TraceContext};

/// The lowest priority of an ordinary thread that Linux has.
#[cfg(target_os = "linux")]
const LOWEST_PRIORITY: i32 = 19;

/// Where the result of a job goes. A job that two threads compute is answered once.
pub(super) struct Reply<T>(Mutex<Option<oneshot::Sender<Result<T, HashError>>>>);

impl<T> From<oneshot::Sender<Result<T, HashError>>> for Reply<T> {
    fn from(sender: oneshot::Sender<Result<T, HashError>>) -> Self {
        Self(Mutex::new(Some(sender)))
    }
}

impl<T> Reply<T> {
    /// Whether its caller has gone. `None`: it was answered.
    fn is_closed(&self) -> Option<bool> {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().map(oneshot::Sender::is_closed)
    }

    fn refuse(&self) {
        if let Some(sender) = self.take() {
            // A caller that has gone does not want the answer.
            drop(sender.send(Err(HashError::Displaced)));
        }
    }

    fn take(&self) -> Option<oneshot::Sender<Result<T, HashError>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

pub(super) enum Job {
    Hash {
        password: NewPassword,
        reply: Reply<String>,
    },
    Verify {
        password: Password,
        stored: Option<String>,
        upgrade: bool,
        reply: Reply<Verdict>,
    },
}

impl Job {
    /// Answers the caller of a job that made room for another.
    pub(super) fn refuse(&self) {
        match self {
            Self::Hash { reply, .. } => reply.refuse(),
            Self::Verify { reply, .. } => reply.refuse(),
        }
    }
}

/// A job, and the trace that it belongs to.
pub(super) struct Task {
    pub(super) job: Job,
    pub(super) trace: TraceContext,
}

/// Which jobs a thread takes.
pub(super) enum Duty {
    /// All, in turn, at the lowest priority. The number is that of the slot.
    InTurn(usize),
    /// All, in turn, at ordinary priority, while other processes starve the threads of the lowest one.
    Relief(usize),
    /// Those that have waited for so long, at ordinary priority. It also decides when the relief threads work.
    Rescue(usize, Duration, Box<Monitor>),
}

/// What all threads share.
pub(super) struct Common {
    pub(super) queue: Arc<Queue<Arc<Task>>>,
    pub(super) metrics: Arc<Metrics>,
    /// What the threads work on.
    pub(super) slots: Slots<Arc<Task>>,
    pub(super) ticking: Ticking,
    pub(super) probe: Arc<Probe>,
    /// When the relief threads pause.
    pub(super) pause: Pause,
    pub(super) engine: Engine,
    pub(super) scheme: Scheme,
    /// What an unknown number is checked against.
    pub(super) dummy: String,
    /// Without one, the queue keeps the bound that was set.
    pub(super) bound: Option<QueueCapacity>,
    /// There is one under a quota.
    pub(super) pacer: Option<CpuQuota>,
    /// The answers of those who work in turn.
    pub(super) together: ReplyBatch,
}

impl Common {
    /// Has the monitor decide who takes the jobs. Returns when it looks again.
    fn look(&self, monitor: &mut Monitor, now: Instant) -> Option<Instant> {
        self.ticking.end();
        let look = monitor.look(&self.slots, &self.probe, self.queue.depth() > 0);
        if look.next.is_some() {
            // It ticks on.
            let _ = self.ticking.begin();
        }
        if let Some(time) = look.pause {
            self.pause.start(time);
        }
        self.metrics.set_relieved(look.is_relieved);
        self.queue.set_relieved(look.is_relieved, look.again);
        look.next.map(|time| now + time)
    }
}

pub(super) struct Worker {
    common: Arc<Common>,
    arena: PhcHasher,
}

impl Worker {
    pub(super) fn new(common: Arc<Common>) -> Self {
        let arena = PhcHasher::new(common.engine);
        Self { common, arena }
    }

    /// Works until the queue is closed.
    pub(super) fn run(mut self, mut duty: Duty) {
        if let Duty::InTurn(_) = duty {
            lower_priority();
        }
        let (Duty::InTurn(slot) | Duty::Relief(slot) | Duty::Rescue(slot, ..)) = duty;
        self.common.slots.enter(slot);
        while let Some(taken) = self.take(&mut duty) {
            // A fault in one job must not cost the others their thread. The caller of this one sees that its end of the
            // channel is gone; the panic itself is on standard error.
            let common = self.common.clone();
            let waited = match duty {
                Duty::InTurn(_) => taken.waited,
                // These answers are not held back.
                Duty::Relief(_) | Duty::Rescue(..) => Duration::ZERO,
            };
            if let Duty::InTurn(slot) | Duty::Relief(slot) = duty {
                common.slots.begin(slot, taken.job.clone());
                if common.ticking.begin() {
                    common.queue.set_clock(Instant::now() + TICK);
                }
            }
            let work = || catch_unwind(AssertUnwindSafe(|| self.work(&taken.job, waited)));
            let (outcome, used) = cpu_quota::measured(work);
            if let Some(pacer) = &common.pacer {
                pacer.charge(used);
            }
            if let Some(charge) = taken.charge {
                common.queue.settle(charge, used);
            }
            if let Duty::InTurn(slot) | Duty::Relief(slot) = duty {
                common.slots.end(slot);
            }
            if outcome.is_err() {
                self.arena = PhcHasher::new(self.common.engine);
            }
        }
        self.common.together.give_all();
    }

    fn take(&mut self, duty: &mut Duty) -> Option<Taken<Arc<Task>>> {
        let common = self.common.clone();
        let Common { queue, metrics, .. } = common.as_ref();
        // Before a job is taken, so that it can still leave, and be refused, while it waits.
        if let Some(pacer) = &common.pacer {
            pacer.wait();
        }
        let taken = match duty {
            Duty::InTurn(_) => queue.take(|| common.together.give_all()),
            Duty::Relief(_) => {
                common.pause.wait();
                // The memory is given back when the relief ends.
                let release = || self.arena = PhcHasher::new(common.engine);
                queue
                    .take_relief(release)
                    .inspect(|_| Metrics::add(&metrics.relieved))
            }
            Duty::Rescue(_, age, monitor) => {
                let look = |now| {
                    [common.together.give_due(now), common.look(monitor, now)]
                        .into_iter()
                        .flatten()
                        .min()
                };
                queue
                    .take_aged(*age, look)
                    .inspect(|_| Metrics::add(&metrics.rescued))
            }
        }?;
        metrics.waited(taken.waited);
        taken.job.trace.ended("hash queue", taken.waited);
        Some(taken)
    }

    fn work(&mut self, task: &Task, waited: Duration) {
        let common = self.common.clone();
        let Task { job, trace } = task;
        match job {
            Job::Hash { password, reply } => {
                self.answer(reply, trace, waited, |arena| {
                    arena.hash(password.expose_bytes(), &common.scheme)
                });
            }
            Job::Verify {
                password,
                stored,
                upgrade,
                reply,
            } => self.answer(reply, trace, waited, |arena| {
                verify(arena, &common, password, stored.as_deref(), *upgrade)
            }),
        }
    }

    /// `waited`: how long the job was in the queue, unless the reply must not be batched.
    fn answer<T: Send + 'static>(
        &mut self,
        reply: &Reply<T>,
        trace: &TraceContext,
        waited: Duration,
        work: impl FnOnce(&mut PhcHasher) -> Result<T, HashError>,
    ) {
        match reply.is_closed() {
            // Another thread has computed it.
            None => return,
            Some(true) => return Metrics::add(&self.common.metrics.dropped),
            Some(false) => {}
        }
        let begun = Instant::now();
        let span = trace.child("hash", SpanKind::Work);
        let result = work(&mut self.arena);
        // Before the answer: others go on with it, and may send the trace, while this thread has to wait for the
        // processor.
        drop(span);
        let Some(reply) = reply.take() else { return };
        // A caller that has gone meanwhile does not want the answer.
        let answer = move || drop(reply.send(result));
        let (now, took) = (Instant::now(), begun.elapsed());
        self.common.metrics.hashed(took);
        Metrics::add(&self.common.metrics.completed);
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
    }
}

fn verify(
    arena: &mut PhcHasher,
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
        arena.fill_up(&params, scheme)?;
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
pub(super) fn lower_priority() {
    // Linux lets a thread that wakes up take the place of an idle one at once. From one of nice 19 it takes it only
    // after some milliseconds, which every hundredth check would feel. Elsewhere it would slow down the whole program.
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
