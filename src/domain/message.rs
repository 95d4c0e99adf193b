//! Messages to people: codes, and notices of what has happened.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use chrono::DateTime;
use uuid::Uuid;

use super::code::ChallengeId;
use super::network::Network;
use super::phone::PhoneNumber;
use super::throttle::digest;
use super::user::UserId;
use crate::clock::{self, Timestamp};
use crate::i18n::Language;

/// Maximum time for which delivery of a message is retried: the longest lifetime of a code, and the lifetime of a
/// notice.
pub const MAX_LIFETIME: Duration = Duration::from_mins(30);

/// A message's id, a UUIDv7. A provider may use it to tell a message that is sent twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MessageId(pub Uuid);

impl MessageId {
    /// A new id.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        Self(clock::new_id(now))
    }

    /// When the message was written. `None`: it is none of our ids.
    #[must_use]
    pub fn written_at(self) -> Option<Timestamp> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Delivery class of a message: known askers come before strangers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeliveryClass {
    /// The asker has a session of the user, or a known device.
    Known,
    /// Anybody else.
    Stranger,
}

impl DeliveryClass {
    /// All of them, the first in line first.
    pub const ALL: [Self; 2] = [Self::Known, Self::Stranger];
}

/// The messages of one client network, which take turns with those of other networks. Only a hash is stored.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FlowId(pub Uuid);

/// The queue of a message in the outbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The class.
    pub class: DeliveryClass,
    /// The flow. `None`: the version before wrote the message.
    pub flow: Option<FlowId>,
}

impl Origin {
    /// The queue of a message that a client asked for: the flow is the site of its address. Without an address, all
    /// clients of a calling service are one flow.
    #[must_use]
    pub fn new(class: DeliveryClass, address: Option<IpAddr>, service: Option<&str>) -> Self {
        let flow = match (address, service) {
            (Some(address), _) => digest("outbox network", &Network::of(address).site().octets()),
            (None, Some(service)) => digest("outbox service", service.as_bytes()),
            (None, None) => digest("outbox services without a name", b""),
        };
        Self {
            class,
            flow: Some(FlowId(flow)),
        }
    }
}

/// What a message says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// The code of a challenge, which says where it goes.
    Code(ChallengeId),
    /// That something has happened.
    Notice(Notice),
}

/// A message without a code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notice {
    /// What of.
    pub kind: NoticeKind,
    /// Where it goes.
    pub to: PhoneNumber,
    /// The person who is told.
    pub person: UserId,
    /// The language of the message.
    pub language: Language,
}

/// What people are told of. The names are stored, so they never change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoticeKind {
    /// Somebody wanted to register with a number that has an account.
    AlreadyRegistered,
    /// The account has another number now. It goes to the old one.
    PhoneChanged,
}

impl NoticeKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::AlreadyRegistered, Self::PhoneChanged];

    /// The name, of at most 24 characters. `code` is none.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyRegistered => "already_registered",
            Self::PhoneChanged => "phone_changed",
        }
    }

    /// Takes a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}
