//! Recognises addresses that never leave this machine.

use std::net::IpAddr;

use url::{Host, Url};

/// Whether an address never leaves this machine: 127.0.0.0/8 and ::1, also written as IPv4-mapped IPv6.
#[must_use]
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether a URL's host is a loopback address. A name never counts, not even `localhost`: it can resolve to another
/// address.
#[must_use]
pub fn has_loopback_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_loopback(address.into()),
        Some(Host::Ipv6(address)) => is_loopback(address.into()),
        Some(Host::Domain(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_is_a_loopback_host() {
        let has = |text: &str| has_loopback_host(&Url::parse(text).unwrap());
        for loopback in [
            "http://127.1.2.3:80/a",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(has(loopback), "{loopback}");
        }
        for other in [
            "http://localhost/",
            "http://10.0.0.1/",
            "http://[::2]/",
            "data:x",
        ] {
            assert!(!has(other), "{other}");
        }
    }
}
