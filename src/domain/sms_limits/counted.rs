//! What messages are counted for, and under which name that is stored.

use std::net::IpAddr;

use uuid::Uuid;

use super::{Bounds, PumpingGuard};
use crate::domain::network::{Network, Prefix};
use crate::domain::phone::PhoneNumber;
use crate::domain::throttle::digest;

/// How many digits at the end of a number do not belong to its prefix.
const DIGITS_OF_SUBSCRIBERS: usize = 4;

/// What messages are counted for.
#[derive(Clone, Copy, Debug)]
pub enum Counted<'a> {
    /// A phone number, for strangers.
    Number(&'a PhoneNumber),
    /// A phone number, for those who are known there: they have a session of its person, or a device on which that
    /// person has signed in before. They may have as many of both as they like.
    KnownNumber(&'a PhoneNumber),
    /// The prefix of a number.
    Prefix(&'a PhoneNumber),
    /// A prefix of the network of a client address.
    Address(Prefix),
    /// A calling service, or those that do not say who they are.
    Service(Option<&'a str>),
    /// The country of a number.
    Country(&'a str),
    /// All messages.
    Total,
    /// What all messages cost.
    Budget,
}

impl Counted<'_> {
    /// The name under which it is stored: see [`crate::domain::throttle::Subject::id`].
    #[must_use]
    pub fn id(&self) -> CounterId {
        let (kind, value) = self.kind_and_value();
        CounterId(digest(kind, &value))
    }

    /// The name under which is stored what strangers ask for from one source.
    #[must_use]
    pub fn id_from(&self, source: CodeSource) -> CounterId {
        let (kind, value) = self.kind_and_value();
        let source = source.octets();
        // The length first, so that nothing can be read in two ways.
        let length = u8::try_from(source.len()).unwrap_or(u8::MAX);
        let value = [&[length], source.as_slice(), &value].concat();
        CounterId(digest(&format!("{kind} from"), &value))
    }

    fn kind_and_value(&self) -> (&'static str, Vec<u8>) {
        match self {
            Self::Number(number) => ("sms number", number.as_str().into()),
            Self::KnownNumber(number) => ("sms known number", number.as_str().into()),
            Self::Prefix(number) => ("sms prefix", prefix(number).into()),
            Self::Address(prefix) => ("sms address", prefix.key()),
            Self::Service(None) => ("sms services without a name", Vec::new()),
            Self::Service(Some(name)) => ("sms service", (*name).into()),
            Self::Country(code) => ("sms country", (*code).into()),
            Self::Total => ("sms total", Vec::new()),
            Self::Budget => ("sms budget", Vec::new()),
        }
    }
}

fn prefix(number: &PhoneNumber) -> &str {
    let number = number.as_str();
    number
        .len()
        .checked_sub(DIGITS_OF_SUBSCRIBERS)
        .and_then(|length| number.get(..length))
        .unwrap_or(number)
}

/// The name under which messages are counted.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CounterId(pub Uuid);

/// The origin of requests by strangers.
#[derive(Clone, Copy, Debug)]
pub enum CodeSource {
    /// A client network. It counts once, by its widest prefix: four shares of a third would be more than there is.
    Network(Network),
    /// Nobody says. All of these are one.
    Unknown,
}

impl From<Option<IpAddr>> for CodeSource {
    fn from(address: Option<IpAddr>) -> Self {
        address.map_or(Self::Unknown, |address| Self::Network(Network::of(address)))
    }
}

impl CodeSource {
    /// How much there is for this source of what strangers may get. Those that nobody tells apart leave something to
    /// those that are told apart.
    #[must_use]
    pub fn part_of(self, bounds: Bounds) -> Bounds {
        match self {
            Self::Network(_) => bounds.of_a_network(),
            Self::Unknown => bounds.of_strangers(),
        }
    }

    /// When a prefix is paused for this source.
    #[must_use]
    pub fn pumping_guard(self, pumping_guard: PumpingGuard) -> PumpingGuard {
        match self {
            Self::Network(_) => pumping_guard.of_a_source(),
            Self::Unknown => pumping_guard,
        }
    }

    fn octets(self) -> Vec<u8> {
        match self {
            Self::Network(network) => network.site().octets(),
            Self::Unknown => Vec::new(),
        }
    }
}
