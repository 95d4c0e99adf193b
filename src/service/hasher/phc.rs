//! Password hashing to and from PHC strings, in memory that is kept from one hash to the next.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Params, Version};
use subtle::ConstantTimeEq as _;

use super::HashError;
use super::engine::{Engine, HashMemory, Input};
use crate::domain::secret_keys::SecretKeys;

/// Maximum memory of a stored hash in KiB: 1 GiB. A stored hash that needs more is not computed.
pub const MAX_MEMORY_KIB: u32 = 1024 * 1024;

/// Maximum number of passes of a stored hash, for the same reason: each pass takes as long as the first.
pub const MAX_ITERATIONS: u32 = 1000;

/// Salt length in bytes, as RFC 9106 section 4 recommends.
const SALT_LENGTH: usize = 16;

/// Parameters and peppers of today's hashes.
#[derive(Clone, Debug)]
pub(super) struct Scheme {
    /// Includes the key id of the current pepper.
    pub(super) params: Params,
    pub(super) peppers: SecretKeys,
}

impl Scheme {
    /// Returns the pepper of a hash with these parameters. It is empty if the parameters have no key id.
    fn secret(&self, params: &Params) -> Result<&[u8], HashError> {
        let key_id = params.keyid();
        if key_id.is_empty() {
            return Ok(&[]);
        }
        let secret = self.peppers.secret(key_id);
        secret.ok_or_else(|| HashError::PepperUnknown(key_id.to_vec()))
    }
}

/// Memory of one thread, kept from one hash to the next.
pub(super) struct PhcHasher(HashMemory);

impl PhcHasher {
    pub(super) fn new(engine: Engine) -> Self {
        Self(HashMemory::new(engine))
    }

    /// Hashes a password and returns a new PHC string.
    pub(super) fn hash(&mut self, password: &[u8], scheme: &Scheme) -> Result<String, HashError> {
        let mut salt = [0; SALT_LENGTH];
        getrandom::fill(&mut salt)?;
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        let params = &scheme.params;
        let version = Version::V0x13;
        let input = Input {
            algorithm: Algorithm::Argon2id,
            version,
            params,
            secret: scheme.secret(params)?,
            salt: &salt,
            password,
        };
        self.compute(&input, &mut output)?;
        let hash = PasswordHash {
            algorithm: ARGON2ID_IDENT,
            version: Some(version.into()),
            params: ParamsString::try_from(params)?,
            salt: Some(Salt::new(&salt)?),
            hash: Some(Output::new(&output)?),
        };
        Ok(hash.to_string())
    }

    /// Returns whether a password matches a stored hash. `params` are the parameters of that hash.
    pub(super) fn matches(
        &mut self,
        password: &[u8],
        hash: &PasswordHash,
        params: &Params,
        scheme: &Scheme,
    ) -> Result<bool, HashError> {
        let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
            return Err(HashError::Incomplete);
        };
        let input = Input {
            algorithm: Algorithm::try_from(hash.algorithm.as_str())?,
            // PHC strings from before version 1.3 have no version.
            version: hash.version.map_or(Ok(Version::V0x10), Version::try_from)?,
            params,
            secret: scheme.secret(params)?,
            salt,
            password,
        };
        let mut output = vec![0; expected.len()];
        self.compute(&input, &mut output)?;
        // A hash with a higher cost than today's needed more memory than a thread keeps.
        self.0.keep_at_most(scheme.params.m_cost());
        Ok(output.ct_eq(expected.as_bytes()).into())
    }

    /// Computes for the time that a hash of today takes beyond one with these parameters, and drops the result. A
    /// thread that is free sooner after a cheaper hash would reveal that to the calls that wait for it.
    pub(super) fn fill_up(&mut self, done: &Params, scheme: &Scheme) -> Result<(), HashError> {
        let Some((memory_kib, passes)) = missing(done, &scheme.params) else {
            return Ok(());
        };
        let params = Params::new(memory_kib, passes, scheme.params.p_cost(), None)?;
        let input = Input {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            params: &params,
            secret: &[],
            salt: &[0; SALT_LENGTH],
            password: &[],
        };
        self.compute(&input, &mut [0; Params::DEFAULT_OUTPUT_LEN])
    }

    fn compute(&mut self, input: &Input<'_>, output: &mut [u8]) -> Result<(), HashError> {
        if input.params.m_cost() > MAX_MEMORY_KIB || input.params.t_cost() > MAX_ITERATIONS {
            return Err(HashError::TooCostly);
        }
        self.0.compute(input, output)
    }
}

/// Returns the memory in KiB and the passes by which a hash of today exceeds one with these parameters. The time of
/// Argon2 is proportional to memory times passes. `None`: the difference is zero or too small for a hash.
fn missing(done: &Params, today: &Params) -> Option<(u32, u32)> {
    let cost = |params: &Params| u64::from(params.m_cost()) * u64::from(params.t_cost());
    let missing = cost(today).checked_sub(cost(done))?;
    // The fewest passes that fit into the memory of today.
    let passes = missing.div_ceil(u64::from(today.m_cost())).max(1);
    let memory = u32::try_from(missing / passes).ok()?;
    let min_memory = Params::MIN_M_COST.max(8 * today.p_cost());
    (memory >= min_memory).then_some((memory, u32::try_from(passes).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cheaper_hash_is_topped_up_to_the_cost_of_today() {
        let params = |memory, passes| Params::new(memory, passes, 1, None).unwrap();
        let today = params(19_456, 2);
        for (memory, passes, expected) in [
            // The total cost of today is 38,912.
            (19_456, 1, Some((19_456, 1))),
            (4_096, 1, Some((17_408, 2))),
            (12_288, 3, Some((2_048, 1))),
            (8, 1, Some((19_452, 2))),
            // Equal cost, higher cost, and nearly equal cost.
            (19_456, 2, None),
            (65_536, 3, None),
            (19_455, 2, None),
        ] {
            assert_eq!(
                missing(&params(memory, passes), &today),
                expected,
                "{memory} {passes}"
            );
        }
    }
}
