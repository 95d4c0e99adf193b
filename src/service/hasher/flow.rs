//! Flow classifier of the fair queue: selects the service, network and bucket of a job.
//!
//! The keys are keyed hashes with a random key per process, so that no caller can choose numbers that share the bucket
//! of another number.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::LazyLock;

use uuid::Uuid;

use crate::domain::access::Caller;
use crate::domain::code::ChallengeId;
use crate::domain::network::Network;
use crate::domain::phone::PhoneNumber;
use crate::domain::session::DeviceId;
use crate::domain::user::UserId;
use crate::service::sessions::Actor;

/// Number of buckets in a network. Numbers in the same bucket divide its share of the threads.
const BUCKETS: u64 = 1024;

static HASH_KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Key of a child in its branch.
pub(super) type FlowKey = u64;

/// Subject of a job, which selects its bucket.
#[derive(Clone, Copy, Debug, Hash)]
pub enum FlowSubject<'a> {
    /// A phone number, whether or not it has an account.
    PhoneNumber(&'a str),
    /// A known device, which does not share the bucket of its number with unknown clients.
    Device(Uuid),
    /// A user with a session.
    User(Uuid),
    /// A challenge. Its number is unknown until its code is checked.
    Challenge(Uuid),
    /// The operator at the command line.
    Operator,
}

impl<'a> From<&'a PhoneNumber> for FlowSubject<'a> {
    fn from(number: &'a PhoneNumber) -> Self {
        Self::PhoneNumber(number.as_str())
    }
}

impl From<DeviceId> for FlowSubject<'_> {
    fn from(device: DeviceId) -> Self {
        Self::Device(device.0)
    }
}

impl From<UserId> for FlowSubject<'_> {
    fn from(user: UserId) -> Self {
        Self::User(user.0)
    }
}

impl From<ChallengeId> for FlowSubject<'_> {
    fn from(challenge: ChallengeId) -> Self {
        Self::Challenge(challenge.0)
    }
}

/// Flow of a job: calling service, client network and bucket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flow([FlowKey; 3]);

impl Flow {
    /// Flow of a job of this calling service. All its calls without a client address form one network.
    #[must_use]
    pub fn new<'a>(caller: &Caller, address: Option<IpAddr>, subject: impl Into<FlowSubject<'a>>) -> Self {
        let network = address.map(|address| Network::of(address).site());
        Self([
            keyed(&caller.service),
            keyed(&network),
            keyed(&subject.into()) % BUCKETS,
        ])
    }

    /// Flow of the operator at the command line.
    #[must_use]
    pub fn operator() -> Self {
        Self::new(&Caller::default(), None, FlowSubject::Operator)
    }

    /// Flow of a user with a session, from the network of the session.
    #[must_use]
    pub fn of_actor(actor: &Actor) -> Self {
        Self::new(&actor.caller, actor.session.client.ip_address, actor.user.id)
    }

    /// Keys of the branches from the root to the bucket.
    pub(super) const fn path(self) -> [FlowKey; 3] {
        self.0
    }

    #[cfg(test)]
    pub(super) const fn of_path(path: [FlowKey; 3]) -> Self {
        Self(path)
    }
}

fn keyed(value: &impl Hash) -> FlowKey {
    HASH_KEY.hash_one(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(service: Option<&str>, address: Option<&str>, number: &str) -> Flow {
        let caller = Caller {
            service: service.map(Into::into),
            request_id: None,
        };
        let address = address.map(|address| address.parse().unwrap());
        let number = PhoneNumber::parse(number, None).unwrap();
        Flow::new(&caller, address, &number)
    }

    #[test]
    fn service_network_and_number_select_the_flow() {
        let number = "+998901234567";
        let one = flow(Some("shop"), Some("192.0.2.7"), number);
        assert_eq!(one, flow(Some("shop"), Some("::ffff:192.0.2.7"), number));
        let [service, network, bucket] = one.path();
        let [other, same_network, same_bucket] = flow(Some("bank"), Some("192.0.2.7"), number).path();
        assert!(other != service && (same_network, same_bucket) == (network, bucket));
        let without = [None, Some("192.0.2.8")].map(|address| flow(Some("shop"), address, number).path()[1]);
        assert!(!without.contains(&network) && without[0] != without[1]);
        let nameless = flow(None, Some("192.0.2.7"), number).path()[0];
        assert!(nameless != service);
    }

    #[test]
    fn an_ipv6_site_is_one_network() {
        let network = |address| flow(None, Some(address), "+998901234567").path()[1];
        assert_eq!(network("2001:db8:1:2::3"), network("2001:db8:1:ffff::1"));
        assert_ne!(network("2001:db8:1:2::3"), network("2001:db8:2:2::3"));
    }

    #[test]
    fn numbers_are_spread_over_the_buckets() {
        let buckets: std::collections::HashSet<FlowKey> = (0..1000)
            .map(|number| flow(None, None, &format!("+99890{:07}", 1_234_567 + number)).path()[2])
            .collect();
        // 1000 balls in 1024 boxes fill 638 boxes, with a standard deviation of 13.
        assert!((560..=716).contains(&buckets.len()), "{}", buckets.len());
        assert!(buckets.iter().all(|bucket| *bucket < BUCKETS));
        let user = Flow::new(&Caller::default(), None, UserId(Uuid::from_u128(7)));
        let device = Flow::new(&Caller::default(), None, DeviceId(Uuid::from_u128(7)));
        assert_eq!(user.path()[0], device.path()[0]);
    }
}
