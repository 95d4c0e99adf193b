//! Settings of password hashing.

use std::path::PathBuf;
use std::thread;

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};

use super::values::secret;
use super::{ConfigError, Settings};
use crate::cgroup;
use crate::domain::secret_keys::SecretKeys;
use crate::service::hasher::{self, EngineChoice};

/// Password hashing.
#[derive(Args, Clone, Debug)]
pub struct HashingSettings {
    /// Memory cost m of Argon2id, in KiB
    ///
    /// Range: 8 to 1048576.
    #[arg(global = true, long, env = "PHONE_IDENTITY_ARGON2_MEMORY_KIB", value_name = "NUMBER", default_value = "19456",
        value_parser = clap::value_parser!(u32).range(8..=i64::from(hasher::MAX_MEMORY_KIB)))]
    pub argon2_memory_kib: u32,

    /// Time cost t of Argon2id, in passes
    ///
    /// Range: 1 to 1000.
    #[arg(global = true, long, env = "PHONE_IDENTITY_ARGON2_ITERATIONS", value_name = "NUMBER", default_value = "2",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(hasher::MAX_ITERATIONS)))]
    pub argon2_iterations: u32,

    /// Parallelism p of Argon2id, in lanes
    ///
    /// Range: 1 to 64.
    #[arg(global = true, long, env = "PHONE_IDENTITY_ARGON2_PARALLELISM", value_name = "NUMBER", default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=64))]
    pub argon2_parallelism: u32,

    /// Maximum number of concurrent hashes [default: one per core; three quarters of a CPU quota]
    ///
    /// The number of cores limits it. Range: 1 to 1024.
    #[arg(global = true, long, env = "PHONE_IDENTITY_HASH_THREADS", value_name = "NUMBER",
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub hash_threads: Option<u16>,

    /// Maximum number of passwords that wait to be hashed; more are rejected [default: about one second of work]
    ///
    /// Range: 1 to 65535.
    #[arg(global = true, long, env = "PHONE_IDENTITY_HASH_QUEUE", value_name = "NUMBER",
        value_parser = clap::value_parser!(u16).range(1..))]
    pub hash_queue: Option<u16>,

    /// Implementation of Argon2id
    #[arg(
        global = true,
        long,
        env = "PHONE_IDENTITY_HASH_ENGINE",
        value_name = "ENGINE",
        default_value = "auto"
    )]
    pub hash_engine: EngineChoice,

    /// The peppers from `PHONE_IDENTITY_PEPPERS`. They have no flag, because all users of the machine can read flags.
    #[arg(skip)]
    pub peppers: Option<SecretString>,

    /// File with the peppers, instead of PHONE_IDENTITY_PEPPERS [default: no peppers]
    ///
    /// It contains the secret keys of password hashes, as KEY-ID:SECRET entries.
    #[arg(global = true, long, env = "PHONE_IDENTITY_PEPPERS_FILE", value_name = "FILE")]
    pub peppers_file: Option<PathBuf>,
}

impl Settings {
    /// Returns the peppers: the secret keys of password hashes.
    ///
    /// # Errors
    /// When they are given twice, cannot be read, or are not `KEY-ID:SECRET` entries.
    pub fn peppers(&self) -> Result<SecretKeys, ConfigError> {
        let text = secret(
            "PHONE_IDENTITY_PEPPERS",
            self.hashing.peppers.as_ref(),
            self.hashing.peppers_file.as_deref(),
            self.allow_readable_secrets,
        )?;
        SecretKeys::parse(text.unwrap_or_default().expose_secret())
            .map_err(|error| ConfigError::SecretKeys("PHONE_IDENTITY_PEPPERS", error))
    }

    /// Returns the options of the password hasher.
    ///
    /// # Errors
    /// As [`Self::peppers`].
    pub fn hasher(&self) -> Result<hasher::Options, ConfigError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let quota = cgroup::cpu_quota();
        let hashing = &self.hashing;
        let threads = hashing
            .hash_threads
            .map_or_else(|| default_threads(cores, quota), usize::from);
        Ok(hasher::Options {
            memory_kib: hashing.argon2_memory_kib,
            iterations: hashing.argon2_iterations,
            parallelism: hashing.argon2_parallelism,
            threads: threads.min(cores),
            queue: hashing.hash_queue.map(usize::from),
            rescue_after: None,
            quota,
            engine: hashing.hash_engine,
            peppers: self.peppers()?,
        })
    }
}

/// Returns one hashing thread per core, or three quarters of a CPU quota, so that the other calls have the rest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and the quota is positive"
)]
fn default_threads(cores: usize, quota: Option<f64>) -> usize {
    quota.map_or(cores, |quota| ((quota * 0.75) as usize).clamp(1, cores.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashing_threads_leave_a_quarter_of_a_quota() {
        for (cores, quota, threads) in [
            (4, None, 4),
            (4, Some(4.0), 3),
            (3, Some(3.5), 2),
            (1, Some(1.9), 1),
            (1, Some(0.2), 1),
            (2, Some(64.0), 2),
        ] {
            assert_eq!(default_threads(cores, quota), threads, "{cores} {quota:?}");
        }
    }
}
