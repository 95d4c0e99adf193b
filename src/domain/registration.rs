//! Registration mode: the condition for creating an account.

use clap::ValueEnum;

/// The condition under which a client can create an account.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum RegistrationMode {
    /// Any client can register, with an unverified number.
    Open,
    /// A client can register with a number that a one-time code verifies.
    Verified,
    /// Only superusers create accounts.
    Closed,
}
