//! Rules for the plugins of a conflist.

use super::findings::Findings;
use crate::cni::json_tree::{Json, element_path, fold_key, member_path};
use crate::cni::plugin_conf::{DecodedPlugin, FIELDS, Order, decode_plugin};
use crate::model::PluginName;

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
        for wrong_type in &decoded.wrong_types {
            findings.wrong_type(wrong_type.got, &wrong_type.at, wrong_type.want);
        }
        check_spelling(members, &at, &FIELDS, findings);
        check_reserved_keys(root, members, &at, findings);
        check_type(&decoded, &member_path(&at, "type"), findings);
        if let Some(members) = plugin.get("ipam").and_then(Json::as_object) {
            check_ipam(members, &decoded.ipam, &member_path(&at, "ipam"), findings);
        }
    }
}

fn check_type(plugin: &DecodedPlugin, at: &str, findings: &mut Findings) {
    if !plugin.kind.is_empty() {
        check_binary_name(&plugin.kind, at, findings);
        check_position(&plugin.kind, at, findings);
    } else if plugin
        .wrong_types
        .iter()
        .all(|wrong_type| wrong_type.at != at)
    {
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
            "it has no type, so no addresses are assigned",
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

/// Go ignores the case of a field's name. If a field is written in several spellings, the one that sorts last counts.
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
                format!("it is also written as '{second}', and libcni ignores case"),
                format!("keep only '{field}'"),
            );
        } else if let [only] = spellings[..]
            && only != *field
        {
            // libcni adds its own cniVersion for the plugin, which counts only if it sorts last.
            if *field == "cniVersion" && only > *field {
                let problem = "it overrides the version that libcni hands to the plugin";
                findings.error(&member_path(at, only), problem, "remove it");
            } else {
                let problem = format!("not every reader accepts this spelling of '{field}'");
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
                "libcni replaces it by the conflist's own value",
                "remove it",
            ),
            _ if fold_key(key) == fold_key("prevResult") && *value != Json::Null => findings.error(
                &here,
                "the plugin would read it as the result of an earlier plugin",
                "remove it",
            ),
            "runtimeConfig" | "args" => findings.warning(
                &here,
                "the runtime fills this key and replaces what is written here",
                "remove it unless the plugin asks for it",
            ),
            _ if key.starts_with("cni.dev/") => {
                findings.warning(
                    &here,
                    "keys that begin with cni.dev/ belong to the runtime",
                    "remove it",
                );
            }
            _ => {}
        }
    }
}

/// Checks the position of a plugin of the reference set in the chain.
fn check_position(kind: &str, at: &str, findings: &mut Findings) {
    if IPAM.contains(&kind) || kind.ends_with("-ipam") {
        findings.warning(
            at,
            format!("{kind} assigns addresses for another plugin and makes no interface"),
            "name it as ipam.type of the main plugin",
        );
    }
}
