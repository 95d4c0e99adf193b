//! What stands for a person as they are, so that nobody writes over what they have not seen.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::domain::user::{Locale, UserStatus};
use crate::store::users::Account;

/// How many bytes of the digest there are: two that are equal by chance are not to be expected.
const LENGTH: usize = 15;

/// A digest of all that can be changed about a person. Not a number of changes: what does not count them, such as an
/// older version beside this one in an upgrade, changes it all the same, and a clock that goes back or stands still
/// does no harm. If two are equal, then so is what they were made of, and nothing is lost by writing over it.
///
/// Signing in is no change, and neither is another hash of the same password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Etag(String);

impl Etag {
    pub(super) fn of(account: &Account) -> Self {
        let Account {
            user,
            password_hash: _,
            credential_version,
            deactivated_by_admin,
            // It changes with the number.
            phone_changed_at: _,
        } = account;
        let is_active = match user.status {
            UserStatus::Active => true,
            UserStatus::Deactivated => false,
        };
        let mut digest = Sha256::new();
        digest.update(user.id.0.as_bytes());
        // The two texts are of any length, so each says its own.
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

    /// Takes back what somebody was told. Anything else is the etag of nobody.
    #[must_use]
    pub fn given(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text that stands for it.
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
