//! Thread pool for Argon2id, so that async workers never wait for a hash and the number of concurrent hashes is
//! limited.
//!
//! The threads have the lowest priority, and each thread keeps its memory from one hash to the next. A bounded fair
//! queue (`queue`) feeds them. When the queue is full, the job of the longest [`Flow`] fails at once with
//! [`Error::Overloaded`]. A job leaves the queue when its call is cancelled or its deadline passes. One rescue thread
//! of ordinary priority takes jobs that have waited too long, so that users can sign in while other calls keep the
//! machine busy. While other processes starve the threads of the lowest priority, relief threads hash in their place
//! (`relief`).

mod cpu_quota;
mod engine;
mod error;
mod flow;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod metrics;
mod phc;
mod queue;
mod queue_capacity;
mod relief;
mod reply_batch;
mod self_test;
mod setup;
#[cfg(test)]
mod tests;
mod worker;

use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;

use super::error::Error;
use crate::domain::password::Password;
use crate::service::password_policy::NewPassword;
use crate::telemetry::tracing::TraceContext;
use cpu_quota::CpuQuota;
pub use engine::{Engine, EngineChoice};
pub use error::HashError;
pub use flow::{Flow, FlowSubject};
pub use metrics::{HasherSnapshot, WAIT_BOUNDS_MICROSECONDS};
use metrics::{Metrics, QueueState};
use phc::Scheme;
pub use phc::{MAX_ITERATIONS, MAX_MEMORY_KIB};
use queue::{Pushed, Queue, Ticket};
use queue_capacity::QueueCapacity;
use relief::{Monitor, Pause, Probe, Slots, Ticking};
use reply_batch::ReplyBatch;
pub use self_test::{checked_engine, time_of_a_hash};
pub use setup::{Options, Setup};
use worker::{Common, Duty, Job, Reply, Task, Worker, lower_priority};

/// Outcome of a password check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The password is wrong, or there is no stored hash.
    Wrong,
    /// The password is correct.
    Right,
    /// The password is correct, and the stored hash has weaker parameters than today's or another pepper.
    RightButWeak {
        /// New hash of the password with today's parameters, a PHC string.
        stronger: String,
    },
}

/// Handle to the hashing threads. The threads end when the last handle is dropped. Cheap to clone.
#[derive(Clone)]
pub struct Hasher(Arc<HasherState>);

struct HasherState {
    queue: Arc<Queue<Arc<Task>>>,
    probe: Arc<Probe>,
    metrics: Arc<Metrics>,
    setup: Setup,
}

impl Drop for HasherState {
    fn drop(&mut self) {
        self.queue.close();
        self.probe.close();
    }
}

impl Hasher {
    /// Tests the engines, creates the dummy hash for the passwords of unknown numbers, and starts the threads.
    ///
    /// # Errors
    /// The parameters are not valid for Argon2id, no engine computes it correctly, or the machine lacks a thread,
    /// memory or random bytes.
    pub fn start(options: &Options) -> Result<Self, HashError> {
        let scheme = Scheme {
            params: options.params()?,
            peppers: options.peppers.clone(),
        };
        let tested = self_test::start(options.engine, &scheme)?;
        let setup = Setup::new(options, tested.engine, tested.hash_time);
        let (queue, metrics): (Arc<_>, Arc<Metrics>) =
            (Arc::new(Queue::new(setup.queue, setup.hash_time)), Arc::default());
        let probe = Arc::new(Probe::default());
        // Created first, so that its `Drop` ends the threads if one of them cannot be started.
        let hasher = Self(Arc::new(HasherState {
            queue: queue.clone(),
            probe: probe.clone(),
            metrics: metrics.clone(),
            setup,
        }));
        let common = Arc::new(Common {
            queue,
            metrics,
            slots: Slots::new(setup.threads, setup.threads + 1),
            ticking: Ticking::default(),
            probe: probe.clone(),
            pause: Pause::new(),
            engine: tested.engine,
            scheme,
            dummy: tested.dummy,
            queue_capacity: options
                .queue
                .is_none()
                .then(|| QueueCapacity::new(setup.threads, setup.hash_time)),
            cpu_quota: options.quota.map(CpuQuota::new),
            reply_batch: ReplyBatch::default(),
        });
        let start = |name: String, duty| {
            let worker = Worker::new(common.clone());
            thread::Builder::new().name(name).spawn(move || worker.run(duty))
        };
        for number in 0..setup.threads {
            start(format!("hasher-{number}"), Duty::InTurn(number))?;
        }
        for number in 0..setup.threads {
            let duty = Duty::Relief(setup.threads + number);
            start(format!("hasher-relief-{number}"), duty)?;
        }
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let monitor = Box::new(Monitor::new(setup.hash_time, cores));
        start(
            "hasher-rescue".to_owned(),
            Duty::Rescue(2 * setup.threads, setup.rescue_after, monitor),
        )?;
        thread::Builder::new()
            .name("hasher-probe".to_owned())
            .spawn(move || {
                lower_priority();
                probe.run();
            })?;
        Ok(hasher)
    }

    /// Hashes a password with today's parameters and returns a PHC string. If the caller goes away while a thread
    /// hashes the password, `leave` receives the pending result.
    ///
    /// # Errors
    /// [`Error::Overloaded`]: the queue is full.
    pub async fn hash(
        &self,
        flow: Flow,
        password: NewPassword,
        leave: impl FnOnce(Pending<String>),
    ) -> Result<String, Error> {
        self.run(flow, |reply| Job::Hash { password, reply }, leave).await
    }

    /// Checks a password against a stored hash. Without a stored hash, it checks against the dummy hash, which takes as
    /// long. With `upgrade`, a correct password with a weak stored hash is hashed again. If the caller goes away while
    /// a thread checks the password, `leave` receives the pending result.
    ///
    /// # Errors
    /// [`Error::Overloaded`]: the queue is full. [`Error::Internal`]: the stored hash cannot be parsed, or its pepper
    /// is unknown.
    pub async fn verify(
        &self,
        flow: Flow,
        password: Password,
        stored: Option<String>,
        upgrade: bool,
        leave: impl FnOnce(Pending<Verdict>),
    ) -> Result<Verdict, Error> {
        let job = |reply| Job::Verify {
            password,
            stored,
            upgrade,
            reply,
        };
        self.run(flow, job, leave).await
    }

    /// Checks whether the queue would accept a job of this flow now, so that a caller can skip work that would be in
    /// vain.
    ///
    /// # Errors
    /// [`Error::Overloaded`]: the queue is full and no other flow is longer.
    pub fn check_room(&self, flow: Flow) -> Result<(), Error> {
        if self.0.queue.is_full_for(flow) {
            Metrics::add(&self.0.metrics.refused);
            return Err(self.overloaded());
        }
        Ok(())
    }

    fn overloaded(&self) -> Error {
        Error::Overloaded {
            retry_after: self.0.setup.retry_after,
        }
    }

    /// Number of passwords that were hashed or checked since the start, without jobs that lost their caller.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.snapshot().completed
    }

    /// Snapshot of the queue and of all counters.
    #[must_use]
    pub fn snapshot(&self) -> HasherSnapshot {
        let queue = &self.0.queue;
        let state = QueueState {
            depth: queue.depth(),
            limit: queue.capacity(),
            flows: queue.flows(),
            running: queue.running(),
        };
        self.0.metrics.snapshot(state)
    }

    /// Values that the start derived from the options.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.0.setup
    }

    /// Keeps all threads from taking a job until the returned guard is dropped. Tests need it to be sure that a job
    /// waits.
    #[must_use]
    pub fn hold(&self) -> Held {
        self.0.queue.hold();
        Held(self.clone(), Queue::release)
    }

    /// Keeps all threads from starting the jobs that they take until the returned guard is dropped. Tests need it to be
    /// sure that a caller goes away while a thread has its job.
    #[must_use]
    pub fn hold_taken(&self) -> Held {
        self.0.queue.hold_taken();
        Held(self.clone(), Queue::release_taken)
    }

    async fn run<T>(
        &self,
        flow: Flow,
        job: impl FnOnce(Reply<T>) -> Job,
        leave: impl FnOnce(Pending<T>),
    ) -> Result<T, Error> {
        let shared = self.0.as_ref();
        let (reply, answer) = oneshot::channel();
        let task = Arc::new(Task {
            job: job(reply.into()),
            trace: TraceContext::current(),
        });
        let Ok(Pushed { ticket, displaced }) = shared.queue.push(flow, task) else {
            Metrics::add(&shared.metrics.refused);
            return Err(self.overloaded());
        };
        if let Some(task) = displaced {
            Metrics::add(&shared.metrics.displaced);
            task.job.refuse();
        }
        let mut slot = QueueSlot {
            shared,
            ticket,
            left: Some((answer, leave)),
        };
        let answered = match &mut slot.left {
            Some((answer, _)) => answer.await,
            None => return Err(Error::internal(HashError::Gone)),
        };
        slot.left = None;
        match answered.map_err(|_| Error::internal(HashError::Gone))? {
            Err(HashError::Displaced) => Err(self.overloaded()),
            answered => answered.map_err(Error::internal),
        }
    }
}

/// The pending result of a job that has lost its caller.
pub struct Pending<T>(oneshot::Receiver<Result<T, HashError>>);

impl<T> Pending<T> {
    /// Returns the result. `None`: the job failed or was never started.
    pub async fn result(self) -> Option<T> {
        self.0.await.ok()?.ok()
    }
}

/// Queue slot of a caller. Dropping it removes the job from the queue.
struct QueueSlot<'a, T, L: FnOnce(Pending<T>)> {
    shared: &'a HasherState,
    ticket: Ticket,
    /// `None` once the job is done.
    left: Option<(oneshot::Receiver<Result<T, HashError>>, L)>,
}

impl<T, L: FnOnce(Pending<T>)> Drop for QueueSlot<'_, T, L> {
    fn drop(&mut self) {
        let Some((answer, leave)) = self.left.take() else {
            return;
        };
        if self.shared.queue.remove(self.ticket).is_some() {
            Metrics::add(&self.shared.metrics.dropped);
        } else {
            leave(Pending(answer));
        }
    }
}

/// Guard that keeps the hashing threads from taking or starting jobs.
pub struct Held(Hasher, fn(&Queue<Arc<Task>>));

impl Drop for Held {
    fn drop(&mut self) {
        let Self(hasher, release) = self;
        release(&hasher.0.queue);
    }
}
