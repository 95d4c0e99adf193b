//! Users: accounts, each with one phone number.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use unic_langid::LanguageIdentifier;
use uuid::Uuid;

use super::phone::PhoneNumber;
use crate::clock::{self, Timestamp};
use crate::i18n::Language;

/// The ID of a user, a UUIDv7. It never changes and is never reused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct UserId(pub Uuid);

impl UserId {
    /// Creates a new ID.
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

/// The status of an account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UserStatus {
    /// The account is in use.
    Active,
    /// The user or an administrator deactivated the account.
    Deactivated,
}

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    /// The ID.
    pub id: UserId,
    /// The phone number, unique among all users.
    pub phone_number: PhoneNumber,
    /// The status of the account.
    pub status: UserStatus,
    /// Whether the user may use the administration of the calling product.
    pub is_staff: bool,
    /// Whether the user has every right of administration.
    pub is_superuser: bool,
    /// Whether the account has a password.
    pub has_password: bool,
    /// Time at which the number was verified. `None`: it is unverified.
    pub phone_verified_at: Option<Timestamp>,
    /// Preferred language of messages to the user.
    pub locale: Option<Locale>,
    /// Time of the registration.
    pub created_at: Timestamp,
    /// Time of the last change. A sign-in is not a change.
    pub updated_at: Timestamp,
    /// Time of the last sign-in.
    pub last_login_at: Option<Timestamp>,
}

impl User {
    /// Returns a new active user with a password, an unverified number and no rights of administration.
    #[must_use]
    pub fn new(phone_number: PhoneNumber, now: Timestamp) -> Self {
        Self {
            id: UserId::generate(now),
            phone_number,
            status: UserStatus::Active,
            is_staff: false,
            is_superuser: false,
            has_password: true,
            phone_verified_at: None,
            locale: None,
            created_at: now,
            updated_at: now,
            last_login_at: None,
        }
    }
}

impl User {
    /// The preferred language of the user, or `fallback`, the language of the call.
    #[must_use]
    pub fn language_or(&self, fallback: Language) -> Language {
        let locale = self.locale.as_ref();
        locale
            .and_then(|locale| Language::of_tag(locale.as_str()))
            .unwrap_or(fallback)
    }

    /// Whether the user is staff or a superuser.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        self.is_staff || self.is_superuser
    }

    /// Whether the account is active.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status == UserStatus::Active
    }
}

/// Remaining time of the hold that begins when a phone number changes. `None`: the hold is over.
///
/// A change in the future comes from a clock that is or was ahead. Its real time is unknown, so the remaining time is
/// the whole hold at most.
#[must_use]
pub fn hold_remaining(changed_at: Timestamp, hold: Duration, now: Timestamp) -> Option<Duration> {
    let remaining = (changed_at.min(now) + hold - now).to_std().ok()?;
    (!remaining.is_zero()).then_some(remaining)
}

/// A language tag (BCP 47) in canonical form, at most [`Locale::MAX_LENGTH`] characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Locale(Box<str>);

impl Locale {
    /// Maximum length of a tag, in characters: the buffer size that RFC 5646 section 4.4.1 recommends.
    pub const MAX_LENGTH: usize = 35;

    /// Parses a language tag such as `uz`, `en-GB` or `uz-Cyrl-UZ`. Case is ignored.
    ///
    /// # Errors
    /// When the text is not a language tag, or is too long.
    pub fn parse(input: &str) -> Result<Self, LocaleError> {
        if input.is_empty() || input.len() > Self::MAX_LENGTH {
            return Err(LocaleError);
        }
        let tag: LanguageIdentifier = input.parse().map_err(|_| LocaleError)?;
        Ok(Self(tag.to_string().into()))
    }

    /// Wraps a tag from the database. Only parsed tags are stored.
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
    fn a_hold_is_never_longer_than_its_setting() {
        let (changed_at, hold) = (Timestamp::UNIX_EPOCH, Duration::from_hours(24));
        let remaining = |hours| {
            let now = changed_at + TimeDelta::hours(hours);
            hold_remaining(changed_at, hold, now).map(|remaining| remaining.as_secs() / 3600)
        };
        assert_eq!(
            [0, 1, 23, 24, 48].map(remaining),
            [Some(24), Some(23), Some(1), None, None]
        );
        // The clock was ahead when the number changed, and was corrected.
        assert_eq!([-1, -48].map(remaining), [Some(24); 2]);
    }

    #[test]
    fn locales_are_canonical() {
        assert_eq!(Locale::parse("UZ-cyrl-uz").unwrap().as_str(), "uz-Cyrl-UZ");
        assert_eq!(Locale::parse("en_gb").unwrap().as_str(), "en-GB");
        for invalid in [
            "",
            "e",
            "english language",
            "../../etc",
            "x".repeat(36).as_str(),
            "ru\n",
        ] {
            assert_eq!(Locale::parse(invalid), Err(LocaleError), "{invalid:?}");
        }
    }
}
