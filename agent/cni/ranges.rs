//! Checks the address ranges from which a conflist's IPAM plugins give addresses to pods.

use serde_json::{Map, Value};

use super::host_local::{HOST_LOCAL, HostLocalCaller, POD_CIDR, check_host_local};
use super::json_tree::{element_path, fold_key, for_each_value, member_path};
use super::render::has_placeholder;
use super::spec_version::{precedes, select_version};
use super::validate::Finding;
use crate::model::Cidr;

/// The keys of an `ipam` object that hold a range: `subnet` of host-local and weave, and `ranges` of host-local.
const SUBNET: &str = "subnet";
const RANGES: &str = "ranges";

/// The keys of calico-ipam that list pools, by name or by range.
const POOLS: [&str; 2] = ["ipv4_pools", "ipv6_pools"];

/// The plugins that hand their configuration on to their IPAM plugin as it is. Others fill in ranges of their own.
const HANDING_ON: [&str; 8] = [
    "bridge",
    "dummy",
    "host-device",
    "ipvlan",
    "macvlan",
    "ptp",
    "tap",
    "vlan",
];

/// The mistakes in the ranges from which a conflist's IPAM plugins give addresses:
///
/// - a range must lie inside one of `pods`, unless `pods` is empty;
/// - it must not overlap any of `reserved`;
/// - host-local must accept its configuration, because every ADD fails otherwise.
///
/// The case of keys does not matter, as Go ignores it for host-local. A value with a placeholder is not checked.
#[must_use]
pub fn check_ranges(conflist: &Value, pods: &[Cidr], reserved: &[Cidr]) -> Vec<Finding> {
    let (mut ranges, mut findings) = (Vec::new(), Vec::new());
    // At any depth, because flannel and multus have them below `delegate` and `delegates`.
    for_each_value(conflist, "", "", &mut |at, _, plugin| {
        for (key, ipam) in plugin.as_object().into_iter().flatten() {
            if let Some(ipam) = ipam.as_object().filter(|_| fold_key(key) == "ipam") {
                let at = member_path(at, key);
                if type_of(ipam) == Some(HOST_LOCAL) {
                    let caller = caller_of(plugin, conflist);
                    findings.extend(check_host_local(ipam, &at, caller));
                }
                collect_ranges(ipam, &at, &mut ranges);
            }
        }
    });
    let is_asked = !(pods.is_empty() && reserved.is_empty());
    for DeclaredRange { at, text, is_pool } in ranges {
        if findings.iter().any(|finding| finding.at == at) {
            continue;
        }
        match Cidr::parse_lenient(text) {
            Some(range) => findings.extend(check_range(&at, &range, pods, reserved)),
            None if !is_pool && is_asked => findings.push(not_a_range(&at, text)),
            None => {}
        }
    }
    findings
}

/// The type that libcni or a plugin reads there.
fn type_of(members: &Map<String, Value>) -> Option<&str> {
    let is_type = |(key, _): &(&String, _)| fold_key(key) == "type";
    let (_, kind) = members.iter().filter(is_type).max_by_key(|(key, _)| *key)?;
    kind.as_str()
}

/// What host-local can expect of the plugin that has it as its IPAM plugin.
fn caller_of(plugin: &Value, conflist: &Value) -> HostLocalCaller {
    let members = plugin.as_object();
    let kind = members.and_then(type_of).unwrap_or_default();
    let from_runtime = plugin.pointer("/capabilities/ipRanges") == Some(&Value::Bool(true));
    let text = |key: &str| {
        conflist
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let listed = conflist.get("cniVersions").and_then(Value::as_array);
    let listed = listed.into_iter().flatten().filter_map(Value::as_str);
    let declared = text("cniVersion");
    let selected = select_version(&listed.collect::<Vec<_>>(), declared);
    HostLocalCaller {
        adds_nothing: HANDING_ON.contains(&kind) && !from_runtime,
        one_per_family: HANDING_ON.contains(&kind)
            && [declared, selected]
                .iter()
                .any(|version| precedes(version, "0.3.0")),
    }
}

/// A range as the conflist has it.
struct DeclaredRange<'a> {
    at: String,
    text: &'a str,
    /// The name of a pool is allowed there too.
    is_pool: bool,
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
    for (key, value) in ipam {
        let (here, key) = (member_path(at, key), fold_key(key));
        if key == SUBNET {
            collect_range(value, &here, false, found);
        } else if key == RANGES {
            each_element(value, &here, |set, at| {
                each_element(set, at, |range, at| {
                    for (key, value) in range.as_object().into_iter().flatten() {
                        if fold_key(key) == SUBNET {
                            collect_range(value, &member_path(at, key), false, found);
                        }
                    }
                });
            });
        } else if POOLS.contains(&key.as_str()) {
            each_element(value, &here, |pool, at| {
                collect_range(pool, at, true, found);
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
    is_pool: bool,
    found: &mut Vec<DeclaredRange<'a>>,
) {
    if let Value::String(text) = value
        && !has_placeholder(text)
        && !text.starts_with(POD_CIDR)
    {
        found.push(DeclaredRange {
            at: at.to_owned(),
            text,
            is_pool,
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

    /// As host-local itself answers to an ADD with them.
    #[test]
    fn what_host_local_refuses_is_refused_whatever_is_asked_for() {
        let with = |kind: &str, subnet: &str| json!({"plugins": [{"ipam": {"type": kind, "ranges": [[{"subnet": subnet}]]}}]});
        for (bad, why) in [
            ("10.244.1.5/24", "write 10.244.1.0/24"),
            ("10.244.1.0/31", "too small"),
            ("fd00::/128", "too small"),
            ("10.244.1.0", "not a range"),
            ("", "not a range"),
        ] {
            let findings = findings_of(&with("host-local", bad), &[], &[]);
            assert!(
                findings.len() == 1 && findings[0].contains(why),
                "{bad}: {findings:?}"
            );
            assert_eq!(check_ranges(&with("another", bad), &[], &[]), []);
        }
        for good in [
            "10.244.1.0/24",
            "10.244.1.0/30",
            "fd00:10::/64",
            "usePodCidr",
        ] {
            assert_eq!(
                findings_of(&with("host-local", good), &[], &[]),
                [""; 0],
                "{good}"
            );
        }
    }
}
