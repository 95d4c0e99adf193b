//! Relief: threads of ordinary priority that hash while other processes starve the hashing threads.
//!
//! The hashing threads are in the idle scheduling class, so that session checks come first. A busy process of ordinary
//! priority, beside this one, takes nearly all processor time from that class: two of them on two cores left 1.5
//! sign-ins a second of 74. A fixed priority cannot both yield to the service's own checks and compete with its
//! neighbours. So a monitor looks at running jobs, and while a hashing thread gets less than half of the time that it
//! wants *and* the other threads of this process use little, the relief threads take the work, as many as there are
//! hashing threads. The scheduler then gives them their fair share. What the starved threads had begun is computed once
//! more, and the first result counts.
//!
//! While they work, their own load hides whether the neighbours have gone. So once a second the relief threads pause
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

/// A thread is starved if it gets less than this part of the time that it wants.
const STARVED: f64 = 0.5;

/// Time between two looks while there is work.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// A running job is looked at when it takes this many times what a hash takes, and [`MIN_SLOW_TIME`] at least.
const SLOW: u32 = 4;

/// See [`SLOW`].
const MIN_SLOW_TIME: Duration = Duration::from_millis(50);

/// What each hashing thread works on.
pub(super) struct Slots<T>(Vec<Slot<T>>);

struct Slot<T> {
    is_relief: bool,
    thread: OnceLock<Pid>,
    running: Mutex<Option<Running<T>>>,
}

struct Running<T> {
    job: T,
    begun: Instant,
    /// Processor time of the thread when the job began.
    cpu: Duration,
    /// Whether a relief thread was asked to compute it, too.
    is_shared: bool,
}

impl<T: Clone> Slots<T> {
    /// Slots of so many threads of the idle class, and of those of ordinary priority, whose processor time is one of
    /// hashing, too.
    pub(super) fn new(idle: usize, relief: usize) -> Self {
        let slot = |is_relief| Slot {
            is_relief,
            thread: OnceLock::new(),
            running: Mutex::new(None),
        };
        let relief = (0..relief).map(|_| slot(true));
        Self((0..idle).map(|_| slot(false)).chain(relief).collect())
    }

    /// The thread that calls this owns the slot with this number.
    pub(super) fn enter(&self, number: usize) {
        if let Some(slot) = self.0.get(number) {
            // It is called once for each slot.
            let _ = slot.thread.set(rustix::thread::gettid());
        }
    }

    /// The owner of a slot begins a job.
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

    /// The owner of a slot has ended its job.
    pub(super) fn end(&self, number: usize) {
        self.set(number, None);
    }

    fn set(&self, number: usize, running: Option<Running<T>>) {
        if let Some(slot) = self.0.get(number) {
            *slot.running() = running;
        }
    }

    /// Whether any thread works.
    fn is_working(&self) -> bool {
        self.0.iter().any(|slot| slot.running().is_some())
    }

    /// Whether a thread of the idle class gets too little processor time for its job.
    fn is_starved(&self, slow: Duration, now: Instant) -> bool {
        self.0.iter().filter(|slot| !slot.is_relief).any(|slot| {
            let began = slot
                .running()
                .as_ref()
                .map(|running| (running.begun, running.cpu));
            let Some((begun, cpu)) = began else { return false };
            let took = now.saturating_duration_since(begun);
            // Only now: reading the file costs some microseconds.
            took >= slow
                && slot
                    .cpu_time()
                    .is_some_and(|now| now.saturating_sub(cpu).as_secs_f64() < STARVED * took.as_secs_f64())
        })
    }

    /// The jobs of the idle class that no relief thread was asked to compute yet. From now on they are shared.
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

    /// Processor time that all hashing threads have used. `None`: the system does not tell.
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

    /// Nothing that can panic runs under the lock.
    fn running(&self) -> MutexGuard<'_, Option<Running<T>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the monitor has to do after a look.
#[derive(Debug)]
pub(super) struct Look<T> {
    /// Whether the relief threads take the work.
    pub(super) is_relieved: bool,
    /// Jobs that they compute once more.
    pub(super) again: Vec<T>,
    /// Until when they pause. `None`: they do not.
    pub(super) pause: Option<Duration>,
    /// In what time to look again. `None`: when a job begins.
    pub(super) next: Option<Duration>,
}

/// Decides when the relief threads work. One thread owns it.
pub(super) struct Monitor {
    policy: ReliefPolicy,
    /// A job is slow after this time.
    slow: Duration,
    /// How long the relief threads pause for a probe: until their jobs have ended, and a moment more.
    pause: Duration,
    begin: Instant,
}

impl Monitor {
    /// `hash_time`: how long a hash takes where nothing else runs. `cores`: how many this process may use.
    pub(super) fn new(hash_time: Duration, cores: usize) -> Self {
        let pause = hash_time.saturating_mul(2) + PROBE_WORK.saturating_mul(10);
        Self {
            policy: ReliefPolicy::new(cores, pause),
            slow: hash_time.saturating_mul(SLOW).max(MIN_SLOW_TIME),
            pause,
            begin: Instant::now(),
        }
    }

    /// Looks at what the threads do. `is_waiting`: whether jobs wait.
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
