//! Settings of the hashing threads, and the values that the start derives from them.

use std::time::Duration;

use argon2::{KeyId, Params, ParamsBuilder};

use super::engine::{Engine, EngineChoice};
use super::error::HashError;
use super::queue_capacity::QueueCapacity;
use crate::domain::secret_keys::SecretKeys;

/// Minimum time after which a caller may retry when the queue was full.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Multiple of the time that a full queue takes, after which the rescue thread takes a job. The limit is not reached
/// while the threads of the lowest priority get at least a quarter of the processor.
const RESCUE_FACTOR: u32 = 4;

/// Minimum wait before the rescue thread takes a job.
const MIN_RESCUE_AFTER: Duration = Duration::from_millis(250);

/// Settings of the hashing threads.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory size m in KiB.
    pub memory_kib: u32,
    /// Number of passes t.
    pub iterations: u32,
    /// Degree of parallelism p. One thread computes the lanes one after another.
    pub parallelism: u32,
    /// Number of concurrent hashes, without that of the rescue thread.
    pub threads: usize,
    /// Maximum number of waiting jobs. `None`: about one second of work at the recent cost of a hash.
    pub queue: Option<usize>,
    /// Wait after which the rescue thread takes a job. `None`: four times the time of a full queue, at least 250 ms.
    pub rescue_after: Option<Duration>,
    /// Processor quota of the process in cores. `None`: no quota. Hashing leaves a part of it to the rest of the
    /// process.
    pub quota: Option<f64>,
    /// Implementation of Argon2.
    pub engine: EngineChoice,
    /// Keys that enter each hash and are not stored in the database. A copy of the database alone does not allow
    /// password guesses.
    pub peppers: SecretKeys,
}

impl Options {
    pub(super) fn params(&self) -> Result<Params, HashError> {
        let key_id = self
            .peppers
            .current()
            .map_or(Ok(KeyId::EMPTY), |id| KeyId::new(id.as_bytes()))?;
        Ok(ParamsBuilder::new()
            .m_cost(self.memory_kib)
            .t_cost(self.iterations)
            .p_cost(self.parallelism)
            .keyid(key_id)
            .output_len(Params::DEFAULT_OUTPUT_LEN)
            .build()?)
    }
}

/// Values that the start derives from the options.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Implementation that computes the hashes.
    pub engine: Engine,
    /// Number of concurrent hashes.
    pub threads: usize,
    /// Maximum number of waiting jobs at the start.
    pub queue: usize,
    /// Duration of one hash at the start.
    pub hash_time: Duration,
    /// Wait after which the rescue thread takes a job.
    pub rescue_after: Duration,
    /// Time after which a caller may retry when the queue was full: the time of a full queue, at least one second.
    pub retry_after: Duration,
}

impl Setup {
    pub(super) fn new(options: &Options, engine: Engine, hash_time: Duration) -> Self {
        let threads = options.threads;
        let queue = options
            .queue
            .unwrap_or_else(|| QueueCapacity::new(threads, hash_time).jobs());
        // Time that a full queue takes while all threads work.
        let full = u32::try_from(queue.div_ceil(threads.max(1))).unwrap_or(u32::MAX);
        let full = hash_time.saturating_mul(full);
        let rescue_after = full.saturating_mul(RESCUE_FACTOR).max(MIN_RESCUE_AFTER);
        Self {
            engine,
            threads,
            queue,
            hash_time,
            rescue_after: options.rescue_after.unwrap_or(rescue_after),
            retry_after: full.max(MIN_RETRY_AFTER),
        }
    }
}
