//! Hashing thread: takes a job, hashes in memory of its own, and replies.

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

/// The lowest priority of an ordinary thread on Linux.
#[cfg(target_os = "linux")]
const LOWEST_PRIORITY: i32 = 19;

/// Reply channel of a job. A job that two threads compute is answered once.
pub(super) struct Reply<T>(Mutex<Option<oneshot::Sender<Result<T, HashError>>>>);

impl<T> From<oneshot::Sender<Result<T, HashError>>> for Reply<T> {
    fn from(sender: oneshot::Sender<Result<T, HashError>>) -> Self {
        Self(Mutex::new(Some(sender)))
    }
}

impl<T> Reply<T> {
    /// Returns whether the caller has gone away. `None`: the job was answered.
    fn is_closed(&self) -> Option<bool> {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sender.as_ref().map(oneshot::Sender::is_closed)
    }

    fn refuse(&self) {
        if let Some(sender) = self.take() {
            // A caller that has gone away does not need the answer.
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
    /// Reports to the caller that the full queue dropped the job for another.
    pub(super) fn refuse(&self) {
        match self {
            Self::Hash { reply, .. } => reply.refuse(),
            Self::Verify { reply, .. } => reply.refuse(),
        }
    }
}

/// A job and its trace.
pub(super) struct Task {
    pub(super) job: Job,
    pub(super) trace: TraceContext,
}

/// Selects the jobs that a thread takes.
pub(super) enum Duty {
    /// All jobs in the fair order, at the lowest priority. The number is that of the slot.
    InTurn(usize),
    /// All jobs in the fair order, at ordinary priority, while other processes starve the threads of the lowest
    /// priority.
    Relief(usize),
    /// Jobs that have waited for this time, at ordinary priority. This thread also decides when the relief threads
    /// work.
    Rescue(usize, Duration, Box<Monitor>),
}

/// State that all threads share.
pub(super) struct Common {
    pub(super) queue: Arc<Queue<Arc<Task>>>,
    pub(super) metrics: Arc<Metrics>,
    /// Running jobs of the threads.
    pub(super) slots: Slots<Arc<Task>>,
    pub(super) ticking: Ticking,
    pub(super) probe: Arc<Probe>,
    /// Pause of the relief threads.
    pub(super) pause: Pause,
    pub(super) engine: Engine,
    pub(super) scheme: Scheme,
    /// Hash against which the passwords of unknown numbers are checked.
    pub(super) dummy: String,
    /// `None`: the queue keeps the capacity of the settings.
    pub(super) queue_capacity: Option<QueueCapacity>,
    /// `Some` under a quota of processor time.
    pub(super) cpu_quota: Option<CpuQuota>,
    /// Delayed replies of the hashing threads.
    pub(super) reply_batch: ReplyBatch,
}

impl Common {
    /// Lets the monitor decide which threads take the jobs. Returns the time of the next look.
    fn look(&self, monitor: &mut Monitor, now: Instant) -> Option<Instant> {
        self.ticking.end();
        let look = monitor.look(&self.slots, &self.probe, self.queue.depth() > 0);
        if look.next.is_some() {
            // The next look is scheduled.
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
    phc_hasher: PhcHasher,
}

impl Worker {
    pub(super) fn new(common: Arc<Common>) -> Self {
        let phc_hasher = PhcHasher::new(common.engine);
        Self { common, phc_hasher }
    }

    /// Works until the queue is closed.
    pub(super) fn run(mut self, mut duty: Duty) {
        if let Duty::InTurn(_) = duty {
            lower_priority();
        }
        let (Duty::InTurn(slot) | Duty::Relief(slot) | Duty::Rescue(slot, ..)) = duty;
        self.common.slots.enter(slot);
        while let Some(taken) = self.take(&mut duty) {
            // A panic in one job must not end the thread. The caller of this job sees that its channel is closed; the
            // panic message is on standard error.
            let common = self.common.clone();
            let waited = match duty {
                Duty::InTurn(_) => taken.waited,
                // The replies of relief and rescue threads are not batched.
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
            if let Some(cpu_quota) = &common.cpu_quota {
                cpu_quota.charge(used);
            }
            if let Some(charge) = taken.charge {
                common.queue.settle(charge, used);
            }
            if let Duty::InTurn(slot) | Duty::Relief(slot) = duty {
                common.slots.end(slot);
            }
            if outcome.is_err() {
                self.phc_hasher = PhcHasher::new(self.common.engine);
            }
        }
        self.common.reply_batch.give_all();
    }

    fn take(&mut self, duty: &mut Duty) -> Option<Taken<Arc<Task>>> {
        let common = self.common.clone();
        let Common { queue, metrics, .. } = common.as_ref();
        // Waits before it takes a job, so that the job can still leave the queue or be dropped.
        if let Some(cpu_quota) = &common.cpu_quota {
            cpu_quota.wait();
        }
        let taken = match duty {
            Duty::InTurn(_) => queue.take(|| common.reply_batch.give_all()),
            Duty::Relief(_) => {
                common.pause.wait();
                // The thread frees its memory when the relief ends.
                let release = || self.phc_hasher = PhcHasher::new(common.engine);
                queue
                    .take_relief(release)
                    .inspect(|_| Metrics::add(&metrics.relieved))
            }
            Duty::Rescue(_, age, monitor) => {
                let look = |now| {
                    [common.reply_batch.give_due(now), common.look(monitor, now)]
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
                self.answer(reply, trace, waited, |phc_hasher| {
                    phc_hasher.hash(password.expose_bytes(), &common.scheme)
                });
            }
            Job::Verify {
                password,
                stored,
                upgrade,
                reply,
            } => self.answer(reply, trace, waited, |phc_hasher| {
                verify(phc_hasher, &common, password, stored.as_deref(), *upgrade)
            }),
        }
    }

    /// `waited`: wait of the job in the queue, or zero if its reply must not be batched.
    fn answer<T: Send + 'static>(
        &mut self,
        reply: &Reply<T>,
        trace: &TraceContext,
        waited: Duration,
        work: impl FnOnce(&mut PhcHasher) -> Result<T, HashError>,
    ) {
        match reply.is_closed() {
            // Another thread has computed the job.
            None => return,
            Some(true) => return Metrics::add(&self.common.metrics.dropped),
            Some(false) => {}
        }
        let begun = Instant::now();
        let span = trace.child("hash", SpanKind::Work);
        let result = work(&mut self.phc_hasher);
        // The span ends before the reply is sent: the caller continues and may send the trace while this thread waits
        // for the processor.
        drop(span);
        let Some(reply) = reply.take() else { return };
        // A caller that has gone away in the meantime does not need the answer.
        let answer = move || drop(reply.send(result));
        let (now, took) = (Instant::now(), begun.elapsed());
        self.common.metrics.hashed(took);
        Metrics::add(&self.common.metrics.completed);
        if let Some(capacity) = &self.common.queue_capacity {
            capacity.record(took);
            self.common.queue.set_capacity(capacity.jobs());
        }
        if self.common.cpu_quota.is_some() {
            // The reply is not batched because this thread may have to wait before it takes another job.
            answer();
        } else if let Some(due) = self.common.reply_batch.give(answer, waited, took, now) {
            self.common.queue.set_clock(due);
        }
    }
}

fn verify(
    phc_hasher: &mut PhcHasher,
    common: &Common,
    password: &Password,
    stored: Option<&str>,
    upgrade: bool,
) -> Result<Verdict, HashError> {
    let scheme = &common.scheme;
    let hash = PasswordHash::new(stored.unwrap_or(&common.dummy))?;
    let params = Params::try_from(&hash)?;
    let matches = phc_hasher.matches(password.expose_bytes(), &hash, &params, scheme)?;
    if !matches || stored.is_none() {
        phc_hasher.fill_up(&params, scheme)?;
        return Ok(Verdict::Wrong);
    }
    if upgrade && is_weak(&hash, &params, &scheme.params) {
        let stronger = phc_hasher.hash(password.expose_bytes(), scheme)?;
        return Ok(Verdict::RightButWeak { stronger });
    }
    Ok(Verdict::Right)
}

/// Returns whether a stored hash costs an attacker less than one of today, or has another pepper or none.
fn is_weak(hash: &PasswordHash, params: &Params, today: &Params) -> bool {
    hash.algorithm != ARGON2ID_IDENT
        || hash.version != Some(Version::V0x13.into())
        || params.m_cost() < today.m_cost()
        || params.t_cost() < today.t_cost()
        || params.keyid() != today.keyid()
}

/// Gives this thread the lowest priority, so that session checks and health checks come first during sign-ins.
pub(super) fn lower_priority() {
    // Linux lets a thread that wakes up replace an idle one at once. It replaces a thread of nice 19 only after some
    // milliseconds, which would delay one check in a hundred. On other systems the lowest priority would slow down the
    // whole program.
    #[cfg(target_os = "linux")]
    {
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        if set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle).is_ok() {
            return;
        }
        // A sandbox may forbid the idle class. On Linux, setpriority(2) acts on the thread although POSIX specifies the
        // process: see "C library/kernel differences" there.
        if let Err(error) = rustix::process::setpriority_process(None, LOWEST_PRIORITY) {
            tracing::warn!(%error, "a hashing thread keeps its ordinary priority");
        }
    }
}
