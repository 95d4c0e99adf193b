//! Etags of users, for optimistic concurrency: an administrator overwrites only a state that the administrator has
//! read.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::domain::user::{Locale, UserStatus};
use crate::store::users::Account;

/// Length of the digest in bytes. At this length, equal digests of different states are not to be expected.
const LENGTH: usize = 15;

/// A digest of all fields that administration changes. It is not a counter of changes: a writer that does not count
/// them, such as an older version during an upgrade, changes the digest too, and a clock that goes back or stands still
/// does no harm. Equal digests mean equal states, so that overwriting one loses nothing.
///
/// A sign-in does not change it, and neither does another hash of the same password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Etag(String);

impl Etag {
    pub(super) fn of(account: &Account) -> Self {
        let Account {
            user,
            password_hash: _,
            credential_version,
            deactivated_by_admin,
            // This field changes only with the number.
            phone_changed_at: _,
        } = account;
        let is_active = match user.status {
            UserStatus::Active => true,
            UserStatus::Deactivated => false,
        };
        let mut digest = Sha256::new();
        digest.update(user.id.0.as_bytes());
        // Both texts have a variable length, so the length precedes each of them.
        for text in [
            user.phone_number.as_str(),
            user.locale.as_ref().map(Locale::as_str).unwrap_or_default(),
        ] {
            digest.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(text);
        }
        let flags = [
            is_active,
            *deactivated_by_admin,
            user.is_staff,
            user.is_superuser,
            user.has_password,
            user.phone_verified_at.is_some(),
        ];
        digest.update(flags.map(u8::from));
        digest.update(credential_version.to_be_bytes());
        let microseconds = |time: Timestamp| time.timestamp_micros().to_be_bytes();
        digest.update(user.phone_verified_at.map(microseconds).unwrap_or_default());
        digest.update(microseconds(user.updated_at));
        Self(Base64UrlUnpadded::encode_string(&digest.finalize()[..LENGTH]))
    }

    /// The etag of a request. Any text is accepted; one that this service did not issue matches no user.
    #[must_use]
    pub fn given(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text of the etag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
