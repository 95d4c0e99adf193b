//! Process metrics, from `/proc`. Only Linux has these files; on other systems the values are unknown.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Unit of times in `/proc`, `USER_HZ`. It does not depend on the timer frequency of the kernel.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resources of this process; see proc(5).
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) cpu: Duration,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_fds: Option<usize>,
    pub(super) max_fds: Option<u64>,
    /// Start time, in seconds since 1970.
    pub(super) started: Option<f64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            cpu: Duration::new(
                u64::try_from(cpu.tv_sec).unwrap_or_default(),
                u32::try_from(cpu.tv_nsec).unwrap_or_default(),
            ),
            resident_bytes: bytes_of(&status, "VmRSS:"),
            virtual_bytes: bytes_of(&status, "VmSize:"),
            // One descriptor belongs to the open folder itself.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| files.count().saturating_sub(1)),
            max_fds: getrlimit(Resource::Nofile).current,
            started: started(),
        }
    }
}

/// Parses a line such as `VmRSS:   123 kB`.
fn bytes_of(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

fn started() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .parse()
        .ok()?;
    Some(boot + start_ticks(&stat)? / TICKS_PER_SECOND)
}

/// Returns the time from boot to the start: field 22. The name of the program, field 2, is in parentheses and may
/// contain any character.
fn start_ticks(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        assert_eq!(
            bytes_of("VmSize:\t  20 kB\nVmRSS:\t 3 kB\n", "VmRSS:"),
            Some(3072)
        );
        assert_eq!(bytes_of("VmSize:\t  20 kB\n", "VmRSS:"), None);
        let stat = "7 (a ) 1 b) S 1 7 7 0 -1 4194560 1 0 0 0 4 5 0 0 20 0 1 0 4711 9 2 18446744073709551615";
        assert_eq!(start_ticks(stat), Some(4711.0));
    }
}
