//! Property tests of limits by network: the share of a /48 in each limit, and the independence of networks.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;
use std::time::Duration;

use chrono::DateTime;
use proptest::prelude::*;

use super::{Network, Prefix};
use crate::clock::Timestamp;
use crate::domain::phone::PhoneNumber;
use crate::domain::sms_limits::{Bounds, Counted, Counter, CounterId};
use crate::domain::throttle::{Delays, Limit, Memory, Subject, SubjectId};

/// The multiple of the limit of one address that the widest prefix may use.
const WIDEST: usize = 4;

/// A limit by network, as the service applies it: an attempt is reserved for all prefixes, or for none.
trait ByNetwork {
    /// Reserves an attempt, or returns the time that the address has to wait.
    fn attempt(&mut self, address: IpAddr, now: Timestamp) -> Result<(), Duration>;

    /// Attempts from each address until it is refused. Returns the number of attempts, and the time of the next
    /// possible one.
    fn exhaust(&mut self, addresses: &[IpAddr], now: Timestamp) -> (usize, Timestamp) {
        let (mut attempts, mut next) = (0, Timestamp::MAX_UTC);
        for address in addresses {
            let wait = loop {
                match self.attempt(*address, now) {
                    Ok(()) => attempts += 1,
                    Err(wait) => break wait,
                }
            };
            next = next.min(now + wait);
        }
        (attempts, next)
    }

    /// Returns an upper limit of the attempts of one address until a time.
    fn maximum(&self, time: Duration) -> usize;

    /// Attempts from each address as soon as it is allowed, until `end`.
    fn exhaust_until(&mut self, addresses: &[IpAddr], end: Timestamp) -> usize {
        let (mut all, mut now) = (0, start());
        while now <= end {
            let (attempts, next) = self.exhaust(addresses, now);
            all += attempts;
            now = next;
        }
        all
    }
}

#[derive(Clone, Debug)]
struct Attempts {
    limit: Limit,
    delays: Delays,
    subject: fn(Prefix) -> Subject<'static>,
    memories: HashMap<SubjectId, Memory>,
}

impl ByNetwork for Attempts {
    fn attempt(&mut self, address: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let mut after = Vec::new();
        for prefix in Network::of(address).prefixes() {
            let subject = (self.subject)(prefix);
            let limit = self.limit.times(subject.factor());
            let (id, delays) = (subject.id(), subject.delays(&limit, self.delays));
            after.push(match self.memories.get(&id) {
                Some(memory) => (id, memory.attempt(&limit, &delays, now)?),
                None => (id, Memory::of_first(&limit, now)),
            });
        }
        self.memories.extend(after);
        Ok(())
    }

    /// An attempt adds the recovery time to the memory, or waits for the longest delay if the memory is full. So the
    /// number of attempts is at most what the memory holds, and one in each recovery time and in each longest delay.
    /// An address that attempts as early as it may gets less, since its delays are doubled.
    fn maximum(&self, time: Duration) -> usize {
        let subject = (self.subject)(Network::of(address(1, 0)).narrowest());
        let delays = subject.delays(&self.limit, self.delays);
        let doublings = (0..u32::BITS).find(|doublings| delays.base * 2_u32.pow(*doublings) >= delays.max);
        let intervals = |length: Duration| time.as_micros().div_ceil(length.as_micros());
        let recovered = usize::try_from(intervals(self.limit.recovery) + intervals(delays.max)).unwrap();
        usize::try_from(self.limit.free + doublings.unwrap()).unwrap() + recovered
    }
}

#[derive(Clone, Debug)]
struct MessageLimits {
    bounds: Bounds,
    counters: HashMap<CounterId, Counter>,
}

impl ByNetwork for MessageLimits {
    fn attempt(&mut self, address: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let mut after = Vec::new();
        for prefix in Network::of(address).prefixes() {
            let id = Counted::Address(prefix).id();
            let counter = self.counters.get(&id).copied();
            let counter = counter.unwrap_or_else(|| Counter::new(now));
            after.push((id, counter.add(&self.bounds.times(prefix.factor()), 1, now)?));
        }
        self.counters.extend(after);
        Ok(())
    }

    /// The windows have no delays, so one address gets all that its limits allow.
    fn maximum(&self, time: Duration) -> usize {
        self.clone().exhaust_until(&[address(1, 0)], start() + time)
    }
}

fn start() -> Timestamp {
    DateTime::from_timestamp(1_767_225_600, 0).unwrap()
}

/// An address in a subnet of a site.
fn address(site: u16, subnet: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, site, subnet, 1, 2, 3, 4).into()
}

fn site(subnets: &[u16]) -> Vec<IpAddr> {
    subnets.iter().map(|subnet| address(1, *subnet)).collect()
}

/// Subnets of a /48: few /56 with many /64.
fn subnets() -> impl Strategy<Value = Vec<u16>> {
    let subnet = (0..4_u16, 0..8_u16).prop_map(|(of_56, of_64)| of_56 << 8 | of_64);
    proptest::collection::vec(subnet, 1..12)
}

static NUMBER: LazyLock<PhoneNumber> = LazyLock::new(|| PhoneNumber::parse("+998901234567", None).unwrap());

/// All subjects with a network.
const SUBJECTS: [fn(Prefix) -> Subject<'static>; 3] = [Subject::Address, Subject::Creation, |prefix| {
    Subject::CodeFrom(&NUMBER, prefix)
}];

prop_compose! {
    fn attempts()(
        free in 1..20_u32,
        recovery in 1000..100_000_u64,
        (base, max) in (1..2000_u64, 2000..100_000_u64),
        subject in proptest::sample::select(SUBJECTS.to_vec()),
    ) -> Attempts {
        Attempts {
            limit: Limit { free, recovery: Duration::from_millis(recovery) },
            delays: Delays { base: Duration::from_millis(base), max: Duration::from_millis(max) },
            subject,
            memories: HashMap::new(),
        }
    }
}

prop_compose! {
    fn messages()(
        hour in proptest::option::of(1..20_u64),
        day in proptest::option::of(1..50_u64),
    ) -> MessageLimits {
        // Without a limit the attempts would never end.
        let bounds = Bounds { hour: hour.or(Some(20)), day };
        MessageLimits { bounds, counters: HashMap::new() }
    }
}

/// The addresses of one site get at most four times the attempts of one address. Initially exactly that holds. Later,
/// they get at most four times the maximum of one address: three quarters of a recovered attempt are no attempt for one
/// address, and three for the site.
fn a_site_gets_four_times(
    new: &(impl ByNetwork + Clone),
    subnets: &[u16],
    time: Duration,
) -> Result<(), TestCaseError> {
    let one = new.clone().exhaust(&[address(1, 0)], start()).0;
    let many = new.clone().exhaust(&site(subnets), start()).0;
    prop_assert!(one >= 1 && many <= WIDEST * one, "{many} of {one} at once");
    let maximum = new.maximum(time);
    let many = new.clone().exhaust_until(&site(subnets), start() + time);
    prop_assert!(
        many < WIDEST * (maximum + 1),
        "{many} with a maximum of {maximum} for one address"
    );
    Ok(())
}

/// A site that uses up its limit leaves another site as much as if that were alone.
fn another_site_is_not_disturbed(
    new: &(impl ByNetwork + Clone),
    subnets: &[u16],
    steps: &[u64],
) -> Result<(), TestCaseError> {
    let (mut alone, mut shared, mut now) = (new.clone(), new.clone(), start());
    for passes in steps {
        now += Duration::from_millis(*passes);
        shared.exhaust(&site(subnets), now);
        let other = [address(2, 0)];
        prop_assert_eq!(alone.exhaust(&other, now), shared.exhaust(&other, now));
    }
    Ok(())
}

/// All addresses together get the attempts of one of them.
fn addresses_share(new: &(impl ByNetwork + Clone), addresses: &[IpAddr]) -> Result<(), TestCaseError> {
    let of_all = new.clone().exhaust(addresses, start());
    for address in addresses {
        prop_assert_eq!(new.clone().exhaust(&[*address], start()), of_all);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_subnets_of_a_site_get_four_times_the_attempts_of_one_address(
        new in attempts(),
        subnets in subnets(),
        seconds in 0..400_u64,
        steps in proptest::collection::vec(0..100_000_u64, 1..8),
    ) {
        a_site_gets_four_times(&new, &subnets, Duration::from_secs(seconds))?;
        another_site_is_not_disturbed(&new, &subnets, &steps)?;
    }

    #[test]
    fn the_subnets_of_a_site_get_four_times_the_messages_of_one_address(
        new in messages(),
        subnets in subnets(),
        seconds in 0..200_000_u64,
        steps in proptest::collection::vec(0..20_000_000_u64, 1..8),
    ) {
        a_site_gets_four_times(&new, &subnets, Duration::from_secs(seconds))?;
        another_site_is_not_disturbed(&new, &subnets, &steps)?;
    }

    /// IPv4-mapped (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056) and Teredo (RFC 4380) addresses of an IPv4 address.
    #[test]
    fn all_aliases_of_an_ipv4_address_share_each_limit(new in attempts(), texts in messages(), ipv4: u32) {
        let [a, b] = [ipv4 >> 16, ipv4 & 0xffff].map(|half| u16::try_from(half).unwrap());
        let aliases = [
            IpAddr::V4(ipv4.into()),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, a, b).into(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b).into(),
            Ipv6Addr::new(0x2002, a, b, 7, 0, 0, 0, 1).into(),
            Ipv6Addr::new(0x2001, 0, 9, 9, 9, 9, !a, !b).into(),
        ];
        addresses_share(&new, &aliases)?;
        addresses_share(&texts, &aliases)?;
    }
}
