//! Password policy: the only constructor of [`NewPassword`], which is the only type that the hasher hashes.
//!
//! Services apply it after an attempt was reserved, and after a code or the current password was verified: an
//! unauthenticated client causes no password check before its attempt counts.

mod breached;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use breached::BreachedFileError;
use breached::BreachedPasswords;
use tokio::task::spawn_blocking;

use super::error::{Error, Violation};
use crate::domain::password::{Password, PasswordError};
use crate::domain::phone::PhoneNumber;

/// A password that the policy accepted. Only [`PasswordPolicy::accept`] creates one.
#[derive(Clone, Debug)]
pub struct NewPassword(Password);

impl NewPassword {
    /// The bytes to hash.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8] {
        self.0.expose_bytes()
    }

    /// Creates a password for tests of hashing.
    #[cfg(test)]
    pub(super) fn unchecked(password: Password) -> Self {
        Self(password)
    }
}

/// The rules for new passwords. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PasswordPolicy {
    min_length: usize,
    breached: Option<BreachedPasswords>,
    checked: Arc<AtomicU64>,
}

impl PasswordPolicy {
    /// Creates a policy that requires `min_length` characters and rejects the breached passwords of the file, if there
    /// is one.
    ///
    /// # Errors
    /// The file cannot be read or has the wrong form.
    pub async fn open(min_length: usize, breached: Option<PathBuf>) -> Result<Self, BreachedFileError> {
        let breached = match breached {
            Some(path) => Some(spawn_blocking(move || BreachedPasswords::open(&path)).await??),
            None => None,
        };
        Ok(Self {
            min_length,
            breached,
            checked: Arc::default(),
        })
    }

    /// Accepts a new password of an account with these phone numbers. `field` is the field of the request.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] with the rule that the password violates. [`Error::Internal`]: the file of breached
    /// passwords cannot be read.
    pub async fn accept(
        &self,
        field: &'static str,
        password: Password,
        phones: &[&PhoneNumber],
    ) -> Result<NewPassword, Error> {
        self.checked.fetch_add(1, Ordering::Relaxed);
        let rejected =
            |problem: PasswordError| Error::InvalidInput(vec![Violation::new(field, problem.into())]);
        password.check_shape(self.min_length, phones).map_err(rejected)?;
        if password.is_common() {
            return Err(rejected(PasswordError::TooCommon));
        }
        if let Some(breached) = &self.breached
            && breached.has(&password).await.map_err(Error::internal)?
        {
            return Err(rejected(PasswordError::Breached));
        }
        Ok(NewPassword(password))
    }

    /// Number of passwords that were checked since the start, accepted or not.
    #[must_use]
    pub fn checked(&self) -> u64 {
        self.checked.load(Ordering::Relaxed)
    }
}
