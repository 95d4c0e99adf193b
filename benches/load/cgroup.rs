//! A control group with a quota of processor time, by version 1 or 2 of the kernel's interface.

use std::fs;
use std::path::{Path, PathBuf};

const PERIOD_MICROSECONDS: u32 = 100_000;

/// A control group of its own. It is removed when it is dropped, which must be after its processes have ended.
pub(crate) struct Quota {
    folder: PathBuf,
}

impl Quota {
    /// A quota of one core.
    ///
    /// # Errors
    /// Why there can be none here, in words.
    pub(crate) fn of_one_core() -> Result<Self, String> {
        Self::version_1().or_else(|first| {
            Self::version_2().map_err(|second| format!("cgroup v1: {first}; cgroup v2: {second}"))
        })
    }

    fn version_1() -> Result<Self, String> {
        let quota = Self::make(Path::new("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us")?;
        quota.set("cpu.cfs_period_us", &PERIOD_MICROSECONDS.to_string())?;
        quota.set("cpu.cfs_quota_us", &PERIOD_MICROSECONDS.to_string())?;
        Ok(quota)
    }

    fn version_2() -> Result<Self, String> {
        let root = Path::new("/sys/fs/cgroup");
        // The controller may be enabled already, or this process may lack the right to enable it. The next step shows
        // that.
        let _ = fs::write(root.join("cgroup.subtree_control"), "+cpu");
        let quota = Self::make(root, "cpu.max")?;
        quota.set("cpu.max", &format!("{PERIOD_MICROSECONDS} {PERIOD_MICROSECONDS}"))?;
        Ok(quota)
    }

    /// Makes a group and looks whether it has this file.
    fn make(root: &Path, file: &str) -> Result<Self, String> {
        let folder = root.join(format!("phone-identity-bench-{}", std::process::id()));
        if !root.join("cgroup.procs").exists() {
            return Err(format!("{} is no control group", root.display()));
        }
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let quota = Self { folder };
        if quota.folder.join(file).exists() {
            Ok(quota)
        } else {
            Err(format!("no {file}"))
        }
    }

    fn set(&self, file: &str, value: &str) -> Result<(), String> {
        fs::write(self.folder.join(file), value).map_err(|error| format!("{file}: {error}"))
    }

    /// The file to which a process writes its id to get in.
    pub(crate) fn processes(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Returns the number of times that the kernel throttled the group at its quota.
    pub(crate) fn throttled(&self) -> u64 {
        let stat = fs::read_to_string(self.folder.join("cpu.stat")).unwrap_or_default();
        stat.lines()
            .find_map(|line| line.strip_prefix("nr_throttled ")?.parse().ok())
            .unwrap_or_default()
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}
