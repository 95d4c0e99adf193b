//! Registration mode: which callers can create accounts.

use clap::ValueEnum;

/// Who can register.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum RegistrationMode {
    /// Anybody, with a number that nobody has shown to hold.
    Open,
    /// Whoever shows by a code that they hold the number.
    Verified,
    /// Nobody: superusers make the accounts.
    Closed,
}
