//! The ranges that the IPAM plugin host-local refuses (`LoadIPAMConfig` and `Canonicalize` in its package `allocator`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::ipam_caller::IpamCaller;
use super::json_tree::{element_path, member_path};
use super::validate::Finding;
use super::wanted_value::get;
use crate::model::{Cidr, CidrError};

/// Every mistake in the sets of ranges for which host-local refuses this `ipam` object, whose values are right one by one
/// and all known.
pub(super) fn check_range_sets(
    ipam: &Map<String, Value>,
    at: &str,
    caller: IpamCaller,
) -> Vec<Finding> {
    let mut check = RangeSetCheck {
        findings: Vec::new(),
        caller,
    };
    check.check_sets(ipam, at);
    check.findings
}

/// The address; none where host-local fills in its own.
fn address_in(range: &Map<String, Value>, key: &str) -> Option<IpAddr> {
    let (_, value) = get(range, key)?;
    value
        .as_str()?
        .parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

struct RangeSetCheck {
    findings: Vec<Finding>,
    caller: IpamCaller,
}

/// A range as host-local uses it.
struct AddressRange {
    at: String,
    text: String,
    first: IpAddr,
    last: IpAddr,
    gateway: IpAddr,
    subnet: Cidr,
}

impl AddressRange {
    fn overlaps(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4()
            && self.first <= other.last
            && other.first <= self.last
    }

    /// Whether there is an address for a pod: the gateway's is none.
    fn has_room(&self) -> bool {
        self.first != self.last || self.first != self.gateway
    }
}

impl RangeSetCheck {
    fn error(&mut self, at: &str, problem: impl Into<String>, fix: impl Into<String>) {
        self.findings.push(Finding::error(at, problem, fix));
    }

    fn check_sets(&mut self, ipam: &Map<String, Value>, at: &str) {
        let mut sets: Vec<Vec<AddressRange>> = Vec::new();
        let mut declared = 0;
        if get(ipam, "subnet").is_some() {
            declared += 1;
            sets.extend(self.read_set(&[(at.to_owned(), Some(ipam))], at));
        }
        if let Some((key, Value::Array(listed))) = get(ipam, "ranges") {
            for (index, set) in listed.iter().enumerate() {
                declared += 1;
                let at = element_path(&member_path(at, key), index);
                let ranges = set.as_array().into_iter().flatten().enumerate();
                let ranges: Vec<_> = ranges
                    .map(|(index, range)| (element_path(&at, index), range.as_object()))
                    .collect();
                sets.extend(self.read_set(&ranges, &at));
            }
        }
        if declared == 0 && self.caller.adds_nothing {
            self.error(
                at,
                "host-local gets no range to give addresses from",
                "list one under ranges",
            );
        }
        self.check_families(&sets, at);
        for (index, set) in sets.iter().enumerate() {
            for other in &sets[index + 1..] {
                self.check_overlap(set, other);
                self.check_gateways(&set[0], &other[0]);
            }
        }
    }

    /// The ranges of one set; `None` if one of them is wrong.
    fn read_set(
        &mut self,
        declared: &[(String, Option<&Map<String, Value>>)],
        at: &str,
    ) -> Option<Vec<AddressRange>> {
        if declared.is_empty() {
            self.error(
                at,
                "the set has no range, which host-local refuses",
                "remove it, or list a range",
            );
            return None;
        }
        let ranges = declared
            .iter()
            .map(|(at, range)| self.read_range(*range, at));
        let ranges: Vec<_> = ranges.collect();
        let ranges: Vec<AddressRange> = ranges.into_iter().collect::<Option<_>>()?;
        if ranges
            .iter()
            .any(|range| range.first.is_ipv4() != ranges[0].first.is_ipv4())
        {
            self.error(
                at,
                "IPv4 and IPv6 are in one set, from which a pod gets one address",
                "make a set of each",
            );
        }
        for (index, range) in ranges.iter().enumerate() {
            self.check_overlap(std::slice::from_ref(range), &ranges[index + 1..]);
        }
        if !ranges.iter().any(AddressRange::has_room) {
            self.error(
                at,
                "its only address is the gateway's, so no pod gets one",
                "make it larger",
            );
        }
        Some(ranges)
    }

    fn check_overlap(&mut self, some: &[AddressRange], others: &[AddressRange]) {
        for range in some {
            for other in others.iter().filter(|other| other.overlaps(range)) {
                self.error(
                    &other.at,
                    format!(
                        "{} overlaps {} of {}, which host-local refuses",
                        other.text, range.text, range.at
                    ),
                    "give each range addresses of its own",
                );
            }
        }
    }

    fn check_families(&mut self, sets: &[Vec<AddressRange>], at: &str) {
        let of_ipv4 = sets.iter().filter(|set| set[0].first.is_ipv4()).count();
        if self.caller.one_per_family && (of_ipv4 > 1 || sets.len() - of_ipv4 > 1) {
            self.error(
                at,
                "a pod would get two addresses of one family, which CNI versions before 0.3.0 do not know",
                "declare cniVersion \"1.0.0\"",
            );
        }
    }

    /// A pod gets an address of each set, so the plugin that calls host-local meets both gateways.
    fn check_gateways(&mut self, one: &AddressRange, other: &AddressRange) {
        let (first, second) = (one.gateway, other.gateway);
        let is_same = first == second && one.subnet == other.subnet;
        let disturbs = first.is_ipv4() && second.is_ipv4() || one.subnet.overlaps(&other.subnet);
        if self.caller.one_gateway && disturbs && !is_same {
            self.error(
                &other.at,
                format!("the bridge cannot have the gateway {second} beside {first}"),
                "keep one set of each family, or set forceAddress",
            );
        }
        if self.caller.needs_gateways && first == second {
            self.error(
                &other.at,
                format!(
                    "ptp needs another gateway than {first}, which {} has",
                    one.at
                ),
                "set gateway",
            );
        }
    }

    fn read_range(&mut self, range: Option<&Map<String, Value>>, at: &str) -> Option<AddressRange> {
        let Some((range, (key, subnet))) =
            range.and_then(|range| Some((range, get(range, "subnet")?)))
        else {
            self.error(
                at,
                "the range has no subnet, which host-local refuses",
                "add one such as 10.244.1.0/24",
            );
            return None;
        };
        let subnet = self.read_subnet(subnet.as_str()?, &member_path(at, key))?;
        let mut inside = |key: &str| {
            let address = address_in(range, key)?;
            if !subnet.contains(&Cidr::from(address)) {
                self.error(
                    &member_path(at, key),
                    format!("{address} is not in {subnet}, which host-local refuses"),
                    "write an address of that range",
                );
            }
            Some(address)
        };
        let (gateway, first, last) = (inside("gateway"), inside("rangeStart"), inside("rangeEnd"));
        if !self.findings.is_empty() {
            return None;
        }
        let (second, usual_last) = usual_ends(&subnet)?;
        let (first, last) = (first.unwrap_or(second), last.unwrap_or(usual_last));
        if first > last {
            self.error(
                at,
                format!("its first address {first} comes after its last one {last}"),
                "correct rangeStart or rangeEnd",
            );
            return None;
        }
        Some(AddressRange {
            at: at.to_owned(),
            text: format!("{first}-{last}"),
            first,
            last,
            gateway: gateway.unwrap_or(second),
            subnet,
        })
    }

    fn read_subnet(&mut self, text: &str, at: &str) -> Option<Cidr> {
        match text.parse::<Cidr>() {
            Ok(range) if text.contains(':') && !range.to_string().contains(':') => {
                self.error(
                    at,
                    format!("'{text}' is IPv4 written as IPv6, which host-local refuses"),
                    format!("write {range}"),
                );
            }
            Ok(range) if range.has_pod_address() => return Some(range),
            Ok(range) => self.error(
                at,
                format!("{range} is too small for host-local, which keeps the first and last address free"),
                "give it a larger one",
            ),
            Err(CidrError::HostBits { text, network }) => self.error(
                at,
                format!("'{text}' has bits set behind its prefix, which host-local refuses"),
                format!("write {network}"),
            ),
            Err(CidrError::NoRange(_)) => {}
        }
        None
    }
}

/// The first and the last address that host-local gives out unless it is told otherwise. Of IPv6 it keeps the last one.
fn usual_ends(subnet: &Cidr) -> Option<(IpAddr, IpAddr)> {
    Some(match subnet.to_string().parse().ok()? {
        IpNet::V4(net) => (
            Ipv4Addr::from(u32::from(net.network()).checked_add(1)?).into(),
            Ipv4Addr::from(u32::from(net.broadcast()).checked_sub(1)?).into(),
        ),
        IpNet::V6(net) => (
            Ipv6Addr::from(u128::from(net.network()).checked_add(1)?).into(),
            net.broadcast().into(),
        ),
    })
}

#[cfg(test)]
mod tests;
