//! One hash at a time, in memory that is kept from one hash to the next.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::domain::RandomError;

/// The most memory a hash may ask for, in KiB: 1 GiB. A stored hash that asks for more is not checked.
pub const MAX_MEMORY_KIB: u32 = 1024 * 1024;

/// Salt length in bytes: what RFC 9106 section 4 recommends.
const SALT_LENGTH: usize = 16;

/// The memory of one thread, kept from one hash to the next.
#[derive(Default)]
pub(super) struct Arena {
    blocks: Vec<Block>,
}

impl Arena {
    pub(super) fn hash(&mut self, password: &[u8], params: &Params) -> Result<String, HashError> {
        let mut salt = [0; SALT_LENGTH];
        getrandom::fill(&mut salt)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        self.compute(&argon2, password, &salt, params, &mut output)?;
        let hash = PasswordHash {
            algorithm: ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(params)?,
            salt: Some(Salt::new(&salt)?),
            hash: Some(Output::new(&output)?),
        };
        Ok(hash.to_string())
    }

    pub(super) fn matches(
        &mut self,
        password: &[u8],
        hash: &PasswordHash,
        params: &Params,
    ) -> Result<bool, HashError> {
        let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
            return Err(HashError::Incomplete);
        };
        let algorithm = Algorithm::try_from(hash.algorithm.as_str())?;
        // PHC strings from before version 1.3 name no version.
        let version = hash.version.map_or(Ok(Version::V0x10), Version::try_from)?;
        let argon2 = Argon2::new(algorithm, version, params.clone());
        let mut output = vec![0; expected.len()];
        self.compute(&argon2, password, salt, params, &mut output)?;
        Ok(output.ct_eq(expected.as_bytes()).into())
    }

    fn compute(
        &mut self,
        argon2: &Argon2<'_>,
        password: &[u8],
        salt: &[u8],
        params: &Params,
        output: &mut [u8],
    ) -> Result<(), HashError> {
        if params.m_cost() > MAX_MEMORY_KIB {
            return Err(HashError::TooCostly);
        }
        self.blocks.resize_with(params.block_count(), Block::default);
        // Gives back what a costlier hash needed; a no-op where all have the same parameters.
        self.blocks.shrink_to_fit();
        Ok(argon2.hash_password_into_with_memory(password, salt, output, &mut self.blocks)?)
    }
}

/// Why hashing failed. None of these is a wrong password.
#[derive(Debug, Error)]
pub enum HashError {
    /// Argon2 does not take these parameters.
    #[error("Argon2 parameters: {0}")]
    Parameters(#[from] argon2::Error),
    /// The stored hash is not a PHC string of Argon2.
    #[error("stored hash: {0}")]
    Stored(#[from] argon2::password_hash::Error),
    /// The stored hash is not a PHC string.
    #[error("stored hash: {0}")]
    Phc(#[from] argon2::password_hash::phc::Error),
    /// The stored PHC string lacks the salt or the hash.
    #[error("stored hash: has no salt or no hash")]
    Incomplete,
    /// The stored hash asks for more than [`MAX_MEMORY_KIB`].
    #[error("stored hash: asks for too much memory")]
    TooCostly,
    /// No random bytes for a salt.
    #[error("no random bytes: {0}")]
    Random(#[from] RandomError),
    /// No thread.
    #[error("cannot start a hashing thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The hashing threads have ended.
    #[error("the hashing threads have ended")]
    Gone,
}
