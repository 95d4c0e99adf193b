//! People: who has a phone number here.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use unic_langid::LanguageIdentifier;
use uuid::Uuid;

use super::phone::PhoneNumber;
use crate::clock::{self, Timestamp};
use crate::i18n::Language;

/// A person's id, a UUIDv7. It never changes and is never given to anybody else.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct UserId(pub Uuid);

impl UserId {
    /// A new id.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        Self(clock::new_id(now))
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether an account is in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UserStatus {
    /// In use.
    Active,
    /// Deactivated by the person.
    Deactivated,
}

/// A person.
#[derive(Clone, Debug)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The phone number, unique among all people.
    pub phone_number: PhoneNumber,
    /// Whether the account is in use.
    pub status: UserStatus,
    /// May use the administration of the calling product.
    pub is_staff: bool,
    /// May do everything.
    pub is_superuser: bool,
    /// Whether there is a password.
    pub has_password: bool,
    /// When the person proved to hold the number.
    pub phone_verified_at: Option<Timestamp>,
    /// The language that the person wants to be written to in.
    pub locale: Option<Locale>,
    /// When the person was registered.
    pub created_at: Timestamp,
    /// When the person was last changed; signing in is no change.
    pub updated_at: Timestamp,
    /// When the person last signed in.
    pub last_login_at: Option<Timestamp>,
}

impl User {
    /// The language that the person wants to be written to in, or else another one: that of the call.
    #[must_use]
    pub fn language_or(&self, other: Language) -> Language {
        let locale = self.locale.as_ref();
        locale
            .and_then(|locale| Language::of_tag(locale.as_str()))
            .unwrap_or(other)
    }

    /// Whether the user is staff or a superuser.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        self.is_staff || self.is_superuser
    }

    /// Whether the account is in use.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status == UserStatus::Active
    }
}

/// Rest of the hold that begins when a phone number changes. `None`: the hold is over.
///
/// A change in the future comes from a clock that is or was ahead. Its real time is unknown, so the whole hold is left,
/// and not more.
#[must_use]
pub fn hold_remaining(changed_at: Timestamp, hold: Duration, now: Timestamp) -> Option<Duration> {
    let rest = (changed_at.min(now) + hold - now).to_std().ok()?;
    (!rest.is_zero()).then_some(rest)
}

/// A language tag (BCP 47) in canonical form, of at most [`Locale::MAX_LENGTH`] characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Locale(Box<str>);

impl Locale {
    /// The most characters of a tag: what RFC 5646 section 4.4.1 recommends as the least a buffer has to hold.
    pub const MAX_LENGTH: usize = 35;

    /// Takes a language tag such as `uz`, `en-GB` or `uz-Cyrl-UZ`, in any case.
    ///
    /// # Errors
    /// When it is not a language tag, or too long.
    pub fn parse(input: &str) -> Result<Self, LocaleError> {
        if input.is_empty() || input.len() > Self::MAX_LENGTH {
            return Err(LocaleError);
        }
        let tag: LanguageIdentifier = input.parse().map_err(|_| LocaleError)?;
        Ok(Self(tag.to_string().into()))
    }

    /// A tag that was read from the database, where only parsed ones are put.
    pub(crate) fn from_stored(tag: String) -> Self {
        Self(tag.into())
    }

    /// The tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not a language tag of at most 35 characters.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("is not a BCP 47 language tag of at most {} characters", Locale::MAX_LENGTH)]
pub struct LocaleError;

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_hold_is_never_longer_than_it_is_set_to() {
        let (changed_at, hold) = (Timestamp::UNIX_EPOCH, Duration::from_hours(24));
        let rest = |hours| {
            let now = changed_at + TimeDelta::hours(hours);
            hold_remaining(changed_at, hold, now).map(|rest| rest.as_secs() / 3600)
        };
        assert_eq!(
            [0, 1, 23, 24, 48].map(rest),
            [Some(24), Some(23), Some(1), None, None]
        );
        // The clock was ahead when the number changed, and was corrected.
        assert_eq!([-1, -48].map(rest), [Some(24); 2]);
    }

    #[test]
    fn locales_are_canonical() {
        assert_eq!(Locale::parse("UZ-cyrl-uz").unwrap().as_str(), "uz-Cyrl-UZ");
        assert_eq!(Locale::parse("en_gb").unwrap().as_str(), "en-GB");
        for bad in [
            "",
            "e",
            "english language",
            "../../etc",
            "x".repeat(36).as_str(),
            "ru\n",
        ] {
            assert_eq!(Locale::parse(bad), Err(LocaleError), "{bad:?}");
        }
    }
}
