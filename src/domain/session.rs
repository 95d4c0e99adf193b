//! Sessions: one sign-in of a person on one device.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use arrayvec::ArrayVec;
use uuid::Uuid;

use super::user::UserId;
use crate::clock::{self, Timestamp};

/// A session's id, a UUIDv7. It is not secret.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SessionId(pub Uuid);

impl SessionId {
    /// A new id.
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

/// How a person proved who they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthMethod {
    /// By password.
    Password,
    /// By a one-time code in an SMS.
    SmsCode,
}

impl AuthMethod {
    /// All of them.
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

/// All by which a person proved who they are in one sign-in, each once. Sessions in memory have it in themselves.
pub type AuthMethods = ArrayVec<AuthMethod, { AuthMethod::ALL.len() }>;

/// How long sessions live.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// From signing in to the end.
    pub absolute: Duration,
    /// From the last use to the end.
    pub idle: Duration,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The id.
    pub id: SessionId,
    /// The person whose session it is.
    pub user_id: UserId,
    /// When the person signed in.
    pub created_at: Timestamp,
    /// When the session was last used, to about a minute.
    pub last_seen_at: Timestamp,
    /// When the session ends at the latest.
    pub expires_at: Timestamp,
    /// How the person proved who they are.
    pub auth_methods: AuthMethods,
    /// The device that signed in.
    pub client: ClientInfo,
}

impl Session {
    /// When the session ends if it is not used until then.
    #[must_use]
    pub fn idle_expires_at(&self, lifetimes: &Lifetimes) -> Timestamp {
        self.idle_expires_at_if_seen(self.last_seen_at, lifetimes)
    }

    /// The same for a session that was last used at another time than it says.
    #[must_use]
    pub fn idle_expires_at_if_seen(&self, last_seen_at: Timestamp, lifetimes: &Lifetimes) -> Timestamp {
        self.expires_at.min(last_seen_at + lifetimes.idle)
    }

    /// Whether the session has not ended by itself. The instant of its end is after the end.
    #[must_use]
    pub fn is_live(&self, lifetimes: &Lifetimes, now: Timestamp) -> bool {
        now < self.idle_expires_at(lifetimes)
    }
}

/// A person's device, as the calling service saw it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientInfo {
    /// The IP address.
    pub ip_address: Option<IpAddr>,
    /// The user agent, without control characters, of at most [`ClientInfo::MAX_USER_AGENT_LENGTH`] characters.
    pub user_agent: Option<Box<str>>,
}

impl ClientInfo {
    /// The most characters of a user agent that are kept.
    pub const MAX_USER_AGENT_LENGTH: usize = 512;

    /// Takes what the calling service knows. A user agent is the device's own text and never a reason to refuse a
    /// sign-in: control characters are left out and what is too long is cut off.
    #[must_use]
    pub fn new(ip_address: Option<IpAddr>, user_agent: &str) -> Self {
        let user_agent: String = user_agent
            .chars()
            .filter(|c| !c.is_control())
            .take(Self::MAX_USER_AGENT_LENGTH)
            .collect();
        Self {
            ip_address,
            user_agent: Some(user_agent.into_boxed_str()).filter(|text| !text.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_is_cleaned_and_cut() {
        assert_eq!(ClientInfo::new(None, "\n\0").user_agent, None);
        assert_eq!(ClientInfo::new(None, "a\r\nb").user_agent.as_deref(), Some("ab"));
        assert_eq!(
            ClientInfo::new(None, &"й".repeat(600)).user_agent.as_deref(),
            Some("й".repeat(512).as_str())
        );
    }
}
