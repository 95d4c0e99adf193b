//! Throttle subjects: the keys of the rate limiter, and the hashes under which they are stored.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Delays, Limit};
use crate::domain::network::Prefix;
use crate::domain::phone::PhoneNumber;
use crate::domain::session::DeviceId;
use crate::domain::user::UserId;

/// The key under which attempts are limited.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// Sign-ins by password with a phone number, whether or not an account has it.
    SignIn(&'a PhoneNumber),
    /// Claims of a phone number by registrations and changes of number, whether or not an account has it.
    PhoneClaim(&'a PhoneNumber),
    /// Attempts with a session of this user.
    Person(UserId),
    /// Sign-ins by password on a device on which the user has signed in before.
    Device(DeviceId),
    /// Codes that are sent to a phone number, whether or not an account has it, requested without a client address.
    Code(&'a PhoneNumber),
    /// Codes that are sent to a phone number, requested from a prefix of a network. Other networks are not delayed.
    CodeFrom(&'a PhoneNumber, Prefix),
    /// Codes that are sent to a phone number, requested by a known client: with a session of its user, or on a device
    /// on which the user has signed in before.
    KnownCode(&'a PhoneNumber),
    /// Wrong codes for a phone number, in all challenges that strangers requested.
    CodeGuess(&'a PhoneNumber),
    /// Wrong codes for a phone number, in all challenges that were requested on a known device or with a session of its
    /// user.
    KnownCodeGuess(&'a PhoneNumber),
    /// Attempts from a prefix of a network: an IPv4 address, or the /64, the /56 and the /48 of an IPv6 address.
    Address(Prefix),
    /// Accounts that strangers create from a prefix of a network. Successes count, too.
    Creation(Prefix),
    /// Attempts by a calling service. `None`: all services without a name.
    Service(Option<&'a str>),
}

/// The kinds of subjects, as labels of metrics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubjectKind {
    /// [`Subject::SignIn`].
    Number,
    /// [`Subject::PhoneClaim`].
    PhoneClaim,
    /// [`Subject::Person`].
    Person,
    /// [`Subject::Device`].
    Device,
    /// [`Subject::Code`] and [`Subject::CodeFrom`].
    Code,
    /// [`Subject::KnownCode`].
    KnownCode,
    /// [`Subject::CodeGuess`].
    CodeGuess,
    /// [`Subject::KnownCodeGuess`].
    KnownCodeGuess,
    /// [`Subject::Address`].
    Address,
    /// [`Subject::Creation`].
    Creation,
    /// [`Subject::Service`].
    Service,
}

impl SubjectKind {
    /// All kinds, in the order of the enum.
    pub const ALL: [Self; 11] = [
        Self::Number,
        Self::PhoneClaim,
        Self::Person,
        Self::Device,
        Self::Code,
        Self::KnownCode,
        Self::CodeGuess,
        Self::KnownCodeGuess,
        Self::Address,
        Self::Creation,
        Self::Service,
    ];

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::PhoneClaim => "phone_claim",
            Self::Person => "person",
            Self::Device => "device",
            Self::Code => "code",
            Self::KnownCode => "known_code",
            Self::CodeGuess => "code_guess",
            Self::KnownCodeGuess => "known_code_guess",
            Self::Address => "address",
            Self::Creation => "creation",
            Self::Service => "service",
        }
    }
}

impl Subject<'_> {
    /// The kind of the subject.
    #[must_use]
    pub fn kind(&self) -> SubjectKind {
        match self {
            Self::SignIn(_) => SubjectKind::Number,
            Self::PhoneClaim(_) => SubjectKind::PhoneClaim,
            Self::Person(_) => SubjectKind::Person,
            Self::Device(_) => SubjectKind::Device,
            Self::Code(_) | Self::CodeFrom(..) => SubjectKind::Code,
            Self::KnownCode(_) => SubjectKind::KnownCode,
            Self::CodeGuess(_) => SubjectKind::CodeGuess,
            Self::KnownCodeGuess(_) => SubjectKind::KnownCodeGuess,
            Self::Address(_) => SubjectKind::Address,
            Self::Creation(_) => SubjectKind::Creation,
            Self::Service(_) => SubjectKind::Service,
        }
    }

    /// Multiple of the limit of one address that the subject may use.
    #[must_use]
    pub fn factor(&self) -> u32 {
        match self {
            Self::CodeFrom(_, prefix) | Self::Address(prefix) | Self::Creation(prefix) => prefix.factor(),
            Self::SignIn(_)
            | Self::PhoneClaim(_)
            | Self::Person(_)
            | Self::Device(_)
            | Self::Code(_)
            | Self::KnownCode(_)
            | Self::CodeGuess(_)
            | Self::KnownCodeGuess(_)
            | Self::Service(_) => 1,
        }
    }

    /// The delays of attempts beyond the free ones of its limit: doubling delays, or one attempt in each recovery time.
    /// The latter applies to account creations, where successes count, and to wrong codes, whose total number in a year
    /// must have a maximum.
    #[must_use]
    pub fn delays(&self, limit: &Limit, doubling: Delays) -> Delays {
        match self {
            Self::Creation(_) | Self::CodeGuess(_) | Self::KnownCodeGuess(_) => Delays::steady(limit),
            Self::SignIn(_)
            | Self::PhoneClaim(_)
            | Self::Person(_)
            | Self::Device(_)
            | Self::Code(_)
            | Self::CodeFrom(..)
            | Self::KnownCode(_)
            | Self::Address(_)
            | Self::Service(_) => doubling,
        }
    }

    /// The stored key: the first 16 bytes of a SHA-256. It only keeps numbers from being readable: a holder of the
    /// database can hash all numbers.
    #[must_use]
    pub fn id(&self) -> SubjectId {
        SubjectId(match self {
            Self::SignIn(number) => digest("sign-in", number.as_str().as_bytes()),
            Self::PhoneClaim(number) => digest("phone_claim", number.as_str().as_bytes()),
            Self::Person(user) => digest("person", user.0.as_bytes()),
            Self::Device(device) => digest("device", device.0.as_bytes()),
            Self::Code(number) => digest("code", number.as_str().as_bytes()),
            Self::CodeFrom(number, prefix) => {
                digest("code from address", &digits_from(number.as_str(), *prefix))
            }
            Self::KnownCode(number) => digest("known code", number.as_str().as_bytes()),
            Self::CodeGuess(number) => digest("code guess", number.as_str().as_bytes()),
            Self::KnownCodeGuess(number) => digest("known code guess", number.as_str().as_bytes()),
            Self::Address(prefix) => digest("address", &prefix.key()),
            Self::Creation(prefix) => digest("account creation", &prefix.key()),
            Self::Service(None) => digest("services without a name", b""),
            Self::Service(Some(name)) => digest("service", name.as_bytes()),
        })
    }
}

/// The first 16 bytes of the SHA-256 of a kind, a zero byte and a value.
pub(in crate::domain) fn digest(kind: &str, value: &[u8]) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(kind);
    hash.update([0]);
    hash.update(value);
    let hash: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = hash;
    Uuid::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}

/// The stored key of a subject.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SubjectId(pub Uuid);

/// Digits and prefix with a zero byte between them. Digits contain no zero byte, so the result is unambiguous.
fn digits_from(digits: &str, prefix: Prefix) -> Vec<u8> {
    [digits.as_bytes(), &[0], &prefix.key()].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::network::Network;

    /// Computed by `printf 'address\0...' | sha256sum` with `\300\000\002\007`, and with `\040\001\015\270\000\001`,
    /// ten `\000` and the four octets of 48.
    #[test]
    fn a_prefix_is_stored_as_a_truncated_hash() {
        let ids = |address: &str| -> Vec<String> {
            let prefixes = Network::of(address.parse().unwrap()).prefixes();
            prefixes
                .map(|prefix| Subject::Address(prefix).id().0.simple().to_string())
                .collect()
        };
        assert_eq!(ids("192.0.2.7"), ["f519c12c278c44de03295b31aebb113e"]);
        let [_, _, widest] = ids("2001:db8:1::1").try_into().unwrap();
        assert_eq!(widest, "2b4af2be837e6982de4156192fb9e673");
        // The /64, the /56 and the /48 have the same first address here, and separate limits.
        let distinct: HashSet<String> = ids("2001:db8:1::1").into_iter().collect();
        assert_eq!(distinct.len(), 3);
    }

    /// Computed by `printf 'sign-in\0+998901234567' | sha256sum`.
    #[test]
    fn a_number_is_stored_as_a_truncated_hash() {
        let number = PhoneNumber::parse("+998901234567", None).unwrap();
        let expected = "23eeaa6a5aa49f459d01754f298c04d2";
        assert_eq!(Subject::SignIn(&number).id().0.simple().to_string(), expected);
        assert_ne!(Subject::SignIn(&number).id(), Subject::PhoneClaim(&number).id());
        assert_ne!(Subject::Service(None).id(), Subject::Service(Some("")).id());
        // Computed by `printf 'code from address\0+998901234567\0\300\000\002\007' | sha256sum`.
        let prefix = Network::of("192.0.2.7".parse().unwrap()).narrowest();
        let expected = "ed55ec53b48f03b0832b9787d7f97d02";
        assert_eq!(
            Subject::CodeFrom(&number, prefix).id().0.simple().to_string(),
            expected
        );
    }
}
