//! Client network: the origin of an attempt, for all limits, queues and counters.
//!
//! An attacker with one IPv6 address has at least a /64, and often the whole /48 of a site (RFC 6177). So an IPv6
//! address counts at three prefix lengths. An address that embeds an IPv4 address counts as that IPv4 address:
//! otherwise each of its aliases would have a separate limit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Prefix lengths at which an IPv6 address counts, with the multiple of the limit of one address that each may use.
const IPV6_PREFIXES: [(u32, u32); 3] = [(64, 1), (56, 2), (48, 4)];

/// The client network of an attempt.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Network(IpAddr);

impl Network {
    /// The network of a client address. IPv4-mapped (RFC 4291), NAT64 (RFC 6052, the well-known prefix), 6to4 (RFC
    /// 3056) and Teredo (RFC 4380) addresses count as the IPv4 address that they embed.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self(address),
            IpAddr::V6(address) => Self(embedded(address).map_or(IpAddr::V6(address), IpAddr::V4)),
        }
    }

    /// The prefixes at which the network counts, the narrowest first: one for IPv4; the /64, the /56 and the /48 for
    /// IPv6.
    pub fn prefixes(self) -> impl Iterator<Item = Prefix> {
        let (ipv4, ipv6) = match self.0 {
            IpAddr::V4(address) => (Some(Prefix::of_ipv4(address)), None),
            IpAddr::V6(address) => (None, Some(address)),
        };
        let ipv6 = ipv6
            .into_iter()
            .flat_map(|address| IPV6_PREFIXES.map(|(bits, factor)| Prefix::of_ipv6(address, bits, factor)));
        ipv4.into_iter().chain(ipv6)
    }

    /// The narrowest prefix: the IPv4 address, or the /64.
    #[must_use]
    pub fn narrowest(self) -> Prefix {
        let [(bits, factor), ..] = IPV6_PREFIXES;
        self.prefix(bits, factor)
    }

    /// The widest prefix: the IPv4 address, or the /48. Attempts from one site share a queue and an audit row.
    #[must_use]
    pub fn site(self) -> Prefix {
        let [.., (bits, factor)] = IPV6_PREFIXES;
        self.prefix(bits, factor)
    }

    fn prefix(self, bits: u32, factor: u32) -> Prefix {
        match self.0 {
            IpAddr::V4(address) => Prefix::of_ipv4(address),
            IpAddr::V6(address) => Prefix::of_ipv6(address, bits, factor),
        }
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self::of(address)
    }
}

/// A prefix of a client network, with the multiple of a limit that it may use.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Prefix {
    first: IpAddr,
    bits: u32,
    factor: u32,
}

impl Prefix {
    const fn of_ipv4(address: Ipv4Addr) -> Self {
        Self {
            first: IpAddr::V4(address),
            bits: Ipv4Addr::BITS,
            factor: 1,
        }
    }

    fn of_ipv6(address: Ipv6Addr, bits: u32, factor: u32) -> Self {
        let host = u128::MAX.checked_shr(bits).unwrap_or(0);
        Self {
            first: IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !host)),
            bits,
            factor,
        }
    }

    /// The first address of the prefix.
    #[must_use]
    pub const fn first(self) -> IpAddr {
        self.first
    }

    /// Prefix length in bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.bits
    }

    /// The multiple of the limit of one address that the prefix may use: 1, 2 or 4.
    #[must_use]
    pub const fn factor(self) -> u32 {
        self.factor
    }

    /// The storage key of the prefix: the octets of its first address, and the length of a prefix that is wider than
    /// one address or a /64. It is unique.
    #[must_use]
    pub fn key(self) -> Vec<u8> {
        let mut key = self.octets();
        if self.factor > 1 {
            key.extend(self.bits.to_be_bytes());
        }
        key
    }

    /// The 4 or 16 octets of the first address. Prefixes of different lengths can have the same octets.
    #[must_use]
    pub fn octets(self) -> Vec<u8> {
        match self.first {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        }
    }
}

/// The IPv4 address that an IPv6 address embeds.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(mapped);
    }
    let [a, b, c, d, e, f, g, h] = address.segments();
    match [a, b] {
        [0x64, 0xff9b] if [c, d, e, f] == [0; 4] => Some(ipv4(g, h)),
        [0x2002, _] => Some(ipv4(b, c)),
        // Teredo inverts all bits of the client's address (RFC 4380 section 4).
        [0x2001, 0] => Some(ipv4(!g, !h)),
        _ => None,
    }
}

fn ipv4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod limits;

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    fn prefixes(address: &str) -> Vec<(String, u32, u32)> {
        let prefixes = network(address).prefixes();
        prefixes
            .map(|prefix| (prefix.first().to_string(), prefix.bits(), prefix.factor()))
            .collect()
    }

    #[test]
    fn an_ipv4_address_counts_at_one_prefix_length() {
        assert_eq!(prefixes("192.0.2.7"), [("192.0.2.7".to_owned(), 32, 1)]);
    }

    #[test]
    fn an_ipv6_address_counts_at_three_prefix_lengths() {
        assert_eq!(
            prefixes("2001:db8:1:2345:6:7:8:9"),
            [
                ("2001:db8:1:2345::".to_owned(), 64, 1),
                ("2001:db8:1:2300::".to_owned(), 56, 2),
                ("2001:db8:1::".to_owned(), 48, 4),
            ]
        );
        assert_eq!(network("2001:db8:1:2345::9").narrowest().bits(), 64);
        assert_eq!(network("2001:db8:1:2345::9").site().bits(), 48);
        assert_eq!(network("192.0.2.7").site(), network("192.0.2.7").narrowest());
    }

    /// The examples of RFC 6052 section 2.4, RFC 3056 section 2 and RFC 4380 section 4 with 192.0.2.33. Python's
    /// `ipaddress.IPv6Address.teredo` reads 192.0.2.33 from the Teredo address.
    #[test]
    fn an_address_that_embeds_ipv4_counts_as_the_ipv4_address() {
        for alias in [
            "::ffff:192.0.2.33",
            "64:ff9b::192.0.2.33",
            "2002:c000:221::1",
            "2002:c000:221:ffff:1:2:3:4",
            "2001:0:4136:e378:8000:63bf:3fff:fdde",
        ] {
            assert_eq!(network(alias), network("192.0.2.33"), "{alias}");
        }
        for other in [
            // The local-use NAT64 prefix (RFC 8215) does not define the position of the IPv4 address.
            "64:ff9b:1::192.0.2.33",
            "64:ff9b::1:0:192.0.2.33",
            "2001:db8::192.0.2.33",
            "2001:1:4136:e378:8000:63bf:3fff:fdde",
            "::192.0.2.33",
        ] {
            assert_eq!(prefixes(other).len(), 3, "{other}");
        }
    }
}
