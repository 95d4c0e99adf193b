//! The login engine: Argon2id on threads of its own, so that neither the async workers wait for it nor more hashes run
//! at once than there are threads.
//!
//! The threads have the lowest priority, and each keeps its memory from one hash to the next. In front of them stands a
//! bounded fair queue (`queue`): full means [`Error::Overloaded`] at once, for the longest [`Flow`]. A job leaves the
//! queue when its caller goes, be it that the call was cancelled or that its deadline passed. One more thread, of
//! ordinary priority, takes what has waited for too long, so that a machine that is busy with other calls does not keep
//! people from signing in. While other processes starve the threads of the lowest priority, relief threads hash in
//! their place (`relief`).

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
#[cfg(test)]
mod tests;
mod worker;

use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use argon2::{KeyId, Params, ParamsBuilder};
use tokio::sync::oneshot;

use super::error::Error;
use crate::domain::password::Password;
use crate::domain::secret_keys::SecretKeys;
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
use worker::{Common, Duty, Job, Reply, Task, Worker, lower_priority};

/// The least time after which to try again when the queue was full.
const LEAST_RETRY_AFTER: Duration = Duration::from_secs(1);

/// A job has waited for too long when it has waited this many times what a full queue takes. As long as the threads of
/// the lowest priority get a quarter of the processor, this does not happen.
const TOO_LONG: u32 = 4;

/// But never sooner than this.
const LEAST_RESCUE_AFTER: Duration = Duration::from_millis(250);

/// How passwords are hashed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory size m in KiB.
    pub memory_kib: u32,
    /// Number of passes t.
    pub iterations: u32,
    /// Degree of parallelism p. The lanes are computed one after another, on one thread.
    pub parallelism: u32,
    /// How many hashes run at once, beside the one that has waited for too long.
    pub threads: usize,
    /// How many may wait. Without one, about a second of work, by how long it takes lately.
    pub queue: Option<usize>,
    /// After which wait a job is taken by the thread of ordinary priority. Without one, four times what a full queue
    /// takes, and 250 ms at least.
    pub rescue_after: Option<Duration>,
    /// How many cores' worth of processor time the process may use, where that is limited. Hashing leaves the rest of
    /// the process its part of it.
    pub quota: Option<f64>,
    /// What computes the hashes.
    pub engine: EngineChoice,
    /// The secrets that go into them, and are not in the database, so that who has only the database cannot try
    /// passwords.
    pub peppers: SecretKeys,
}

impl Options {
    fn params(&self) -> Result<Params, HashError> {
        let key_id = self
            .peppers
            .current()
            .map_or(Ok(KeyId::EMPTY), |id| KeyId::new(id.as_bytes()))?;
        Ok(ParamsBuilder::new()
            .m_cost(self.memory_kib)
            .t_cost(self.iterations)
            .p_cost(self.parallelism)
            .keyid(key_id)
            .output_len(Params::DEFAULT_OUTPUT_LEN)
            .build()?)
    }
}

/// What the start made of the options.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// What computes the hashes.
    pub engine: Engine,
    /// How many hashes run at once.
    pub threads: usize,
    /// How many may wait at the start.
    pub queue: usize,
    /// How long a hash took at the start.
    pub hash_time: Duration,
    /// After which wait a job is taken by the thread of ordinary priority.
    pub rescue_after: Duration,
    /// When to try again after the queue was full: what a full queue takes, and one second at least.
    pub retry_after: Duration,
}

impl Setup {
    fn new(options: &Options, engine: Engine, hash_time: Duration) -> Self {
        let threads = options.threads;
        let queue = options
            .queue
            .unwrap_or_else(|| QueueCapacity::new(threads, hash_time).jobs());
        // What a full queue takes, with all threads at work.
        let full = u32::try_from(queue.div_ceil(threads.max(1))).unwrap_or(u32::MAX);
        let full = hash_time.saturating_mul(full);
        let rescue_after = full.saturating_mul(TOO_LONG).max(LEAST_RESCUE_AFTER);
        Self {
            engine,
            threads,
            queue,
            hash_time,
            rescue_after: options.rescue_after.unwrap_or(rescue_after),
            retry_after: full.max(LEAST_RETRY_AFTER),
        }
    }
}

/// What checking a password found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is another password, or there is none.
    Wrong,
    /// It is the password.
    Right,
    /// It is the password, and this is a new hash of it: the stored one is weaker than today's parameters, or has
    /// another pepper.
    RightButWeak {
        /// The stronger hash, a PHC string.
        stronger: String,
    },
}

/// A handle to the hashing threads. They end when the last handle is dropped. Cheap to clone.
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
    /// Tests the engines, makes the dummy hash against which the passwords of unknown numbers are checked, and starts
    /// the threads.
    ///
    /// # Errors
    /// When the parameters are not those of Argon2id, no engine computes it, or the machine has no thread, memory or
    /// random bytes to give.
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
        // Made first, so that the threads end if one of them cannot be started.
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
            bound: options
                .queue
                .is_none()
                .then(|| QueueCapacity::new(setup.threads, setup.hash_time)),
            pacer: options.quota.map(CpuQuota::new),
            together: ReplyBatch::default(),
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

    /// Hashes a password with today's parameters. The answer is a PHC string. If the caller goes while the password is
    /// hashed, `leave` gets what it leaves behind.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the queue is full.
    pub async fn hash(
        &self,
        flow: Flow,
        password: NewPassword,
        leave: impl FnOnce(Pending<String>),
    ) -> Result<String, Error> {
        self.run(flow, |reply| Job::Hash { password, reply }, leave).await
    }

    /// Checks a password against a stored hash, or against the dummy where there is none, which takes as long.
    /// `upgrade` asks for a new hash of a right password whose stored one is weak. If the caller goes while the
    /// password is hashed, `leave` gets what it leaves behind.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the queue is full; [`Error::Internal`] when the stored hash cannot be read, or its
    /// pepper is not known.
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

    /// Whether the queue would accept a password of this flow now: a look before work that would be for nothing
    /// otherwise.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the queue is full and no other flow is longer.
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

    /// How many passwords were hashed or checked since the start. Those whose caller had gone do not count.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.snapshot().completed
    }

    /// The state of the queue and of all counters.
    #[must_use]
    pub fn snapshot(&self) -> HasherSnapshot {
        let queue = &self.0.queue;
        let state = QueueState {
            depth: queue.depth(),
            limit: queue.bound(),
            flows: queue.flows(),
            running: queue.running(),
        };
        self.0.metrics.snapshot(state)
    }

    /// What the start made of the options.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.0.setup
    }

    /// Keeps all threads from taking another job, until what this returns is dropped: for tests, in which nothing else
    /// makes sure that a job waits.
    #[must_use]
    pub fn hold(&self) -> Held {
        self.0.queue.hold();
        Held(self.clone(), Queue::release)
    }

    /// Keeps all threads from working on the jobs that they take, until what this returns is dropped: for tests, in
    /// which nothing else makes sure that a caller goes while its job is worked on.
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

/// A password that is being hashed, whose caller has gone.
pub struct Pending<T>(oneshot::Receiver<Result<T, HashError>>);

impl<T> Pending<T> {
    /// The result. `None`: there is none, since the job failed or was never begun.
    pub async fn result(self) -> Option<T> {
        self.0.await.ok()?.ok()
    }
}

/// A caller's slot in the queue, which is given up when the caller goes.
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

/// While it lives, no hashing thread takes a job, or works on one.
pub struct Held(Hasher, fn(&Queue<Arc<Task>>));

impl Drop for Held {
    fn drop(&mut self) {
        let Self(hasher, release) = self;
        release(&hasher.0.queue);
    }
}
