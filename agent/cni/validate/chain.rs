//! Rules for the plugins of a conflist.

use super::findings::Findings;
use crate::cni::json::{Json, element_path, fold_key, member_path};
use crate::cni::plugin_conf::{DecodedPlugin, FIELDS, Order, decode_plugin};
use crate::model::PluginName;

/// Plugins that only change an interface that a plugin before them made.
const META: [&str; 6] = ["portmap", "bandwidth", "firewall", "sbr", "tuning", "vrf"];

/// Plugins that another plugin calls, through its `ipam.type`.
const IPAM: [&str; 3] = ["host-local", "dhcp", "static"];

pub(super) fn check_chain(root: &Json, findings: &mut Findings) {
    let plugins = root.get("plugins").and_then(Json::as_list);
    for (index, plugin) in plugins.unwrap_or_default().iter().enumerate() {
        let at = element_path("plugins", index);
        let Some(members) = plugin.as_object() else {
            findings.wrong_type(plugin.type_name(), &at, "an object with a type");
            continue;
        };
        let decoded = decode_plugin(plugin, &at, Order::Sorted, true);
        for misfit in &decoded.misfits {
            findings.wrong_type(misfit.got, &misfit.at, misfit.want);
        }
        check_spelling(members, &at, &FIELDS, findings);
        check_reserved_keys(root, members, &at, findings);
        check_type(&decoded, &member_path(&at, "type"), index == 0, findings);
        if let Some(members) = plugin.get("ipam").and_then(Json::as_object) {
            check_ipam(members, &decoded.ipam, &member_path(&at, "ipam"), findings);
        }
    }
}

fn check_type(plugin: &DecodedPlugin, at: &str, first: bool, findings: &mut Findings) {
    if !plugin.kind.is_empty() {
        check_binary_name(&plugin.kind, at, findings);
        check_position(&plugin.kind, at, first, findings);
    } else if plugin.misfits.iter().all(|misfit| misfit.at != at) {
        findings.error(at, "the plugin has no type", "name its binary");
    }
}

fn check_ipam(members: &[(String, Json)], kind: &str, at: &str, findings: &mut Findings) {
    check_spelling(members, at, &["type"], findings);
    if !kind.is_empty() {
        check_binary_name(kind, &member_path(at, "type"), findings);
    } else if !members.is_empty() {
        findings.warning(
            at,
            "it has no type, so no addresses are given out",
            "name an IPAM plugin",
        );
    }
}

/// A type becomes a file name in the bin directory; libcni refuses one with a slash (`FindInPath`).
fn check_binary_name(name: &str, at: &str, findings: &mut Findings) {
    if let Err(error) = name.parse::<PluginName>() {
        findings.error(at, error.to_string(), "name a binary of the bin directory");
    }
}

/// Go ignores the case of a field's name. Of several spellings the one that sorts last counts.
fn check_spelling(members: &[(String, Json)], at: &str, fields: &[&str], findings: &mut Findings) {
    for field in fields {
        let same = |key: &str| fold_key(key) == fold_key(field);
        let mut spellings: Vec<&str> = members
            .iter()
            .map(|(key, _)| key.as_str())
            .filter(|key| same(key))
            .collect();
        spellings.sort_unstable();
        spellings.dedup();
        let fix = format!("write '{field}'");
        if let [first, second, ..] = spellings[..] {
            findings.error(
                &member_path(at, first),
                format!("it is there as '{second}' too, and case does not tell them apart"),
                format!("keep '{field}' alone"),
            );
        } else if let [only] = spellings[..]
            && only != *field
        {
            // libcni adds its own cniVersion for the plugin, which counts only if it sorts last.
            if *field == "cniVersion" && only > *field {
                let problem = "it overrides the version that libcni hands to the plugin";
                findings.error(&member_path(at, only), problem, "remove it");
            } else {
                let problem = format!("not every reader takes it for '{field}'");
                findings.warning(&member_path(at, only), problem, fix);
            }
        }
    }
}

/// Keys that a runtime writes.
fn check_reserved_keys(root: &Json, members: &[(String, Json)], at: &str, findings: &mut Findings) {
    for (key, value) in members {
        let here = member_path(at, key);
        match key.as_str() {
            "name" | "cniVersion" if root.get(key) == Some(value) => {}
            "name" | "cniVersion" => findings.warning(
                &here,
                "libcni puts the conflist's own in its place",
                "remove it",
            ),
            _ if fold_key(key) == fold_key("prevResult") && *value != Json::Null => findings.error(
                &here,
                "the plugin would take it for the result of a plugin before it",
                "remove it",
            ),
            "runtimeConfig" | "args" => findings.warning(
                &here,
                "it is the runtime's to fill, and replaced where it does",
                "remove it unless the plugin asks for it",
            ),
            _ if key.starts_with("cni.dev/") => {
                findings.warning(&here, "keys of cni.dev are the runtime's", "remove it");
            }
            _ => {}
        }
    }
}

/// Where in the chain a plugin of the reference set belongs.
fn check_position(kind: &str, at: &str, first: bool, findings: &mut Findings) {
    if first && META.contains(&kind) {
        findings.warning(
            at,
            format!("{kind} works on an interface that a plugin before it made, and there is none"),
            "put it behind the main plugin",
        );
    }
    if IPAM.contains(&kind) || kind.ends_with("-ipam") {
        findings.warning(
            at,
            format!("{kind} gives out addresses to another plugin and makes no interface"),
            "name it as ipam.type of the main plugin",
        );
    }
}
