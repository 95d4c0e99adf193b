//! How attempts are slowed down: some failures are free, then each has to wait twice as long as the one before, and with
//! time all is forgotten.
//!
//! What is remembered of a subject is two times: until when something is remembered at all, and when the last attempt
//! was. Each attempt moves the first one on by the *recovery* time of its subject, in which one failure is forgotten; so
//! how far it lies ahead says how many failures are remembered. Nothing has to run for it to be forgotten.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::device::DeviceId;
use super::phone::PhoneNumber;
use super::user::UserId;
use crate::clock::Timestamp;

/// What attempts are counted for.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// Passwords tried for a phone number, whether or not somebody has it.
    SignIn(&'a PhoneNumber),
    /// Wishes to have a phone number, whether or not somebody has it.
    Taking(&'a PhoneNumber),
    /// What somebody with a session of this person tries.
    Person(UserId),
    /// Passwords tried on a device on which the person has signed in before.
    Device(DeviceId),
    /// Codes that are sent to a phone number, whether or not somebody has it, asked for from where nobody says.
    Code(&'a PhoneNumber),
    /// Codes that are sent to a phone number, asked for from an address. Another address is not kept waiting by it.
    CodeFrom(&'a PhoneNumber, IpAddr),
    /// Codes that are asked for on a device on which the person has signed in before.
    DeviceCode(DeviceId),
    /// Codes that a person asks for with their session, for the number that they have.
    PersonCode(UserId),
    /// What comes from this address; of IPv6, from its /64.
    Address(IpAddr),
    /// What comes by this service, or by those that do not say who they are.
    Service(Option<&'a str>),
}

/// The kinds of subjects, for those who count refusals.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubjectKind {
    /// [`Subject::SignIn`].
    Number,
    /// [`Subject::Taking`].
    Taking,
    /// [`Subject::Person`].
    Person,
    /// [`Subject::Device`].
    Device,
    /// [`Subject::Code`] and [`Subject::CodeFrom`].
    Code,
    /// [`Subject::DeviceCode`].
    DeviceCode,
    /// [`Subject::PersonCode`].
    PersonCode,
    /// [`Subject::Address`].
    Address,
    /// [`Subject::Service`].
    Service,
}

impl SubjectKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Number,
        Self::Taking,
        Self::Person,
        Self::Device,
        Self::Code,
        Self::DeviceCode,
        Self::PersonCode,
        Self::Address,
        Self::Service,
    ];

    /// What it is called.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Taking => "taking",
            Self::Person => "person",
            Self::Device => "device",
            Self::Code => "code",
            Self::DeviceCode => "device_code",
            Self::PersonCode => "person_code",
            Self::Address => "address",
            Self::Service => "service",
        }
    }
}

impl Subject<'_> {
    /// Of which kind it is.
    #[must_use]
    pub fn kind(&self) -> SubjectKind {
        match self {
            Self::SignIn(_) => SubjectKind::Number,
            Self::Taking(_) => SubjectKind::Taking,
            Self::Person(_) => SubjectKind::Person,
            Self::Device(_) => SubjectKind::Device,
            Self::Code(_) | Self::CodeFrom(..) => SubjectKind::Code,
            Self::DeviceCode(_) => SubjectKind::DeviceCode,
            Self::PersonCode(_) => SubjectKind::PersonCode,
            Self::Address(_) => SubjectKind::Address,
            Self::Service(_) => SubjectKind::Service,
        }
    }

    /// The name under which attempts are stored: the beginning of a SHA-256. It keeps numbers from being read at a glance,
    /// and nothing more: whoever has the database can try all numbers there are.
    #[must_use]
    pub fn id(&self) -> SubjectId {
        SubjectId(match self {
            Self::SignIn(number) => digest("sign-in", number.as_str().as_bytes()),
            Self::Taking(number) => digest("taking", number.as_str().as_bytes()),
            Self::Person(user) => digest("person", user.0.as_bytes()),
            Self::Device(device) => digest("device", device.0.as_bytes()),
            Self::Code(number) => digest("code", number.as_str().as_bytes()),
            Self::CodeFrom(number, address) => {
                digest("code from address", &digits_from(number.as_str(), *address))
            }
            Self::DeviceCode(device) => digest("device code", device.0.as_bytes()),
            Self::PersonCode(person) => digest("person code", person.0.as_bytes()),
            Self::Address(address) => digest("address", &octets(*address)),
            Self::Service(None) => digest("services without a name", b""),
            Self::Service(Some(name)) => digest("service", name.as_bytes()),
        })
    }
}

/// The beginning of a SHA-256 of something of a kind.
pub(super) fn digest(kind: &str, value: &[u8]) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(kind);
    hash.update([0]);
    hash.update(value);
    let hash: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = hash;
    Uuid::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}

/// The name under which attempts of a subject are stored.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SubjectId(pub Uuid);

/// An address, or the network that counts as one: whoever has one address of IPv6 has at least 2^64 of them. One of IPv4 that is
/// written as one of IPv6 is the same.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(prefix).octets().to_vec()
        }
        IpAddr::V4(address) => address.octets().to_vec(),
    }
}

/// Some digits, and from where they were given. Digits never contain what is between them.
pub(super) fn digits_from(digits: &str, address: IpAddr) -> Vec<u8> {
    [digits.as_bytes(), &[0], &octets(address)].concat()
}

/// How much is tolerated of a subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    /// How many attempts without success have no delay. At least one.
    pub free: u32,
    /// In how long one of them is forgotten. Longer than nothing.
    pub recovery: Duration,
}

/// How long an attempt has to wait when the free ones are used up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delays {
    /// The first delay.
    pub base: Duration,
    /// The longest one: nobody is shut out for longer than this.
    pub max: Duration,
}

impl Delays {
    /// The delay after so many attempts beyond the free ones.
    fn after(&self, beyond: u32) -> Duration {
        let doubled = 1_u32
            .checked_shl(beyond)
            .map(|times| self.base.saturating_mul(times));
        doubled.unwrap_or(self.max).min(self.max)
    }

    /// After how many attempts beyond the free ones the delay does not grow any more.
    fn doublings(&self) -> u32 {
        (0..u32::BITS)
            .find(|beyond| self.after(*beyond) >= self.max)
            .unwrap_or(u32::BITS)
    }
}

/// What is remembered of a subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Memory {
    /// When all is forgotten.
    pub forgotten_at: Timestamp,
    /// When the last attempt was.
    pub last_at: Timestamp,
}

impl Memory {
    /// That of the first attempt.
    #[must_use]
    pub fn of_first(limit: &Limit, now: Timestamp) -> Self {
        Self {
            forgotten_at: now + limit.recovery,
            last_at: now,
        }
    }

    /// What is remembered when there is one more attempt now.
    ///
    /// # Errors
    /// How long that attempt has to wait.
    pub fn attempt(&self, limit: &Limit, delays: &Delays, now: Timestamp) -> Result<Self, Duration> {
        let remembered = (self.forgotten_at - now).to_std().unwrap_or_default();
        let failures = u32::try_from(remembered.as_nanos().div_ceil(limit.recovery.as_nanos().max(1)))
            .unwrap_or(u32::MAX);
        if let Some(beyond) = failures.checked_sub(limit.free) {
            let waits_until = self.last_at + delays.after(beyond);
            // Whoever wrote a time that lies further ahead than any delay has a clock that is wrong, or had one. That must
            // shut nobody out for as long as it is wrong.
            let is_sane = self.last_at <= now + delays.max;
            if let Some(wait) = (waits_until - now)
                .to_std()
                .ok()
                .filter(|wait| is_sane && !wait.is_zero())
            {
                return Err(wait.min(delays.max));
            }
        }
        // More is not remembered than what the longest delay takes: nobody has to recover for ever.
        let most = limit.free.saturating_add(delays.doublings());
        let most = now + limit.recovery.saturating_mul(most).min(LONGEST_MEMORY);
        let forgotten_at = (self.forgotten_at.max(now) + limit.recovery).min(most);
        Ok(Self {
            forgotten_at,
            last_at: now,
        })
    }

    /// What is remembered when `added` of it is taken back. `None`: nothing.
    #[must_use]
    pub fn without(&self, added: Duration, now: Timestamp) -> Option<Self> {
        let forgotten_at = self.forgotten_at - added;
        (forgotten_at > now).then_some(Self {
            forgotten_at,
            ..*self
        })
    }
}

/// The longest that anything is remembered, whatever the settings are: ten years, which every database can write.
const LONGEST_MEMORY: Duration = Duration::from_hours(10 * 365 * 24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, ManualClock};
    use chrono::DateTime;
    use proptest::prelude::*;

    const LIMIT: Limit = Limit {
        free: 3,
        recovery: Duration::from_hours(1),
    };

    const DELAYS: Delays = Delays {
        base: Duration::from_secs(1),
        max: Duration::from_secs(60),
    };

    fn start() -> Timestamp {
        DateTime::from_timestamp(1_767_225_600, 0).unwrap()
    }

    fn id(address: &str) -> SubjectId {
        Subject::Address(address.parse().unwrap()).id()
    }

    #[test]
    fn an_address_counts_by_its_network() {
        for (one, other, is_same) in [
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("::ffff:192.0.2.7", "::ffff:192.0.2.8", false),
        ] {
            assert_eq!(id(one) == id(other), is_same, "{one} {other}");
        }
    }

    /// By `printf 'sign-in\0+998901234567' | sha256sum`.
    #[test]
    fn a_number_is_stored_as_the_beginning_of_a_hash() {
        let number = PhoneNumber::parse("+998901234567", None).unwrap();
        let expected = "23eeaa6a5aa49f459d01754f298c04d2";
        assert_eq!(Subject::SignIn(&number).id().0.simple().to_string(), expected);
        assert_ne!(Subject::SignIn(&number).id(), Subject::Taking(&number).id());
        assert_ne!(Subject::Service(None).id(), Subject::Service(Some("")).id());
        // By `printf 'code from address\0+998901234567\0\300\000\002\007' | sha256sum`.
        let address = "192.0.2.7".parse().unwrap();
        let expected = "ed55ec53b48f03b0832b9787d7f97d02";
        assert_eq!(
            Subject::CodeFrom(&number, address).id().0.simple().to_string(),
            expected
        );
    }

    /// Somebody who tries as soon as they may.
    #[test]
    fn delays_double_up_to_the_longest() {
        let clock = ManualClock::new(start());
        let mut memory = Memory::of_first(&LIMIT, clock.now());
        let mut waits = Vec::new();
        for _ in 0..12 {
            let mut waited = 0;
            memory = loop {
                match memory.attempt(&LIMIT, &DELAYS, clock.now()) {
                    Ok(memory) => break memory,
                    Err(wait) => {
                        waited += wait.as_secs();
                        clock.advance(wait);
                    }
                }
            };
            waits.push(waited);
        }
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn one_failure_is_forgotten_in_the_recovery_time_and_all_in_the_end() {
        let now = start();
        let mut memory = Memory::of_first(&LIMIT, now);
        for _ in 0..2 {
            memory = memory.attempt(&LIMIT, &DELAYS, now).unwrap();
        }
        assert_eq!(memory.attempt(&LIMIT, &DELAYS, now), Err(Duration::from_secs(1)));
        // One was forgotten: one more is free, and then the next has to wait again.
        let later = now + LIMIT.recovery;
        let again = memory.attempt(&LIMIT, &DELAYS, later).unwrap();
        assert_eq!(again.attempt(&LIMIT, &DELAYS, later), Err(Duration::from_secs(1)));
        assert_eq!(memory.forgotten_at, now + 3 * LIMIT.recovery);
        let fresh = memory.attempt(&LIMIT, &DELAYS, memory.forgotten_at).unwrap();
        assert_eq!(fresh, Memory::of_first(&LIMIT, memory.forgotten_at));
    }

    #[test]
    fn a_clock_that_was_wrong_shuts_nobody_out() {
        let now = start();
        let mut memory = Memory::of_first(&LIMIT, now + Duration::from_hours(1000));
        memory.forgotten_at += 100 * LIMIT.recovery;
        let mended = memory.attempt(&LIMIT, &DELAYS, now).unwrap();
        assert!(mended.forgotten_at <= now + 9 * LIMIT.recovery);
        assert_eq!(mended.last_at, now);
    }

    proptest! {
        /// Whatever happened before: nobody waits longer than the longest delay, a refused attempt may be made after what
        /// it was told, what is taken back is what was added, and memory ends.
        #[test]
        fn nobody_is_shut_out(
            free in 1..20_u32,
            recovery in 1..100_000_u64,
            (base, max) in (1..1000_u64, 1000..100_000_u64),
            steps in proptest::collection::vec((0..200_000_u64, any::<bool>()), 1..50),
        ) {
            let limit = Limit { free, recovery: Duration::from_millis(recovery) };
            let delays = Delays { base: Duration::from_millis(base), max: Duration::from_millis(max) };
            let mut now = start();
            let mut memory = Memory::of_first(&limit, now);
            for (passes, succeeds) in steps {
                now += Duration::from_millis(passes);
                let after = match memory.attempt(&limit, &delays, now) {
                    Ok(after) => after,
                    Err(wait) => {
                        prop_assert!(!wait.is_zero() && wait <= delays.max);
                        now += wait;
                        memory.attempt(&limit, &delays, now).unwrap()
                    }
                };
                let most = u64::from(free + delays.doublings()) * recovery;
                prop_assert!(after.forgotten_at <= now + Duration::from_millis(most));
                let added = (after.forgotten_at - memory.forgotten_at.max(now)).to_std().unwrap();
                prop_assert!(added <= limit.recovery);
                if succeeds {
                    let given_back = after.without(added, now);
                    let expected = Some(memory.forgotten_at).filter(|at| *at > now);
                    prop_assert_eq!(given_back.map(|memory| memory.forgotten_at), expected);
                    memory = given_back.unwrap_or(after);
                } else {
                    memory = after;
                }
            }
        }
    }
}
