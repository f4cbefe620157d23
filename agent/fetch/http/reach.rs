//! Where a server on the internet may send the agent: not to what only this machine or its network can reach, such as the
//! metadata service of a cloud.

use std::net::IpAddr;

use reqwest::Url;
use url::Host;

use crate::model::is_loopback;

/// Whether an address is of this machine or of its surroundings: loopback, link-local, private (RFC 1918, RFC 4193),
/// shared (RFC 6598) or unspecified.
pub(super) fn is_internal(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_in_range = match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            address.is_private() || address.is_link_local() || first == 0 || is_shared
        }
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    };
    is_in_range || is_loopback(address) || address.is_unspecified()
}

/// The address that a URL itself names; `None` for a name.
pub(super) fn literal_address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// Whether a URL leads to this machine or its surroundings, as far as its addresses are known. A name that does not resolve
/// leads nowhere.
pub(super) async fn leads_inside(url: &Url) -> bool {
    if let Some(address) = literal_address(url) {
        return is_internal(address);
    }
    let Some(name) = url.host_str().zip(url.port_or_known_default()) else {
        return false;
    };
    match tokio::net::lookup_host(name).await {
        Ok(mut addresses) => addresses.any(|address| is_internal(address.ip())),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_internal() {
        for internal in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
        ] {
            assert!(is_internal(internal.parse().unwrap()), "{internal}");
        }
        for public in [
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "203.0.113.1",
            "2001:db8::1",
            "::ffff:1.1.1.1",
        ] {
            assert!(!is_internal(public.parse().unwrap()), "{public}");
        }
    }
}
