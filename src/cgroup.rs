//! Resource limits of this process: CPU quota and memory limit of its control groups (cgroups), and open files.
//!
//! The standard library reads the CPU quota, too, but rounds it down to whole cores. Only Linux has these files; on
//! other systems there is no limit. A file that is missing or malformed sets no limit.

use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Mount point of control groups.
const MOUNT: &str = "/sys/fs/cgroup";

/// Smallest value that means no limit: cgroup v1 reports a number close to 2^63, rounded down to a page.
const NO_MEMORY_LIMIT: u64 = 1 << 62;

/// Raises the soft limit of open files to the hard limit, and returns the limit. `None`: no limit.
///
/// The initial soft limit is low for programs that use `select`.
#[must_use]
pub fn raise_descriptors() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// The CPU quota of this process in cores: above 0, possibly a fraction. `None`: no quota.
#[must_use]
pub fn cpu_quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    cpu_quota_in(Path::new(MOUNT), &groups)
}

/// The memory available to this process in bytes: the memory of the machine, or the lower limit of its control groups.
#[must_use]
pub fn memory() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = memory_limit_in(Path::new(MOUNT), &groups);
    let total = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| memory_total(&text));
    limit.into_iter().chain(total).min()
}

/// The lowest quota of a group and its ancestors. `groups` is the content of `/proc/self/cgroup`.
fn cpu_quota_in(mount: &Path, groups: &str) -> Option<f64> {
    let folders = folders_of(mount, groups, "cpu");
    let quotas = folders.iter().filter_map(|folder| {
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let unified = || quota_of_max(&read("cpu.max")?);
        let old = || quota_of_cfs(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?);
        unified().or_else(old)
    });
    quotas.min_by(f64::total_cmp)
}

fn memory_limit_in(mount: &Path, groups: &str) -> Option<u64> {
    let folders = folders_of(mount, groups, "memory");
    let limits = folders.iter().flat_map(|folder| {
        ["memory.max", "memory.limit_in_bytes"]
            .into_iter()
            .filter_map(|name| fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok())
    });
    limits.filter(|limit| *limit < NO_MEMORY_LIMIT).min()
}

/// The folders of the groups of a controller, each with its ancestors up to the mount point. In a container the path
/// may be that of the host, so that only the mount point exists.
fn folders_of(mount: &Path, groups: &str, controller: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let roots = if controllers.is_empty() {
            // cgroup v2, alone or beside v1.
            vec![mount.to_owned(), mount.join("unified")]
        } else if controllers.split(',').any(|name| name == controller) {
            vec![mount.join(controllers), mount.join(controller)]
        } else {
            continue;
        };
        // A path outside of the namespace contains `..`.
        let names = Path::new(path)
            .components()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name),
                _ => None,
            });
        for root in roots {
            folders.push(root.clone());
            folders.extend(names.clone().scan(root, |folder, name| {
                folder.push(name);
                Some(folder.clone())
            }));
        }
    }
    folders
}

/// Parses `cpu.max`: quota and period in microseconds, or `max` for no quota.
fn quota_of_max(text: &str) -> Option<f64> {
    let mut fields = text.split_whitespace();
    let (quota, period) = (fields.next()?, fields.next()?);
    quota_of_cfs(quota, period)
}

/// Parses quota and period in microseconds; -1 means no quota.
fn quota_of_cfs(quota: &str, period: &str) -> Option<f64> {
    let quota: u32 = quota.trim().parse().ok()?;
    let period: u32 = period.trim().parse().ok()?;
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}

/// Parses the total memory in bytes from `/proc/meminfo`.
fn memory_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a folder with these files.
    fn mount(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn cpu_quotas_are_parsed() {
        for (text, quota) in [
            ("max 100000\n", None),
            ("50000 100000\n", Some(0.5)),
            ("250000 100000", Some(2.5)),
            ("0 100000", None),
            ("1000 0", None),
            ("1000", None),
            ("", None),
            ("much 100000", None),
        ] {
            assert_eq!(quota_of_max(text), quota, "{text:?}");
        }
        assert_eq!(quota_of_cfs("-1\n", "100000\n"), None);
        assert_eq!(quota_of_cfs("150000\n", "100000\n"), Some(1.5));
    }

    #[test]
    fn the_lowest_limit_of_a_cgroup_v2_hierarchy_applies() {
        let mount = mount(&[
            ("cpu.max", "max 100000"),
            ("pods/cpu.max", "150000 100000"),
            ("pods/one/cpu.max", "400000 100000"),
            ("pods/one/memory.max", "max"),
            ("pods/memory.max", "536870912\n"),
        ]);
        assert_eq!(cpu_quota_in(mount.path(), "0::/pods/one\n"), Some(1.5));
        assert_eq!(cpu_quota_in(mount.path(), "0::/\n"), None);
        assert_eq!(memory_limit_in(mount.path(), "0::/pods/one\n"), Some(536_870_912));
        assert_eq!(memory_limit_in(mount.path(), "0::/\n"), None);
    }

    #[test]
    fn each_cgroup_v1_controller_has_its_own_hierarchy() {
        let mount = mount(&[
            ("cpu,cpuacct/docker/one/cpu.cfs_quota_us", "50000\n"),
            ("cpu,cpuacct/docker/one/cpu.cfs_period_us", "100000\n"),
            ("cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("cpuset/docker/one/cpu.cfs_quota_us", "1\n"),
        ]);
        let groups = "12:cpuset:/docker/one\n4:memory:/\n3:cpu,cpuacct:/docker/one\n0::/\n";
        assert_eq!(cpu_quota_in(mount.path(), groups), Some(0.5));
        assert_eq!(memory_limit_in(mount.path(), groups), None);
    }

    /// The paths are those of the host, and the group of the container is mounted.
    #[test]
    fn the_limits_of_the_mount_point_apply_in_a_container() {
        let mount = mount(&[
            ("cpu/cpu.cfs_quota_us", "200000"),
            ("cpu/cpu.cfs_period_us", "100000"),
        ]);
        for groups in ["3:cpu,cpuacct:/kubepods/pod1/abc\n", "3:cpu:/../../abc\n"] {
            assert_eq!(cpu_quota_in(mount.path(), groups), Some(2.0));
        }
    }

    #[test]
    fn missing_or_malformed_files_set_no_limit() {
        let mount = mount(&[("cpu.max", "?")]);
        for groups in ["", "nonsense", "0::/", "0:", "3:cpu:/gone"] {
            assert_eq!(cpu_quota_in(mount.path(), groups), None, "{groups:?}");
        }
        assert_eq!(
            memory_total("MemFree: 1 kB\nMemTotal:       16384 kB\n"),
            Some(16_777_216)
        );
        assert_eq!(memory_total("MemTotal: many\n"), None);
    }
}
