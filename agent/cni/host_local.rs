//! What the IPAM plugin host-local refuses. It reads its configuration at every ADD, so that no pod starts with a
//! mistake in it (`LoadIPAMConfig` and `Canonicalize` in its package `allocator`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::json_tree::{Json, element_path, fold_key, member_path};
use super::render::has_placeholder;
use super::validate::Finding;
use crate::model::{Cidr, CidrError};

/// Its name, as `ipam.type` has it.
pub(super) const HOST_LOCAL: &str = "host-local";

/// How the values of `subnet` begin that calico replaces itself (`usePodCidr`, `usePodCidrIPv6`).
pub(super) const POD_CIDR: &str = "usePodCidr";

/// What a value has to be. Null is as good as no value, except for a subnet.
#[derive(Clone, Copy)]
enum WantedValue {
    Text,
    Integer,
    Address,
    Subnet,
    Object(KnownKeys),
    List(&'static WantedValue),
}

type KnownKeys = &'static [(&'static str, WantedValue)];

/// Every key that host-local reads in its `ipam` object. Go ignores their case.
const IPAM: KnownKeys = &[
    ("type", WantedValue::Text),
    ("name", WantedValue::Text),
    ("dataDir", WantedValue::Text),
    ("resolvConf", WantedValue::Text),
    ("routes", WantedValue::List(&WantedValue::Object(ROUTE))),
    (
        "ranges",
        WantedValue::List(&WantedValue::List(&WantedValue::Object(RANGE))),
    ),
    ("subnet", WantedValue::Subnet),
    ("rangeStart", WantedValue::Address),
    ("rangeEnd", WantedValue::Address),
    ("gateway", WantedValue::Address),
];

const RANGE: KnownKeys = &[
    ("subnet", WantedValue::Subnet),
    ("rangeStart", WantedValue::Address),
    ("rangeEnd", WantedValue::Address),
    ("gateway", WantedValue::Address),
];

const ROUTE: KnownKeys = &[
    ("dst", WantedValue::Subnet),
    ("gw", WantedValue::Address),
    ("mtu", WantedValue::Integer),
    ("advmss", WantedValue::Integer),
    ("priority", WantedValue::Integer),
    ("table", WantedValue::Integer),
    ("scope", WantedValue::Integer),
];

/// The names of the keys that it reads in its `ipam` object.
pub(super) fn ipam_keys() -> Vec<&'static str> {
    IPAM.iter().map(|(name, _)| *name).collect()
}

impl WantedValue {
    /// With an article, for a message.
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Integer => "an integer",
            Self::Address => "an address such as 10.244.1.10",
            Self::Subnet => "a range of addresses such as 10.244.1.0/24",
            Self::Object(_) => "an object",
            Self::List(Self::List(_)) => "a list of lists: [[{\"subnet\": …}]]",
            Self::List(_) => "a list",
        }
    }
}

/// What depends on the plugin that calls host-local, and on the network.
#[derive(Clone, Copy)]
pub(super) struct HostLocalCaller {
    /// It hands its configuration on as it is, so a range that is not there will not come from anywhere.
    pub(super) adds_nothing: bool,
    /// A runtime uses a CNI version before 0.3.0, whose results have one address of each family.
    pub(super) one_per_family: bool,
}

/// Every mistake for which host-local refuses this `ipam` object. A value with a placeholder is not judged.
pub(super) fn check_host_local(
    ipam: &Map<String, Value>,
    at: &str,
    caller: HostLocalCaller,
) -> Vec<Finding> {
    let mut check = HostLocalCheck {
        findings: Vec::new(),
        is_open: false,
        caller,
    };
    check.check_members(ipam, at, IPAM);
    if check.findings.is_empty() && !check.is_open {
        check.check_sets(ipam, at);
    }
    check.findings
}

/// The member of that name in any case; of several spellings the one that Go reads last.
fn get<'a>(members: &'a Map<String, Value>, name: &str) -> Option<(&'a String, &'a Value)> {
    let same = |(key, _): &(&String, _)| fold_key(key) == fold_key(name);
    members.iter().filter(same).max_by_key(|(key, _)| *key)
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

struct HostLocalCheck {
    findings: Vec<Finding>,
    /// Something is not known yet.
    is_open: bool,
    caller: HostLocalCaller,
}

/// A range as host-local uses it.
struct AddressRange {
    at: String,
    text: String,
    first: IpAddr,
    last: IpAddr,
    gateway: IpAddr,
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

impl HostLocalCheck {
    fn error(&mut self, at: &str, problem: impl Into<String>, fix: impl Into<String>) {
        self.findings.push(Finding::error(at, problem, fix));
    }

    fn check_members(&mut self, members: &Map<String, Value>, at: &str, known: KnownKeys) {
        for (key, value) in members {
            let same = known
                .iter()
                .find(|(name, _)| fold_key(name) == fold_key(key));
            if let Some((_, want)) = same {
                self.check_value(value, &member_path(at, key), *want);
            }
        }
    }

    fn check_value(&mut self, value: &Value, at: &str, want: WantedValue) {
        match (want, value) {
            (_, Value::String(text)) if has_placeholder(text) => self.is_open = true,
            (WantedValue::Subnet, Value::String(text))
                if text.starts_with(POD_CIDR) && !self.caller.adds_nothing =>
            {
                self.is_open = true;
            }
            (WantedValue::Subnet, Value::String(text)) => self.check_subnet(text, at),
            (WantedValue::Address, Value::String(text)) => {
                if !text.is_empty() && text.parse::<IpAddr>().is_err() {
                    self.error(
                        at,
                        format!("'{text}' is not an address"),
                        format!("write {}", want.name()),
                    );
                }
            }
            (WantedValue::Text, Value::String(_)) => {}
            (WantedValue::Integer, Value::Number(number)) if is_integer(number) => {}
            (WantedValue::List(want), Value::Array(elements)) => {
                for (index, element) in elements.iter().enumerate() {
                    self.check_value(element, &element_path(at, index), *want);
                }
            }
            (WantedValue::Object(known), Value::Object(members)) => {
                self.check_members(members, at, known);
                self.check_has_subnet(members, at, known);
            }
            (WantedValue::Subnet, Value::Null) => self.wrong_type(value, at, want),
            (_, Value::Null) => {}
            _ => self.wrong_type(value, at, want),
        }
    }

    fn wrong_type(&mut self, value: &Value, at: &str, want: WantedValue) {
        let got = Json::from(value).type_name();
        self.error(
            at,
            format!("it is {got}, which host-local refuses"),
            format!("write {}", want.name()),
        );
    }

    /// The first key of a range and of a route is the one that it cannot do without.
    fn check_has_subnet(&mut self, members: &Map<String, Value>, at: &str, known: KnownKeys) {
        if let [(name, WantedValue::Subnet), ..] = known
            && get(members, name).is_none()
        {
            self.error(
                at,
                format!("it has no {name}, which no ADD survives"),
                "add one such as 10.244.1.0/24",
            );
        }
    }

    /// A route's destination may have bits behind its prefix, so that is not looked at here.
    fn check_subnet(&mut self, text: &str, at: &str) {
        if Cidr::parse_lenient(text).is_none() {
            self.error(
                at,
                format!("'{text}' is not a range of addresses"),
                "write one such as 10.244.1.0/24",
            );
        }
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
            Err(CidrError::NoRange(text)) => self.check_subnet(&text, at),
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

/// Whether Go reads it into an `int`. It comes as libcni writes it: from a 64-bit float, with an exponent from 1e21 on.
fn is_integer(number: &serde_json::Number) -> bool {
    let limit = i64::MAX as f64;
    number
        .as_f64()
        .is_some_and(|value| value.fract() == 0.0 && value >= -limit && value < limit)
}

#[cfg(test)]
mod tests;
