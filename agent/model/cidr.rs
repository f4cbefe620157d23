//! Ranges of IP addresses in CIDR notation.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// A range of IP addresses, such as `10.244.0.0/16` or `fd00:10::/56`. No bits are set behind its prefix.
///
/// Two ranges of different families have no address in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(IpNet);

/// Why a text is not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not an address, a slash and a prefix length.
    #[error(
        "'{0}' is not a range of addresses; write an address and a prefix length, such as 10.244.0.0/16 or fd00:10::/56"
    )]
    NoRange(String),
    /// Bits are set behind the prefix, so another range may have been meant.
    #[error("'{text}' has bits set behind its prefix; write {network} if that is meant")]
    HostBits {
        /// What was written.
        text: String,
        /// The range that holds this address.
        network: Cidr,
    },
}

impl Cidr {
    /// Reads a range as Go's `net.ParseCIDR` does: bits behind the prefix are ignored. `None` if the text is not a
    /// range.
    #[must_use]
    pub fn parse_lenient(text: &str) -> Option<Self> {
        Some(Self(parse_network(text)?.trunc()))
    }

    /// Whether it is a range of IPv4 addresses.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        matches!(self.0, IpNet::V4(_))
    }

    /// Whether it holds every address of its family.
    #[must_use]
    pub fn is_default_route(&self) -> bool {
        self.0.prefix_len() == 0
    }

    /// Whether every address of `other` is in this range.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether the range has an address besides the first (the network's) and the last (broadcast).
    #[must_use]
    pub fn has_pod_address(&self) -> bool {
        self.0.prefix_len() + 2 <= self.0.max_prefix_len()
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other) || other.contains(self)
    }
}

/// The range that holds this address alone.
impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical().into())
    }
}

/// An address and a prefix length, as written. The address is read by std, which refuses leading zeros.
fn parse_network(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    // A number in Rust may have a sign, but a prefix length may not.
    if !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let network = IpNet::new(address.parse().ok()?, length.parse().ok()?).ok()?;
    Some(unmap_ipv4(network))
}

/// Turns an IPv4-mapped IPv6 range (`::ffff:a.b.c.d/96` and longer) into the IPv4 range that the kernel uses for it.
fn unmap_ipv4(network: IpNet) -> IpNet {
    let mapped = match network.addr() {
        IpAddr::V6(address) => address.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    };
    match (mapped, network.prefix_len().checked_sub(96)) {
        (Some(address), Some(length)) => Ipv4Net::new(address, length).map_or(network, IpNet::V4),
        _ => network,
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let Some(written) = parse_network(text) else {
            return Err(CidrError::NoRange(text.to_owned()));
        };
        let network = Self(written.trunc());
        match network.0 == written {
            true => Ok(network),
            false => Err(CidrError::HostBits {
                text: text.to_owned(),
                network,
            }),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
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
            assert_eq!(Cidr::parse_lenient(bad), None, "{bad}");
        }
    }

    #[test]
    fn bits_behind_the_prefix_are_a_mistake_to_people_and_none_to_go() {
        let error = "10.244.1.5/24".parse::<Cidr>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "'10.244.1.5/24' has bits set behind its prefix; write 10.244.1.0/24 if that is meant"
        );
        assert_eq!(
            Cidr::parse_lenient("10.244.1.5/24"),
            Some(range("10.244.1.0/24"))
        );
        assert_eq!(Cidr::parse_lenient("fd00::1/64"), Some(range("fd00::/64")));
    }

    #[test]
    fn a_mapped_ipv4_range_is_the_ipv4_range() {
        assert_eq!(range("::ffff:10.0.0.0/104"), range("10.0.0.0/8"));
        let wider = Cidr::parse_lenient("::ffff:0:0/95").unwrap();
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
