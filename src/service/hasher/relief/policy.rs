//! Relief policy: decides when relief begins and ends, without a clock and without threads.

use std::time::Duration;

/// Minimum time between two probes, and between two looks while there is no work.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Minimum work time of the relief threads between two pauses, in pauses.
const PAUSES: u32 = 20;

/// Part of all cores above which the rest of the process counts as busy.
const BUSY: f64 = 0.25;

/// Minimum time over which the use of the rest of the process is measured.
const WINDOW: Duration = Duration::from_millis(50);

/// One observation of the monitor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    /// Time since the creation of the monitor.
    pub(super) at: Duration,
    /// Processor time that the process has used.
    pub(super) process: Duration,
    /// Processor time that the hashing threads have used. `None`: the system does not provide it.
    pub(super) hashing: Option<Duration>,
    /// Whether a thread of the idle class gets too little processor time.
    pub(super) is_starved: bool,
    /// Whether jobs wait or run.
    pub(super) has_work: bool,
    /// Whether the probe got the processor time that it wanted. `None`: no probe has ended.
    pub(super) probed: Option<bool>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Decision {
    pub(super) is_relieved: bool,
    pub(super) starts_probe: bool,
}

/// Decides whether the relief threads work.
#[derive(Debug)]
pub(super) struct ReliefPolicy {
    /// Processor time per second above which the rest of the process counts as busy, in seconds.
    busy: f64,
    is_relieved: bool,
    /// Start of the current measurement: its time, the processor time of the process, and that of the hashing threads.
    window: Option<(Duration, Duration, Duration)>,
    /// Whether the rest of the process was busy in the last window. `None`: unknown.
    is_busy: Option<bool>,
    probe_interval: Duration,
    probed_at: Duration,
    is_probing: bool,
}

impl ReliefPolicy {
    /// `cores`: number of cores that this process may use. `pause`: pause of the relief threads for a probe.
    pub(super) fn new(cores: usize, pause: Duration) -> Self {
        Self {
            probe_interval: PROBE_INTERVAL.max(pause.saturating_mul(PAUSES)),
            busy: u32::try_from(cores).map_or(f64::MAX, f64::from) * BUSY,
            is_relieved: false,
            window: None,
            is_busy: None,
            probed_at: Duration::ZERO,
            is_probing: false,
        }
    }

    pub(super) fn decide(&mut self, observation: &Observation) -> Decision {
        self.measure(observation);
        let is_rest_quiet = self.is_busy == Some(false);
        let mut starts_probe = false;
        if !self.is_relieved {
            if observation.is_starved && is_rest_quiet {
                self.is_relieved = true;
                self.probed_at = observation.at;
            }
        } else if self.is_busy == Some(true) {
            // The service's own checks come first. The rescue thread takes the jobs that wait too long, one by one.
            self.end();
        } else if self.is_probing {
            self.is_probing = false;
            self.probed_at = observation.at;
            if observation.probed == Some(true) {
                self.end();
            }
        } else if observation.at.saturating_sub(self.probed_at) >= self.probe_interval {
            self.is_probing = true;
            starts_probe = true;
        }
        if !self.is_relieved && !observation.has_work {
            // The time of the next look is unknown, so its measurement starts anew.
            self.window = None;
            self.is_busy = None;
        }
        Decision {
            is_relieved: self.is_relieved,
            starts_probe,
        }
    }

    fn end(&mut self) {
        self.is_relieved = false;
        self.is_probing = false;
    }

    /// Measures how much processor time the rest of the process uses.
    fn measure(&mut self, observation: &Observation) {
        let Some(hashing) = observation.hashing else {
            self.is_busy = None;
            return;
        };
        let Some((at, process_before, hashing_before)) = self.window else {
            self.window = Some((observation.at, observation.process, hashing));
            return;
        };
        let passed = observation.at.saturating_sub(at);
        if passed < WINDOW {
            return;
        }
        let hashed = hashing.saturating_sub(hashing_before);
        let rest = observation
            .process
            .saturating_sub(process_before)
            .saturating_sub(hashed);
        self.is_busy = Some(rest.as_secs_f64() > self.busy * passed.as_secs_f64());
        self.window = Some((observation.at, observation.process, hashing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(20);

    /// Two cores, observed every 20 ms. Rates are in seconds of processor time per second.
    struct Machine {
        policy: ReliefPolicy,
        at: Duration,
        process: Duration,
        hashing: Duration,
        /// Rate of hashing.
        hashes: f64,
        /// Rate of the rest of the process.
        rest: f64,
        is_starved: bool,
        probed: Option<bool>,
    }

    impl Machine {
        fn new() -> Self {
            Self {
                policy: ReliefPolicy::new(2, Duration::from_millis(30)),
                at: Duration::ZERO,
                process: Duration::ZERO,
                hashing: Duration::ZERO,
                hashes: 0.0,
                rest: 0.1,
                is_starved: true,
                probed: None,
            }
        }

        fn look(&mut self, has_work: bool, hashing: impl Fn(Duration) -> Option<Duration>) -> Decision {
            self.at += TICK;
            self.hashing += TICK.mul_f64(self.hashes);
            self.process += TICK.mul_f64(self.hashes + self.rest);
            self.policy.decide(&Observation {
                at: self.at,
                process: self.process,
                hashing: hashing(self.hashing),
                is_starved: self.is_starved,
                has_work,
                probed: self.probed,
            })
        }

        /// Returns the time in milliseconds until a decision meets the condition.
        fn until(&mut self, condition: impl Fn(Decision) -> bool) -> u128 {
            let begin = self.at;
            for _ in 0..200 {
                if condition(self.look(true, Some)) {
                    return (self.at - begin).as_millis();
                }
            }
            panic!("not within four seconds")
        }
    }

    #[test]
    fn relief_begins_once_the_rest_of_the_process_is_known_to_be_idle() {
        let mut machine = Machine::new();
        // The first look, and the next one at least 50 ms later.
        assert_eq!(machine.until(|decision| decision.is_relieved), 80);
    }

    #[test]
    fn busy_session_checks_take_precedence_over_relief() {
        let mut machine = Machine::new();
        // The limit is a quarter of two cores, which is half a core.
        machine.rest = 0.51;
        for _ in 0..200 {
            assert!(!machine.look(true, Some).is_relieved);
        }
        machine.rest = 0.49;
        machine.until(|decision| decision.is_relieved);
        machine.rest = 0.51;
        machine.until(|decision| !decision.is_relieved);
    }

    /// The use of the relief threads does not count as use of the rest of the process.
    #[test]
    fn relief_goes_on_while_hashing_uses_all_cores() {
        let mut machine = Machine::new();
        machine.until(|decision| decision.is_relieved);
        (machine.hashes, machine.probed) = (1.9, Some(false));
        for _ in 0..200 {
            assert!(machine.look(true, Some).is_relieved);
        }
    }

    #[test]
    fn one_probe_a_second_detects_that_other_processes_are_gone() {
        let mut machine = Machine::new();
        machine.until(|decision| decision.is_relieved);
        machine.is_starved = false;
        assert_eq!(machine.until(|decision| decision.starts_probe), 1000);
        // The probe did not end in time, or was starved.
        for probed in [None, Some(false)] {
            machine.probed = probed;
            let decision = machine.look(true, Some);
            assert_eq!((decision.is_relieved, decision.starts_probe), (true, false));
            assert_eq!(machine.until(|decision| decision.starts_probe), 1000);
        }
        machine.probed = Some(true);
        assert!(!machine.look(true, Some).is_relieved);
    }

    /// Hashes of half a second have pauses of one second.
    #[test]
    fn long_pauses_are_rare() {
        let mut policy = ReliefPolicy::new(2, Duration::from_secs(1));
        policy.is_relieved = true;
        let mut pauses = 0;
        for second in 0..60 {
            let decision = policy.decide(&Observation {
                at: Duration::from_secs(second),
                process: Duration::ZERO,
                hashing: Some(Duration::ZERO),
                is_starved: true,
                has_work: true,
                probed: Some(false),
            });
            pauses += u32::from(decision.starts_probe);
        }
        assert_eq!(pauses, 2, "after 20 and after 41 seconds");
    }

    #[test]
    fn without_thread_times_there_is_no_relief() {
        let mut machine = Machine::new();
        for _ in 0..200 {
            assert!(!machine.look(true, |_| None).is_relieved);
        }
    }

    /// The use of an idle period says nothing about the present.
    #[test]
    fn an_idle_period_is_not_measured() {
        let mut machine = Machine::new();
        machine.look(true, Some);
        machine.look(false, Some);
        machine.at += Duration::from_secs(3600);
        machine.rest = 2.0;
        for _ in 0..10 {
            assert!(!machine.look(true, Some).is_relieved);
        }
    }
}
