//! Messages to users: one-time codes, and notices of changes to an account.

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

/// The ID of a message, a UUIDv7. A provider can use it to recognize a message that is sent twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MessageId(pub Uuid);

impl MessageId {
    /// Creates a new ID.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        Self(clock::new_id(now))
    }

    /// The time at which the message was written. `None`: the ID is not a UUIDv7.
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

/// Delivery class of a message: messages to known clients are sent before those to strangers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeliveryClass {
    /// The client has a session of the user, or a known device.
    Known,
    /// Any other client.
    Stranger,
}

impl DeliveryClass {
    /// All classes, in order of priority.
    pub const ALL: [Self; 2] = [Self::Known, Self::Stranger];
}

/// The flow of a message: the messages of one client network. The outbox serves flows in turn. Only a hash is stored.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FlowId(pub Uuid);

/// The queue of a message in the outbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The class.
    pub class: DeliveryClass,
    /// The flow. `None`: the previous version of this program wrote the message.
    pub flow: Option<FlowId>,
}

impl Origin {
    /// The queue of a message that a client requested: the flow is the site of its address. Without an address, all
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

/// The content of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// The code of a challenge. The challenge has the number and the language.
    Code(ChallengeId),
    /// A notice.
    Notice(Notice),
}

/// A message without a code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notice {
    /// The kind.
    pub kind: NoticeKind,
    /// The number that receives the message.
    pub to: PhoneNumber,
    /// The user that the notice informs.
    pub person: UserId,
    /// The language of the message.
    pub language: Language,
}

/// The kind of a notice. The names are stored, so they never change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoticeKind {
    /// A client requested a registration with a number that has an account.
    AlreadyRegistered,
    /// The number of the account has changed. The notice goes to the old number.
    PhoneChanged,
}

impl NoticeKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::AlreadyRegistered, Self::PhoneChanged];

    /// The name, at most 24 characters. It is never `code`, which the outbox stores for codes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyRegistered => "already_registered",
            Self::PhoneChanged => "phone_changed",
        }
    }

    /// The kind with this name. `None`: no kind has it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}
