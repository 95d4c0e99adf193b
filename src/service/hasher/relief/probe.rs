//! Synchronisation of the monitor and the threads: the probe of the idle class, the pause of the relief threads, and
//! the wake-up of the monitor.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::ClockId;

use super::{STARVED, cpu_time};

/// Processor time that the probe uses.
pub(super) const PROBE_WORK: Duration = Duration::from_millis(1);

/// Uses a little processor time on a thread of the idle class, and reports whether the thread got it soon.
#[derive(Default)]
pub(in crate::service::hasher) struct Probe {
    state: Mutex<ProbeState>,
    changed: Condvar,
}

#[derive(Default)]
struct ProbeState {
    is_wanted: bool,
    is_closed: bool,
    result: Option<bool>,
}

impl Probe {
    pub(in crate::service::hasher) fn start(&self) {
        let mut state = self.lock();
        state.is_wanted = true;
        state.result = None;
        drop(state);
        self.changed.notify_all();
    }

    pub(in crate::service::hasher) fn result(&self) -> Option<bool> {
        self.lock().result
    }

    /// Ends [`Self::run`].
    pub(in crate::service::hasher) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Runs a probe for each request until the probe is closed. A thread of the idle class calls it.
    pub(in crate::service::hasher) fn run(&self) {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return;
            }
            if !state.is_wanted {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.is_wanted = false;
            drop(state);
            let (begun, cpu) = (Instant::now(), cpu_time(ClockId::ThreadCPUTime));
            while cpu_time(ClockId::ThreadCPUTime).saturating_sub(cpu) < PROBE_WORK {
                std::hint::spin_loop();
            }
            let took = begun.elapsed().as_secs_f64();
            state = self.lock();
            // If another probe was requested in the meantime, this result is too late.
            if !state.is_wanted {
                state.result = Some(PROBE_WORK.as_secs_f64() >= STARVED * took);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ProbeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pauses the relief threads.
pub(in crate::service::hasher) struct Pause {
    begin: Instant,
    /// In nanoseconds after `begin`.
    until: AtomicU64,
}

impl Pause {
    pub(in crate::service::hasher) fn new() -> Self {
        Self {
            begin: Instant::now(),
            until: AtomicU64::new(0),
        }
    }

    /// Starts a pause of this duration now.
    pub(in crate::service::hasher) fn start(&self, time: Duration) {
        let until = (self.begin.elapsed() + time).as_nanos();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Relaxed);
    }

    /// Waits until the pause is over.
    #[expect(clippy::disallowed_methods, reason = "not a worker of the runtime")]
    pub(in crate::service::hasher) fn wait(&self) {
        let until = Duration::from_nanos(self.until.load(Ordering::Relaxed));
        let left = until.saturating_sub(self.begin.elapsed());
        if !left.is_zero() {
            thread::sleep(left);
        }
    }
}

/// Whether the monitor has a next look. Otherwise the first job after an idle period wakes it.
#[derive(Default)]
pub(in crate::service::hasher) struct Ticking(AtomicBool);

impl Ticking {
    /// Records the start of a job. Returns whether the monitor has to be woken.
    pub(in crate::service::hasher) fn begin(&self) -> bool {
        !self.0.load(Ordering::Relaxed) && !self.0.swap(true, Ordering::SeqCst)
    }

    /// Records that the monitor has no next look. Call it before a look, which may schedule the next one.
    pub(in crate::service::hasher) fn end(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
