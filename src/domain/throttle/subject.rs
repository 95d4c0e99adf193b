//! What attempts are counted for, and under which name that is stored.

use std::net::{IpAddr, Ipv6Addr};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::domain::device::DeviceId;
use crate::domain::phone::PhoneNumber;
use crate::domain::user::UserId;

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
    /// Codes that are sent to a phone number, asked for by who is known there: with a session of its person, or on a device on
    /// which they have signed in before.
    KnownCode(&'a PhoneNumber),
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
    /// [`Subject::KnownCode`].
    KnownCode,
    /// [`Subject::Address`].
    Address,
    /// [`Subject::Service`].
    Service,
}

impl SubjectKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Number,
        Self::Taking,
        Self::Person,
        Self::Device,
        Self::Code,
        Self::KnownCode,
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
            Self::KnownCode => "known_code",
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
            Self::KnownCode(_) => SubjectKind::KnownCode,
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
            Self::KnownCode(number) => digest("known code", number.as_str().as_bytes()),
            Self::Address(address) => digest("address", &network(*address, ADDRESS_BITS)),
            Self::Service(None) => digest("services without a name", b""),
            Self::Service(Some(name)) => digest("service", name.as_bytes()),
        })
    }
}

/// The beginning of a SHA-256 of something of a kind.
pub(in crate::domain) fn digest(kind: &str, value: &[u8]) -> Uuid {
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

/// How many bits of an address of IPv6 count: whoever has one address has at least 2^64 of them.
pub(in crate::domain) const ADDRESS_BITS: u32 = 64;

/// The octets of an address; of one of IPv6, those of its network of so many bits. One of IPv4 that is written as one of IPv6 is the same.
pub(in crate::domain) fn network(address: IpAddr, bits: u32) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
            let network = u128::from(address) & !rest;
            Ipv6Addr::from(network).octets().to_vec()
        }
        IpAddr::V4(address) => address.octets().to_vec(),
    }
}

/// Digits never contain what is between them and the address.
fn digits_from(digits: &str, address: IpAddr) -> Vec<u8> {
    [digits.as_bytes(), &[0], &network(address, ADDRESS_BITS)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
