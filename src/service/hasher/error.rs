//! Why hashing failed.

use thiserror::Error;

use crate::domain::RandomError;

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
    /// The stored hash asks for more than [`super::MAX_MEMORY_KIB`] or [`super::MAX_ITERATIONS`].
    #[error("stored hash: asks for too much memory or too many passes")]
    TooCostly,
    /// The stored hash was made with a pepper that is not in the settings.
    #[error("stored hash: its pepper has the key id \"{}\", which is not in PHONE_IDENTITY_PEPPERS", .0.escape_ascii())]
    PepperUnknown(Vec<u8>),
    /// No memory for a hash.
    #[error("no memory for a hash")]
    NoMemory,
    /// No random bytes for a salt.
    #[error("no random bytes: {0}")]
    Random(#[from] RandomError),
    /// No thread.
    #[error("cannot start a hashing thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The reference does not compute what RFC 9106 says: this program or this machine is broken.
    #[error("Argon2 does not compute the test vector of RFC 9106 on this machine")]
    SelfTest,
    /// The job made room for one of a shorter flow.
    #[error("the queue is full, and the job made room for one of a shorter flow")]
    Displaced,
    /// The hashing threads have ended, or failed.
    #[error("the hashing thread has ended")]
    Gone,
}
