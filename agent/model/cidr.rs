//! Ranges of IP addresses in CIDR notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of IP addresses, such as `10.244.0.0/16` or `fd00:10::/56`.
///
/// Two ranges of different families have no address in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    length: u8,
}

/// Why a text is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not an address, a slash and a prefix length.
    #[error(
        "'{0}' is not a range of addresses; write an address and a prefix length, such as 10.244.0.0/16 or fd00:10::/56"
    )]
    NoRange(String),
    /// Bits are set behind the prefix, so that it may have been meant otherwise.
    #[error("'{text}' has bits set behind its prefix; write {network} if that is meant")]
    HostBits {
        /// What was written.
        text: String,
        /// The range that holds this address.
        network: Cidr,
    },
}

impl Cidr {
    /// Reads a range as Go's `net.ParseCIDR` does, for which bits behind the prefix do not matter; `None` where the
    /// text is none.
    #[must_use]
    pub fn lenient(text: &str) -> Option<Self> {
        Some(Self::parse(text)?.1)
    }

    /// Whether every address of `other` is in this range.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.length <= other.length && prefix(other.network, self.length) == self.network
    }

    /// Whether there is an address in it besides the first and the last, which stand for the network and for everybody.
    #[must_use]
    pub const fn holds_a_pod(&self) -> bool {
        let bits = match self.network {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        self.length <= bits - 2
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// The address as written, and the range that it is in.
    fn parse(text: &str) -> Option<(IpAddr, Self)> {
        let (address, digits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        // Numbers in Rust may have a sign, prefix lengths have none.
        let length: u8 = match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => digits.parse().ok()?,
            false => return None,
        };
        let (address, length) = unmapped(address, length);
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let network = prefix(address, length);
        (length <= bits).then_some((address, Self { network, length }))
    }
}

/// An IPv4 address in IPv6's clothes (`::ffff:a.b.c.d`) as the IPv4 address that it is to the kernel.
fn unmapped(address: IpAddr, length: u8) -> (IpAddr, u8) {
    match (address, length.checked_sub(96)) {
        (IpAddr::V6(six), Some(length)) => match six.to_ipv4_mapped() {
            Some(four) => (IpAddr::V4(four), length),
            None => (address, length + 96),
        },
        _ => (address, length),
    }
}

/// The first `length` bits of an address, the others zero.
fn prefix(address: IpAddr, length: u8) -> IpAddr {
    let length = u32::from(length);
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(length));
            IpAddr::V4(Ipv4Addr::from_bits(four.to_bits() & mask.unwrap_or(0)))
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length));
            IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & mask.unwrap_or(0)))
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        match Self::parse(text) {
            None => Err(CidrError::NoRange(text.to_owned())),
            Some((address, range)) if address != range.network => Err(CidrError::HostBits {
                text: text.to_owned(),
                network: range,
            }),
            Some((_, range)) => Ok(range),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_is_an_address_and_a_length_without_bits_behind_it() {
        for good in [
            "0.0.0.0/0",
            "10.244.0.0/16",
            "10.1.2.3/32",
            "::/0",
            "fd00:10::/56",
            "::1/128",
        ] {
            assert_eq!(range(good).to_string(), good);
        }
        for bad in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0/256",
            "fd00::/129",
            "[fd00::]/8",
            "usePodCidr",
        ] {
            assert!(
                matches!(bad.parse::<Cidr>(), Err(CidrError::NoRange(_))),
                "{bad}"
            );
            assert_eq!(Cidr::lenient(bad), None, "{bad}");
        }
    }

    #[test]
    fn bits_behind_the_prefix_are_a_mistake_to_people_and_none_to_go() {
        let error = "10.244.1.5/24".parse::<Cidr>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "'10.244.1.5/24' has bits set behind its prefix; write 10.244.1.0/24 if that is meant"
        );
        assert_eq!(Cidr::lenient("10.244.1.5/24"), Some(range("10.244.1.0/24")));
        assert_eq!(Cidr::lenient("fd00::1/64"), Some(range("fd00::/64")));
    }

    #[test]
    fn a_mapped_ipv4_range_is_the_ipv4_range() {
        assert_eq!(range("::ffff:10.0.0.0/104"), range("10.0.0.0/8"));
        let wider = Cidr::lenient("::ffff:0:0/95").unwrap();
        assert_eq!(wider.to_string(), "::fffe:0:0/95");
    }

    #[test]
    fn ranges_contain_and_overlap_within_their_family() {
        for (outer, inner) in [
            ("10.0.0.0/8", "10.244.1.0/24"),
            ("10.244.1.0/24", "10.244.1.0/24"),
            ("0.0.0.0/0", "255.255.255.255/32"),
            ("fd00::/8", "fd00:10:1::/64"),
            ("::/0", "fd00::/8"),
        ] {
            assert!(range(outer).contains(&range(inner)), "{outer} {inner}");
            assert!(range(outer).overlaps(&range(inner)), "{outer} {inner}");
            assert!(range(inner).overlaps(&range(outer)), "{outer} {inner}");
            assert_eq!(outer == inner, range(inner).contains(&range(outer)));
        }
        for (one, other) in [
            ("10.244.0.0/24", "10.244.1.0/24"),
            ("0.0.0.0/0", "::/0"),
            ("::/0", "10.0.0.0/8"),
            ("fd00::/64", "fd00:0:0:1::/64"),
        ] {
            assert!(!range(one).overlaps(&range(other)), "{one} {other}");
        }
    }
}
