//! Keys of the message counters, and the hashes under which they are stored.

use std::net::IpAddr;

use uuid::Uuid;

use super::{Bounds, PumpingGuard};
use crate::domain::network::{Network, Prefix};
use crate::domain::phone::PhoneNumber;
use crate::domain::throttle::digest;

/// Number of digits at the end of a number that are not part of its prefix.
const DIGITS_OF_SUBSCRIBERS: usize = 4;

/// The key of a message counter.
#[derive(Clone, Copy, Debug)]
pub enum Counted<'a> {
    /// A phone number, for strangers.
    Number(&'a PhoneNumber),
    /// A phone number, for known clients, which have a session of its user or a device on which the user has signed in
    /// before. A user can create any number of both, so the key is the number and not the session or device.
    KnownNumber(&'a PhoneNumber),
    /// The prefix of a number.
    Prefix(&'a PhoneNumber),
    /// A prefix of the network of a client address.
    Address(Prefix),
    /// A calling service. `None`: all services without a name.
    Service(Option<&'a str>),
    /// The country of a number.
    Country(&'a str),
    /// All messages.
    Total,
    /// The cost of all messages.
    Budget,
}

impl Counted<'_> {
    /// The stored key: see [`crate::domain::throttle::Subject::id`].
    #[must_use]
    pub fn id(&self) -> CounterId {
        let (kind, value) = self.kind_and_value();
        CounterId(digest(kind, &value))
    }

    /// The stored key for the requests of strangers from one source.
    #[must_use]
    pub fn id_from(&self, source: CodeSource) -> CounterId {
        let (kind, value) = self.kind_and_value();
        let source = source.octets();
        // The length comes first, so that the value is unambiguous.
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

/// The stored key of a message counter.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CounterId(pub Uuid);

/// The source of requests by strangers.
#[derive(Clone, Copy, Debug)]
pub enum CodeSource {
    /// A client network. It counts by its widest prefix only: four shares of a third would exceed the limit.
    Network(Network),
    /// All requests without a client address.
    Unknown,
}

impl From<Option<IpAddr>> for CodeSource {
    fn from(address: Option<IpAddr>) -> Self {
        address.map_or(Self::Unknown, |address| Self::Network(Network::of(address)))
    }
}

impl CodeSource {
    /// The share of this source in the limits of strangers. Requests without a client address leave a part to client
    /// networks.
    #[must_use]
    pub fn part_of(self, bounds: Bounds) -> Bounds {
        match self {
            Self::Network(_) => bounds.of_a_network(),
            Self::Unknown => bounds.of_strangers(),
        }
    }

    /// The pumping guard that pauses a prefix for this source.
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
