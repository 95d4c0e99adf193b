//! What the machine gives this process: how much processor time and memory its control groups let it have.
//!
//! The standard library knows of the quota, too, but rounds it down to whole cores. Only Linux has these files;
//! elsewhere there is no quota. A file that is missing or cannot be understood limits nothing.

use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// The group of version 1 without a limit says a number close to 2^63, rounded down to a page.
const NO_MEMORY_LIMIT: u64 = 1 << 62;

/// How many files this process may have open: as many as it may allow itself, after this. `None`: there is no bound.
///
/// The limit that a process starts with is low for the sake of programs that use `select`.
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

/// How many cores' worth of processor time this process may use, if it is limited. Above 0, and may be a fraction.
#[must_use]
pub fn cpu_quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    cpu_quota_in(Path::new(MOUNT), &groups)
}

/// How many bytes of memory this process may use: what the machine has, or less by its control groups.
#[must_use]
pub fn memory() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = memory_limit_in(Path::new(MOUNT), &groups);
    let total = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| memory_total(&text));
    limit.into_iter().chain(total).min()
}

/// `groups` is what `/proc/self/cgroup` says. The tightest quota of a group and all those above it holds.
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

/// The folders of the groups that a controller may be in, each with all above it up to where it is mounted. In a
/// container, the path may be that of the host, and only the mount point be there.
fn folders_of(mount: &Path, groups: &str, controller: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let roots = if controllers.is_empty() {
            // Version 2, alone or beside version 1.
            vec![mount.to_owned(), mount.join("unified")]
        } else if controllers.split(',').any(|name| name == controller) {
            vec![mount.join(controllers), mount.join(controller)]
        } else {
            continue;
        };
        // A path from outside of the namespace has `..` in it.
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

/// Reads `cpu.max`: quota and period in microseconds, or `max` for no quota.
fn quota_of_max(text: &str) -> Option<f64> {
    let mut fields = text.split_whitespace();
    let (quota, period) = (fields.next()?, fields.next()?);
    quota_of_cfs(quota, period)
}

/// Reads quota and period in microseconds; -1 is no quota.
fn quota_of_cfs(quota: &str, period: &str) -> Option<f64> {
    let quota: u32 = quota.trim().parse().ok()?;
    let period: u32 = period.trim().parse().ok()?;
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}

/// Reads `/proc/meminfo`.
fn memory_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files in it.
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
    fn quotas_are_read_as_the_kernel_writes_them() {
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
    fn of_version_2_the_tightest_group_counts() {
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
    fn of_version_1_the_controller_has_its_own_tree() {
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

    /// The paths are those of the host, and the container's own group is what is mounted.
    #[test]
    fn in_a_container_the_mount_point_counts() {
        let mount = mount(&[
            ("cpu/cpu.cfs_quota_us", "200000"),
            ("cpu/cpu.cfs_period_us", "100000"),
        ]);
        for groups in ["3:cpu,cpuacct:/kubepods/pod1/abc\n", "3:cpu:/../../abc\n"] {
            assert_eq!(cpu_quota_in(mount.path(), groups), Some(2.0));
        }
    }

    #[test]
    fn what_is_missing_or_broken_limits_nothing() {
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
