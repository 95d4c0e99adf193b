//! The machine: its cores, its clocks of processor time, its memory, and what it is.

use std::fs;
use std::num::NonZeroU64;
use std::process::Command;
use std::time::Duration;

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_current_timer_slack};
use rustix::time::{ClockId, clock_gettime};

/// The kernel counts processor time in such ticks (`USER_HZ`, which is 100 wherever Linux runs).
const TICK: Duration = Duration::from_millis(10);

/// The two cores of a measurement: one for the server, one for the callers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) driver: usize,
}

impl Cores {
    /// The first two that this process may use.
    pub(crate) fn choose() -> Self {
        let allowed = sched_getaffinity(None).unwrap();
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let (Some(server), Some(driver)) = (cores.next(), cores.next()) else {
            panic!("this needs two cores: one for the server and one for the callers");
        };
        Self { server, driver }
    }

    pub(crate) fn both(&self) -> [usize; 2] {
        [self.server, self.driver]
    }
}

/// Lets the calling thread, and what it starts from now on, run on these cores only.
pub(crate) fn pin(cores: &[usize]) {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None, &set).unwrap();
}

/// Does something on these cores: a process that is started in there stays on them.
pub(crate) fn on<T>(cores: &[usize], work: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(None).unwrap();
    pin(cores);
    let done = work();
    sched_setaffinity(None, &before).unwrap();
    done
}

/// Schedules the calling thread before all others of its core, with exact timers. It simulates callers on other
/// machines, which do not wait for the threads of this one. Needs root; otherwise the thread is unchanged.
pub(crate) fn go_first() {
    let _ = setpriority_process(None, -20);
    let _ = set_current_timer_slack(NonZeroU64::new(1));
}

/// Returns whether [`go_first`] has an effect here.
fn can_go_first() -> bool {
    std::thread::spawn(|| setpriority_process(None, -20).is_ok())
        .join()
        .unwrap()
}

/// The processor time that the calling thread has used.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// The processor time that a process has used.
pub(crate) fn process_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name of the program, which may have spaces in it, ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: u32 = [fields[11], fields[12]]
        .iter()
        .map(|field| field.parse::<u32>().unwrap())
        .sum();
    TICK * ticks
}

/// Returns the resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// All of it: `VmRSS`.
    pub(crate) resident: u64,
    /// Returns anonymous memory: `RssAnon`.
    pub(crate) anonymous: u64,
}

pub(crate) fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let kib = line.split_whitespace().next().unwrap();
        kib.parse::<u64>().unwrap() * 1024
    };
    Memory {
        resident: field("VmRSS:"),
        anonymous: field("RssAnon:"),
    }
}

/// Returns the description of the machine for the report.
pub(crate) fn facts(cores: &Cores) -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, model)| model);
    let simd = ["avx512f", "avx2", "sse2"]
        .into_iter()
        .find(|flag| cpuinfo.split_whitespace().any(|word| word == *flag))
        .unwrap_or("no known SIMD");
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    let priority = if can_go_first() {
        "before all others of its core"
    } else {
        "as others of its core (not root)"
    };
    let date = output("date", &["-u", "+%F %R UTC"]);
    let commit = output("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
    format!(
        "- Machine: {model} ({simd}), {count} cores; server on core {}, driver on core {}, {priority}\n\
         - Kernel: {}; load average at the end: {}\n\
         - Commit: {commit}; date: {date}",
        cores.server,
        cores.driver,
        kernel.trim(),
        load.join(" "),
    )
}

fn output(command: &str, arguments: &[&str]) -> String {
    match Command::new(command).args(arguments).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}
