//! Error type of hashing.

use thiserror::Error;

use crate::domain::RandomError;

/// Reason for which hashing failed. A wrong password is not an error.
#[derive(Debug, Error)]
pub enum HashError {
    /// Argon2 rejects the parameters.
    #[error("Argon2 parameters: {0}")]
    Parameters(#[from] argon2::Error),
    /// The stored hash is not a PHC string of Argon2.
    #[error("stored hash: {0}")]
    Stored(#[from] argon2::password_hash::Error),
    /// The stored hash is not a PHC string.
    #[error("stored hash: {0}")]
    Phc(#[from] argon2::password_hash::phc::Error),
    /// The stored PHC string has no salt or no hash.
    #[error("stored hash: has no salt or no hash")]
    Incomplete,
    /// The stored hash needs more than [`super::MAX_MEMORY_KIB`] or [`super::MAX_ITERATIONS`].
    #[error("stored hash: needs too much memory or too many passes")]
    TooCostly,
    /// The pepper of the stored hash is not in the settings.
    #[error("stored hash: its pepper has the key id \"{}\", which is not in PHONE_IDENTITY_PEPPERS", .0.escape_ascii())]
    PepperUnknown(Vec<u8>),
    /// There is no memory for a hash.
    #[error("no memory for a hash")]
    NoMemory,
    /// There are no random bytes for a salt.
    #[error("no random bytes: {0}")]
    Random(#[from] RandomError),
    /// A thread cannot be started.
    #[error("cannot start a hashing thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The reference does not compute the test vector of RFC 9106: this program or this machine is faulty.
    #[error("Argon2 does not compute the test vector of RFC 9106 on this machine")]
    SelfTest,
    /// A full queue dropped the job for a job of a shorter flow.
    #[error("the queue is full and dropped the job for one of a shorter flow")]
    Displaced,
    /// The hashing threads have ended or failed.
    #[error("the hashing thread has ended")]
    Gone,
}
