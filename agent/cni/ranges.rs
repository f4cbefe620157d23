//! Checks the address ranges from which a conflist's IPAM plugins give addresses to pods.

use serde_json::{Map, Value};

use super::ipam_caller::type_of;
use super::json_tree::{element_path, fold_key, for_each_value, member_path};
use super::placeholder::has_placeholder;
use super::reference_plugins::HOST_LOCAL;
use super::validate::Finding;
use super::wanted_value::POD_CIDR;
use crate::model::Cidr;

/// The keys of an `ipam` object that hold a range: `subnet` of host-local and weave, and `ranges` of host-local.
const SUBNET: &str = "subnet";
const RANGES: &str = "ranges";

/// The keys of calico-ipam that list pools, by name or by range.
const POOLS: [&str; 2] = ["ipv4_pools", "ipv6_pools"];

/// The mistakes in the ranges from which a conflist's IPAM plugins give addresses:
///
/// - a range must lie inside one of `pods`, unless `pods` is empty;
/// - it must not overlap any of `reserved`.
///
/// The case of keys does not matter, as Go ignores it for host-local. A value with a placeholder is not checked.
#[must_use]
pub fn check_ranges(conflist: &Value, pods: &[Cidr], reserved: &[Cidr]) -> Vec<Finding> {
    if pods.is_empty() && reserved.is_empty() {
        return Vec::new();
    }
    let (mut ranges, mut findings) = (Vec::new(), Vec::new());
    // At any depth, because flannel and multus have them below `delegate` and `delegates`.
    for_each_value(conflist, "", "", &mut |at, _, plugin| {
        for (key, ipam) in plugin.as_object().into_iter().flatten() {
            if let Some(ipam) = ipam.as_object().filter(|_| fold_key(key) == "ipam") {
                collect_ranges(ipam, &member_path(at, key), &mut ranges);
            }
        }
    });
    for DeclaredRange { at, text, kind } in ranges {
        match Cidr::parse_lenient(text) {
            Some(range) => findings.extend(check_range(&at, &range, pods, reserved)),
            None if kind == RangeKind::Range => findings.push(not_a_range(&at, text)),
            None => {}
        }
    }
    findings
}

/// A range as the conflist has it.
struct DeclaredRange<'a> {
    at: String,
    text: &'a str,
    kind: RangeKind,
}

/// What is said of a text that is no range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RangeKind {
    Range,
    /// The name of a pool is allowed there too.
    Pool,
    /// host-local's: it is told already.
    Told,
}

fn not_a_range(at: &str, text: &str) -> Finding {
    Finding::error(
        at,
        format!("'{text}' is not a range of addresses"),
        "write one such as 10.244.1.0/24",
    )
}

fn check_range(at: &str, range: &Cidr, pods: &[Cidr], reserved: &[Cidr]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = reserved
        .iter()
        .filter(|reserved| reserved.overlaps(range))
        .map(|reserved| {
            Finding::error(
                at,
                format!("{range} overlaps {reserved}, which network.reserved keeps free"),
                "give pods other addresses",
            )
        })
        .collect();
    if !pods.is_empty() && !pods.iter().any(|pods| pods.contains(range)) {
        findings.push(Finding::error(
            at,
            format!(
                "{range} does not lie inside network.podRanges ({})",
                join_ranges(pods)
            ),
            "correct one of the two",
        ));
    }
    findings
}

/// The ranges as `a, b`.
fn join_ranges(ranges: &[Cidr]) -> String {
    let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    ranges.join(", ")
}

fn collect_ranges<'a>(ipam: &'a Map<String, Value>, at: &str, found: &mut Vec<DeclaredRange<'a>>) {
    let kind = match type_of(ipam) {
        Some(HOST_LOCAL) => RangeKind::Told,
        _ => RangeKind::Range,
    };
    for (key, value) in ipam {
        let (here, key) = (member_path(at, key), fold_key(key));
        if key == SUBNET {
            collect_range(value, &here, kind, found);
        } else if key == RANGES {
            each_element(value, &here, |set, at| {
                each_element(set, at, |range, at| {
                    for (key, value) in range.as_object().into_iter().flatten() {
                        if fold_key(key) == SUBNET {
                            collect_range(value, &member_path(at, key), kind, found);
                        }
                    }
                });
            });
        } else if POOLS.contains(&key.as_str()) {
            each_element(value, &here, |pool, at| {
                collect_range(pool, at, RangeKind::Pool, found);
            });
        }
    }
}

fn each_element<'a>(list: &'a Value, at: &str, mut visit: impl FnMut(&'a Value, &str)) {
    for (index, value) in list.as_array().into_iter().flatten().enumerate() {
        visit(value, &element_path(at, index));
    }
}

fn collect_range<'a>(
    value: &'a Value,
    at: &str,
    kind: RangeKind,
    found: &mut Vec<DeclaredRange<'a>>,
) {
    if let Value::String(text) = value
        && !has_placeholder(text)
        && !text.starts_with(POD_CIDR)
    {
        found.push(DeclaredRange {
            at: at.to_owned(),
            text,
            kind,
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ranges(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn findings_of(conflist: &Value, pods: &[&str], reserved: &[&str]) -> Vec<String> {
        let findings = check_ranges(conflist, &ranges(pods), &ranges(reserved));
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_subnet_lies_inside_one_of_the_pod_ranges() {
        let conflist = json!({"plugins": [{"type": "bridge", "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.244.1.0/24"}, {"Subnet": "10.9.1.0/24"}], [{"subnet": "fd00:10::/64"}]],
        }}]});
        assert_eq!(
            findings_of(&conflist, &["10.244.0.0/16", "fd00:10::/56"], &[]),
            [
                "error: plugins[0].ipam.ranges[0][1].Subnet: 10.9.1.0/24 does not lie inside network.podRanges \
                 (10.244.0.0/16, fd00:10::/56); correct one of the two"
            ]
        );
    }

    #[test]
    fn a_reserved_range_is_named_with_what_overlaps_it() {
        let conflist =
            json!({"plugins": [{"type": "bridge", "ipam": {"subnet": "172.16.0.0/12"}}]});
        assert_eq!(
            findings_of(
                &conflist,
                &[],
                &["169.254.0.0/16", "172.30.0.0/16", "172.31.0.0/16"]
            ),
            [
                "error: plugins[0].ipam.subnet: 172.16.0.0/12 overlaps 172.30.0.0/16, which network.reserved keeps \
                 free; give pods other addresses",
                "error: plugins[0].ipam.subnet: 172.16.0.0/12 overlaps 172.31.0.0/16, which network.reserved keeps \
                 free; give pods other addresses",
            ]
        );
        assert!(findings_of(&conflist, &["172.16.0.0/12"], &["fd00::/8"]).is_empty());
    }

    #[test]
    fn ranges_are_found_in_delegates_and_pools() {
        let conflist = json!({"plugins": [
            {"type": "flannel", "delegate": {"IPAM": {"subnet": "10.9.0.0/24"}}},
            {"type": "calico", "ipam": {"ipv4_pools": ["10.9.0.0/16", "default-ipv4-ippool"], "ipv6_pools": ["fd09::/64"]}},
        ]});
        let at: Vec<String> = check_ranges(&conflist, &ranges(&["10.244.0.0/16"]), &[])
            .into_iter()
            .map(|finding| finding.at)
            .collect();
        assert_eq!(
            at,
            [
                "plugins[0].delegate.IPAM.subnet",
                "plugins[1].ipam.ipv4_pools[0]",
                "plugins[1].ipam.ipv6_pools[0]",
            ]
        );
    }

    /// What cannot be held against the cluster's ranges must not pass for right.
    #[test]
    fn a_subnet_that_is_no_range_is_refused_unless_it_is_filled_in_later() {
        let with = |subnet: &str| json!({"plugins": [{"ipam": {"subnet": subnet}}]});
        for later in ["${node.podCIDR}", "usePodCidr", "usePodCidrIPv6"] {
            assert!(
                findings_of(&with(later), &["10.0.0.0/8"], &[]).is_empty(),
                "{later}"
            );
        }
        for bad in ["", "10.244.0.0", "10.244.0.0/99"] {
            assert_eq!(
                findings_of(&with(bad), &["10.0.0.0/8"], &[]).len(),
                1,
                "{bad}"
            );
            assert!(
                findings_of(&with(bad), &[], &[]).is_empty(),
                "not asked for"
            );
        }
    }
}
