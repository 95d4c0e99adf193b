//! Relief threads: threads of ordinary priority that hash while other processes starve the hashing threads.
//!
//! The hashing threads are in the idle scheduling class, so that session checks come first. A busy process of ordinary
//! priority beside this one takes nearly all processor time from that class: two such processes on two cores left 1.5
//! sign-ins a second of 74. A fixed priority cannot both yield to the service's own checks and compete with other
//! processes. A monitor therefore observes the running jobs. While a hashing thread gets less than half of the time
//! that it wants *and* the other threads of this process use little, the relief threads take the work. There are as
//! many relief threads as hashing threads, and the scheduler gives them their fair share. They also compute the jobs
//! that the starved threads had started, and the first result counts.
//!
//! While the relief threads work, their own load hides whether the other processes are gone. Once a second they pause
//! for a moment, in which a probe of the idle class uses a millisecond of processor time.

mod policy;
mod probe;

use std::fs;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::time::ClockId;

use super::cpu_quota::cpu_time;
use policy::{Observation, PROBE_INTERVAL, ReliefPolicy};
use probe::PROBE_WORK;
pub(super) use probe::{Pause, Probe, Ticking};

/// Part of the wanted processor time below which a thread counts as starved.
const STARVED: f64 = 0.5;

/// Time between two looks of the monitor while there is work.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// Multiple of the duration of a hash after which the monitor checks a running job. At least [`MIN_SLOW_TIME`].
const SLOW: u32 = 4;

/// Minimum time after which the monitor checks a running job.
const MIN_SLOW_TIME: Duration = Duration::from_millis(50);

/// The running job of each hashing thread.
pub(super) struct Slots<T>(Vec<Slot<T>>);

struct Slot<T> {
    is_relief: bool,
    thread: OnceLock<Pid>,
    running: Mutex<Option<Running<T>>>,
}

struct Running<T> {
    job: T,
    begun: Instant,
    /// Processor time of the thread when the job started.
    cpu: Duration,
    /// Whether a relief thread computes the job too.
    is_shared: bool,
}

impl<T: Clone> Slots<T> {
    /// Creates the slots of `idle` threads of the idle class and of `relief` threads of ordinary priority. The
    /// processor time of both kinds counts as hashing.
    pub(super) fn new(idle: usize, relief: usize) -> Self {
        let slot = |is_relief| Slot {
            is_relief,
            thread: OnceLock::new(),
            running: Mutex::new(None),
        };
        let relief = (0..relief).map(|_| slot(true));
        Self((0..idle).map(|_| slot(false)).chain(relief).collect())
    }

    /// Assigns the slot with this number to the calling thread.
    pub(super) fn enter(&self, number: usize) {
        if let Some(slot) = self.0.get(number) {
            // Each slot is assigned once.
            let _ = slot.thread.set(rustix::thread::gettid());
        }
    }

    /// Records the start of a job by the owner of a slot.
    pub(super) fn begin(&self, number: usize, job: T) {
        self.set(
            number,
            Some(Running {
                job,
                begun: Instant::now(),
                cpu: cpu_time(ClockId::ThreadCPUTime),
                is_shared: false,
            }),
        );
    }

    /// Records the end of a job by the owner of a slot.
    pub(super) fn end(&self, number: usize) {
        self.set(number, None);
    }

    fn set(&self, number: usize, running: Option<Running<T>>) {
        if let Some(slot) = self.0.get(number) {
            *slot.running() = running;
        }
    }

    /// Returns whether any thread works.
    fn is_working(&self) -> bool {
        self.0.iter().any(|slot| slot.running().is_some())
    }

    /// Returns whether a thread of the idle class gets too little processor time for its job.
    fn is_starved(&self, slow: Duration, now: Instant) -> bool {
        self.0.iter().filter(|slot| !slot.is_relief).any(|slot| {
            let began = slot
                .running()
                .as_ref()
                .map(|running| (running.begun, running.cpu));
            let Some((begun, cpu)) = began else { return false };
            let took = now.saturating_duration_since(begun);
            // Evaluated last, since reading the file costs some microseconds.
            took >= slow
                && slot
                    .cpu_time()
                    .is_some_and(|now| now.saturating_sub(cpu).as_secs_f64() < STARVED * took.as_secs_f64())
        })
    }

    /// Returns the jobs of the idle class that no relief thread computes yet, and marks them as shared.
    fn share(&self) -> Vec<T> {
        let idle = self.0.iter().filter(|slot| !slot.is_relief);
        idle.filter_map(|slot| {
            let mut running = slot.running();
            let running = running.as_mut().filter(|running| !running.is_shared)?;
            running.is_shared = true;
            Some(running.job.clone())
        })
        .collect()
    }

    /// Processor time that all hashing threads have used. `None`: the system does not provide it.
    fn cpu_time(&self) -> Option<Duration> {
        let started = self.0.iter().filter(|slot| slot.thread.get().is_some());
        started.map(Slot::cpu_time).sum()
    }
}

impl<T> Slot<T> {
    /// Processor time that the thread has used. The first number of the file is in nanoseconds.
    fn cpu_time(&self) -> Option<Duration> {
        let thread = self.thread.get()?.as_raw_nonzero();
        let stat = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
        let used = stat.split_ascii_whitespace().next()?.parse().ok()?;
        Some(Duration::from_nanos(used))
    }

    /// No code that can panic runs under the lock.
    fn running(&self) -> MutexGuard<'_, Option<Running<T>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Actions of the monitor after a look.
#[derive(Debug)]
pub(super) struct Look<T> {
    /// Whether the relief threads take the jobs.
    pub(super) is_relieved: bool,
    /// Jobs that the relief threads compute again.
    pub(super) again: Vec<T>,
    /// Duration of their pause. `None`: they do not pause.
    pub(super) pause: Option<Duration>,
    /// Time until the next look. `None`: when a job starts.
    pub(super) next: Option<Duration>,
}

/// Decides when the relief threads work. One thread owns it.
pub(super) struct Monitor {
    policy: ReliefPolicy,
    /// Duration after which a job counts as slow.
    slow: Duration,
    /// Pause of the relief threads for a probe: until their jobs have ended, and a moment more.
    pause: Duration,
    begin: Instant,
}

impl Monitor {
    /// `hash_time`: duration of a hash when nothing else runs. `cores`: number of cores that this process may use.
    pub(super) fn new(hash_time: Duration, cores: usize) -> Self {
        let pause = hash_time.saturating_mul(2) + PROBE_WORK.saturating_mul(10);
        Self {
            policy: ReliefPolicy::new(cores, pause),
            slow: hash_time.saturating_mul(SLOW).max(MIN_SLOW_TIME),
            pause,
            begin: Instant::now(),
        }
    }

    /// Observes the threads. `is_waiting`: whether jobs wait.
    pub(super) fn look<T: Clone>(&mut self, slots: &Slots<T>, probe: &Probe, is_waiting: bool) -> Look<T> {
        let now = Instant::now();
        let has_work = is_waiting || slots.is_working();
        let decision = self.policy.decide(&Observation {
            at: now.saturating_duration_since(self.begin),
            process: cpu_time(ClockId::ProcessCPUTime),
            hashing: slots.cpu_time(),
            is_starved: slots.is_starved(self.slow, now),
            has_work,
            probed: probe.result(),
        });
        if decision.starts_probe {
            probe.start();
        }
        Look {
            is_relieved: decision.is_relieved,
            again: if decision.is_relieved {
                slots.share()
            } else {
                Vec::new()
            },
            pause: decision.starts_probe.then_some(self.pause),
            next: match (has_work, decision.is_relieved) {
                _ if decision.starts_probe => Some(self.pause),
                (true, _) => Some(TICK),
                (false, true) => Some(PROBE_INTERVAL),
                (false, false) => None,
            },
        }
    }
}
