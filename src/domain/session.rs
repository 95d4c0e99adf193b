//! Sessions: a session is one sign-in of a user on one device.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use arrayvec::ArrayVec;
use uuid::Uuid;

use super::text;
use super::token::{self, TOKEN_LENGTH};
use super::user::UserId;
use crate::clock::{self, MAX_SKEW, Timestamp};

/// The ID of a device, a UUIDv7. It is not secret.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct DeviceId(pub Uuid);

impl DeviceId {
    /// Creates a new ID.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        Self(clock::new_id(now))
    }
}

/// The ID of a session, a UUIDv7. It is not secret.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SessionId(pub Uuid);

impl SessionId {
    /// Creates a new ID.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        Self(clock::new_id(now))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An authentication method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthMethod {
    /// Password.
    Password,
    /// One-time code in an SMS.
    SmsCode,
}

impl AuthMethod {
    /// All methods.
    pub const ALL: [Self; 2] = [Self::Password, Self::SmsCode];

    /// The name. It is stored, so it never changes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::SmsCode => "sms_code",
        }
    }
}

/// The authentication methods of one sign-in, each once. Stored inline, so that cached sessions need no allocation.
pub type AuthMethods = ArrayVec<AuthMethod, { AuthMethod::ALL.len() }>;

/// The lifetimes of sessions.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Maximum time from the sign-in to the end of the session.
    pub absolute: Duration,
    /// Maximum time from the last use to the end of the session.
    pub idle: Duration,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The ID.
    pub id: SessionId,
    /// The user.
    pub user_id: UserId,
    /// Time of the sign-in.
    pub created_at: Timestamp,
    /// Time of the last use, to about a minute.
    pub last_seen_at: Timestamp,
    /// Latest time at which the session ends.
    pub expires_at: Timestamp,
    /// The authentication methods of the sign-in.
    pub auth_methods: AuthMethods,
    /// The client that signed in.
    pub client: ClientInfo,
}

impl Session {
    /// Time at which the session ends if it is not used until then.
    #[must_use]
    pub fn idle_expires_at(&self, lifetimes: &Lifetimes) -> Timestamp {
        self.idle_expires_at_if_seen(self.last_seen_at, lifetimes)
    }

    /// As [`Self::idle_expires_at`], with another time of the last use.
    #[must_use]
    pub fn idle_expires_at_if_seen(&self, last_seen_at: Timestamp, lifetimes: &Lifetimes) -> Timestamp {
        self.expires_at.min(last_seen_at + lifetimes.idle)
    }

    /// Whether a time of the session, with this time of the last use, is further ahead than [`MAX_SKEW`]. Such a time
    /// comes from a clock that was wrong.
    #[must_use]
    pub fn is_ahead_if_seen(&self, last_seen_at: Timestamp, now: Timestamp) -> bool {
        self.created_at.max(last_seen_at) > now + MAX_SKEW
    }

    /// As [`Self::is_ahead_if_seen`], with the stored time of the last use.
    #[must_use]
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.is_ahead_if_seen(self.last_seen_at, now)
    }

    /// The session with the times of a wrong clock limited to what the current time allows.
    ///
    /// The session remains valid, so that a correction signs no user out. From now on it has the lifetimes of a new
    /// session at most: otherwise they would be longer by the error of the clock. The real time of the sign-in is
    /// unknown, so it does not count as recent, and changes of the account require the password.
    #[must_use]
    pub fn corrected(&self, lifetimes: &Lifetimes, now: Timestamp) -> Self {
        let is_created_ahead = self.created_at > now + MAX_SKEW;
        let (created_at, expires_at) = if is_created_ahead {
            (now - MAX_SKEW, self.expires_at.min(now + lifetimes.absolute))
        } else {
            (self.created_at, self.expires_at)
        };
        Self {
            created_at,
            last_seen_at: self.last_seen_at.min(now),
            expires_at,
            ..self.clone()
        }
    }

    /// Whether the sign-in is at most `window` ago. A sign-in that is further ahead than [`MAX_SKEW`] is not: its real
    /// time is unknown.
    #[must_use]
    pub fn is_fresh(&self, window: Duration, now: Timestamp) -> bool {
        (self.created_at - MAX_SKEW..=self.created_at + window).contains(&now)
    }

    /// Whether the session has not expired. At the instant of its expiry it has expired.
    #[must_use]
    pub fn is_live(&self, lifetimes: &Lifetimes, now: Timestamp) -> bool {
        now < self.idle_expires_at(lifetimes)
    }
}

/// The client of a call, as the calling service reports it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientInfo {
    /// The IP address.
    pub ip_address: Option<IpAddr>,
    /// The user agent without control characters, format characters and tokens, at most
    /// [`ClientInfo::MAX_USER_AGENT_BYTES`] bytes of UTF-8.
    pub user_agent: Option<Box<str>>,
}

impl ClientInfo {
    /// Maximum size of a stored user agent, in bytes of UTF-8. The client chooses the text, and each session and audit
    /// row stores it.
    pub const MAX_USER_AGENT_BYTES: usize = 256;

    /// Creates the client information of a call. A user agent is never a reason to refuse a sign-in: control and format
    /// characters are removed, tokens are redacted, and the rest is truncated at the last character that ends within
    /// the limit.
    #[must_use]
    pub fn new(ip_address: Option<IpAddr>, user_agent: &str) -> Self {
        let visible = user_agent.chars().filter(|c| !text::is_control_or_format(*c));
        // Includes the whole of a token that begins within the limit, so that it is redacted. The rest is not read.
        let read = within(visible, Self::MAX_USER_AGENT_BYTES + TOKEN_LENGTH);
        let kept = within(token::redact(&read).chars(), Self::MAX_USER_AGENT_BYTES);
        Self {
            ip_address,
            user_agent: Some(kept.into_boxed_str()).filter(|text| !text.is_empty()),
        }
    }
}

/// The first characters that fit into `max_bytes` bytes of UTF-8.
fn within(characters: impl Iterator<Item = char>, max_bytes: usize) -> String {
    let mut text = String::new();
    for character in characters {
        if text.len() + character.len_utf8() > max_bytes {
            break;
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use proptest::prelude::*;

    use super::*;
    use crate::domain::token::PlainToken;

    const LIFETIMES: Lifetimes = Lifetimes {
        absolute: Duration::from_hours(30 * 24),
        idle: Duration::from_hours(24),
    };

    fn session(created_at: Timestamp) -> Session {
        Session {
            id: SessionId::generate(created_at),
            user_id: UserId(Uuid::from_u128(1)),
            created_at,
            last_seen_at: created_at,
            expires_at: created_at + LIFETIMES.absolute,
            auth_methods: AuthMethods::new(),
            client: ClientInfo::default(),
        }
    }

    #[test]
    fn a_session_of_a_fast_clock_lives_no_longer_than_a_new_session() {
        let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let window = Duration::from_mins(5);
        for minutes in [-2 * 24 * 60, -10, 0, 10, 15] {
            let session = session(now + TimeDelta::minutes(minutes));
            assert!(!session.is_ahead(now), "{minutes}");
            assert_eq!(session.is_fresh(window, now), minutes >= -5, "{minutes}");
        }
        let ahead = session(now + TimeDelta::days(2));
        assert!(ahead.is_ahead(now) && !ahead.is_fresh(window, now));
        let corrected = ahead.corrected(&LIFETIMES, now);
        assert!(!corrected.is_ahead(now) && !corrected.is_fresh(window, now));
        assert!(corrected.is_live(&LIFETIMES, now));
        assert_eq!(corrected.expires_at, now + LIFETIMES.absolute);
        assert_eq!(corrected.idle_expires_at(&LIFETIMES), now + LIFETIMES.idle);
    }

    /// The other times of that session are right, and do not change.
    #[test]
    fn a_last_use_on_a_fast_clock_counts_as_now() {
        let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let begun = session(now - Duration::from_hours(1));
        let used = Session {
            last_seen_at: now + TimeDelta::days(2),
            ..begun.clone()
        };
        assert!(used.is_ahead(now));
        let corrected = used.corrected(&LIFETIMES, now);
        assert_eq!(
            (corrected.created_at, corrected.last_seen_at, corrected.expires_at),
            (begun.created_at, now, begun.expires_at)
        );
    }

    #[test]
    fn a_user_agent_is_sanitized_and_truncated() {
        assert_eq!(ClientInfo::new(None, "\n\0").user_agent, None);
        assert_eq!(ClientInfo::new(None, "a\r\nb").user_agent.as_deref(), Some("ab"));
        let kept = |text: &str| ClientInfo::new(None, text).user_agent.unwrap();
        assert_eq!(*kept(&"a".repeat(600)), *"a".repeat(256));
        // Characters of two bytes, then of three bytes: 85 of these are 255 bytes, and the next one does not fit.
        assert_eq!(*kept(&"й".repeat(600)), *"й".repeat(128));
        assert_eq!(*kept(&"€".repeat(600)), *"€".repeat(85));
        assert_eq!(*kept(&format!("{}€b", "a".repeat(254))), *"a".repeat(254));
    }

    #[test]
    fn a_user_agent_contains_no_bidirectional_marks_and_no_token() {
        let kept = |text: &str| ClientInfo::new(None, text).user_agent.unwrap();
        assert_eq!(
            *kept("\u{202e}Fire\u{200b}fox\u{2028}/1\u{feff}\u{85}\u{e0041}"),
            *"Firefox/1"
        );
        // They are removed before the limit is applied.
        let hidden = "\u{2066}".repeat(10_000);
        assert_eq!(*kept(&format!("{hidden}{}", "a".repeat(300))), *"a".repeat(256));
        let token = PlainToken::generate().unwrap();
        assert_eq!(*kept(&format!("app/1 {} x", token.expose())), *"app/1 pid_… x");
        // A token at the limit, and a token at the limit after another token.
        for padding in 0..300 {
            let kept = kept(&format!("{}{1}{1}{1}", ".".repeat(padding), token.expose()));
            assert!(!kept.contains(&token.expose()[4..24]), "{padding}: {kept}");
        }
    }

    proptest! {
        #[test]
        fn a_stored_user_agent_has_no_control_or_format_characters(agent in any::<String>()) {
            let kept = ClientInfo::new(None, &agent).user_agent.unwrap_or_default();
            prop_assert!(kept.len() <= 256 && !kept.chars().any(text::is_control_or_format));
        }
    }
}
