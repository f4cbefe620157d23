//! Holds the plugins of a conflist to the table of `reference_plugins`.

use serde_json::{Map, Value};

use super::host_local::check_range_sets;
use super::ipam_caller::{IpamCaller, type_of};
use super::ipam_rules::{check_addresses, check_default_routes, check_routes, has_ipv6_address};
use super::json_tree::{element_path, fold_key, for_each_value, member_path};
use super::plugin_rules::{PluginPlace, list_broken_rules};
use super::reference_plugins::{
    BESIDE_IPAM, COMMON, HOST_LOCAL, VLAN_TRUNK_RULES, find_ipam_plugin, find_plugin,
};
use super::validate::Finding;
use super::wanted_value::{ValueCheck, get};

/// What the reference plugins make of their configurations:
///
/// - an error where a plugin refuses it, because then every ADD fails;
/// - a warning where it reads something else than what was probably meant, such as nothing of an unknown key.
///
/// The case of keys does not matter, as Go ignores it. A value with a placeholder is not judged. Other plugins are not
/// judged, apart from an `ipam` for one of the reference plugins.
#[must_use]
pub fn check_plugins(conflist: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let chain = conflist.get("plugins").and_then(Value::as_array);
    for (index, plugin) in chain.into_iter().flatten().enumerate() {
        if let Some(members) = plugin.as_object() {
            let at = element_path("plugins", index);
            let is_first = index == 0;
            let place = PluginPlace {
                members,
                at: &at,
                is_first,
            };
            let kind = type_of(members).unwrap_or_default();
            check_plugin(kind, place, &mut findings);
            if kind == "flannel" {
                check_delegate(members, &at, &mut findings);
            }
        }
    }
    // At any depth, because flannel and multus have them below `delegate` and `delegates`.
    for_each_value(conflist, "", "", &mut |at, _, plugin| {
        for (key, ipam) in plugin.as_object().into_iter().flatten() {
            if fold_key(key) == "ipam"
                && let (Some(plugin), Some(ipam)) = (plugin.as_object(), ipam.as_object())
            {
                let at = member_path(at, key);
                findings.extend(check_ipam(ipam, &at, plugin, conflist));
            }
        }
    });
    findings
}

fn check_plugin(kind: &str, place: PluginPlace<'_>, findings: &mut Vec<Finding>) {
    let Some(known) = find_plugin(kind) else {
        return;
    };
    let mut check = ValueCheck::of(known.name);
    check.check_members(place.members, place.at, &[known.keys, COMMON], false);
    findings.append(&mut check.findings);
    findings.extend(list_broken_rules(known.rules, place));
    if let Some((key, Value::Array(trunks))) =
        get(place.members, "vlanTrunk").filter(|_| kind == "bridge")
    {
        let at = member_path(place.at, key);
        for (index, trunk) in trunks.iter().enumerate() {
            if let Some(members) = trunk.as_object() {
                let at = element_path(&at, index);
                let place = PluginPlace {
                    members,
                    at: &at,
                    is_first: false,
                };
                findings.extend(list_broken_rules(VLAN_TRUNK_RULES, place));
            }
        }
    }
    if let Some(problem) = check_mtu_of_ipv6(place) {
        findings.push(problem);
    }
}

/// The kernel takes no IPv6 address on an interface with a smaller MTU.
fn check_mtu_of_ipv6(place: PluginPlace<'_>) -> Option<Finding> {
    const LEAST: f64 = 1280.0;
    let (key, mtu) = get(place.members, "mtu")?;
    let mtu = mtu.as_f64().filter(|mtu| (1.0..LEAST).contains(mtu))?;
    let ipam = get(place.members, "ipam")?.1.as_object()?;
    has_ipv6_address(ipam).then(|| {
        Finding::error(
            member_path(place.at, key),
            format!(
                "with {mtu} the kernel gives the interface no IPv6 address, so every ADD fails"
            ),
            "write at least 1280",
        )
    })
}

/// What flannel calls: bridge, unless it is told otherwise, with a name and an ipam of its own.
fn check_delegate(flannel: &Map<String, Value>, at: &str, findings: &mut Vec<Finding>) {
    let Some((key, Value::Object(delegate))) = get(flannel, "delegate") else {
        return;
    };
    let mut delegate = delegate.clone();
    delegate.retain(|key, _| fold_key(key) != "ipam");
    delegate.insert("ipam".to_owned(), serde_json::json!({"type": HOST_LOCAL}));
    let kind = type_of(&delegate).unwrap_or("bridge").to_owned();
    let place = PluginPlace {
        members: &delegate,
        at: &member_path(at, key),
        is_first: true,
    };
    check_plugin(&kind, place, findings);
}

fn check_ipam(
    ipam: &Map<String, Value>,
    at: &str,
    plugin: &Map<String, Value>,
    conflist: &Value,
) -> Vec<Finding> {
    let Some(known) = type_of(ipam).and_then(find_ipam_plugin) else {
        return Vec::new();
    };
    let from_runtime = match known.name {
        HOST_LOCAL => "ipRanges",
        _ => "ips",
    };
    let caller = IpamCaller::of(plugin, conflist, from_runtime);
    let mut check = ValueCheck::of(known.name);
    check.takes_pod_cidr = !caller.adds_nothing;
    check.check_members(ipam, at, &[known.keys], false);
    if known.name != "dhcp" {
        let plugin_at = at.rsplit_once('.').map_or("", |(plugin, _)| plugin);
        check.check_members(plugin, plugin_at, &[BESIDE_IPAM], true);
    }
    let has_errors = check.findings.iter().any(Finding::is_error);
    if !check.is_open && !has_errors {
        check.findings.extend(match known.name {
            HOST_LOCAL => check_range_sets(ipam, at, caller),
            "static" => check_addresses(ipam, at, plugin, caller),
            _ => Vec::new(),
        });
        if caller.adds_nothing {
            check
                .findings
                .extend(check_routes(ipam, at, known.name == HOST_LOCAL));
            if caller.adds_default_route {
                check.findings.extend(check_default_routes(ipam, at));
            }
        }
    }
    check.findings
}
