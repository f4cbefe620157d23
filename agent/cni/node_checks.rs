//! Checks of a conflist that need facts about the node: which plugins are installed, what else is in the directory.

use std::ffi::OsStr;

use serde_json::Value;

use super::directory::{ConfDir, DropIns, is_candidate};
use super::json_tree::{Json, element_path, member_path};
use super::loader::Libcni;
use super::plugin_conf::{Order, decode_plugin};
use super::precedence::{SupportedVersions, load_entry};
use super::spec_version::UNDECLARED;
use super::validate::{ConflistSummary, Finding};
use crate::model::{FileName, PluginName};

/// Why a conflist needs a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PluginRole {
    /// It is in the chain.
    Chain,
    /// It assigns addresses. A plugin of the chain calls it.
    Ipam,
    /// A plugin of the chain calls it to do the actual work.
    Delegate,
    /// containerd uses it to set up `lo`, although no conflist names it.
    Loopback,
}

/// A plugin that must be in the bin directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredPlugin {
    /// Its name.
    pub plugin: PluginName,
    /// Why it is needed.
    pub role: PluginRole,
    /// Where the conflist names it, as in `plugins[0].ipam.type`; empty for `loopback`.
    pub at: String,
}

/// Every plugin that a conflist needs, in call order, once for each role; `loopback` is last.
///
/// A type that cannot be the name of a binary is left out, because `validate` refuses it.
#[must_use]
pub fn list_required_plugins(conflist: &Value) -> Vec<RequiredPlugin> {
    let conflist = Json::from(conflist);
    let mut needed = Vec::new();
    let mut need = |plugin: &str, role, at: String| {
        if let Ok(plugin) = plugin.parse() {
            needed.push(RequiredPlugin { plugin, role, at });
        }
    };
    let plugins = conflist.get("plugins").and_then(Json::as_list);
    for (index, value) in plugins.unwrap_or_default().iter().enumerate() {
        let at = element_path("plugins", index);
        let plugin = decode_plugin(value, &at, Order::Sorted, true);
        // The flannel plugin delegates to bridge and host-local by default.
        let (delegate, ipam) = match plugin.kind.as_str() {
            "flannel" => ("bridge", "host-local"),
            _ => ("", ""),
        };
        need(&plugin.kind, PluginRole::Chain, member_path(&at, "type"));
        let explicit = value.get("delegate").map(|delegate| {
            let delegate_at = member_path(&at, "delegate");
            decode_plugin(delegate, &delegate_at, Order::Sorted, true)
        });
        let explicit = explicit.unwrap_or_default();
        need(
            first_of(&explicit.kind, delegate),
            PluginRole::Delegate,
            format!("{at}.delegate.type"),
        );
        need(
            first_of(&plugin.ipam, ipam),
            PluginRole::Ipam,
            format!("{at}.ipam.type"),
        );
        need(
            &explicit.ipam,
            PluginRole::Ipam,
            format!("{at}.delegate.ipam.type"),
        );
    }
    need("loopback", PluginRole::Loopback, String::new());
    needed
}

/// The explicit value, or the default if that is empty.
fn first_of<'a>(explicit: &'a str, default: &'a str) -> &'a str {
    if explicit.is_empty() {
        default
    } else {
        explicit
    }
}

/// Checks that every required plugin answers VERSION and supports the versions that the runtimes select. Otherwise
/// libcni refuses ADD, and CRI-O skips the file.
///
/// `loopback` only has to answer, because containerd calls it with a version of its own.
#[must_use]
pub fn check_plugin_versions(
    needed: &[RequiredPlugin],
    summary: &ConflistSummary,
    answers: SupportedVersions<'_>,
) -> Vec<Finding> {
    let mut versions = vec![summary.version.as_str()];
    if summary.version_without_list != summary.version {
        versions.push(&summary.version_without_list);
    }
    let mut findings = Vec::new();
    for RequiredPlugin { plugin, role, at } in needed {
        let Some(supported) = answers(plugin.as_str()) else {
            findings.push(Finding::error(
                at,
                format!("{plugin} is not in the bin directory or does not answer VERSION"),
                "list it under the plugins of an artifact, then install",
            ));
            continue;
        };
        for version in &versions {
            let version = first_of(version, UNDECLARED);
            if *role != PluginRole::Loopback && !supported.iter().any(|one| one == version) {
                findings.push(Finding::error(
                    at,
                    format!(
                        "{plugin} does not support CNI version {version}, only {}",
                        supported.join(", ")
                    ),
                    "declare a version that it supports, or install another release of it",
                ));
            }
        }
    }
    findings
}

/// Checks that nothing else in the directory has the network's name. Of two such files CRI-O takes the first. libcni
/// looks for drop-ins in `<confDir>/<name>`, and refuses the network if a file has that name. A file that is ours too, as
/// after a change of the file name, is removed anyway.
#[must_use]
pub fn check_name_is_free(
    network: &str,
    ours: &FileName,
    dir: &ConfDir<'_>,
    is_ours_too: &dyn Fn(&OsStr) -> bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let DropIns::Unreadable(reason) = (dir.drop_ins)(network) {
        findings.push(Finding::error(
            "name",
            format!("libcni expects drop-ins in {network} beside the conflist: {reason}"),
            "rename the network, or the file or directory with that name",
        ));
    }
    for entry in dir.entries {
        if entry.name != OsStr::new(ours.as_str())
            && !is_ours_too(&entry.name)
            && is_candidate(entry)
            && load_entry(entry, dir, Libcni::V1_3).is_ok_and(|other| other.name == network)
        {
            findings.push(Finding::error(
                "name",
                format!("{} has a network of the same name", entry.name.display()),
                "rename the network, or remove that file if it is obsolete",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cni::directory::{DirEntry, EntryKind};
    use crate::cni::spec_version::SPEC_VERSIONS;
    use crate::cni::validate::validate_conflist;

    fn needed(plugins: &Value) -> Vec<(String, PluginRole, String)> {
        list_required_plugins(&json!({"name": "n", "plugins": plugins}))
            .into_iter()
            .map(|one| (one.plugin.to_string(), one.role, one.at))
            .collect()
    }

    fn entry(name: &str, role: PluginRole, at: &str) -> (String, PluginRole, String) {
        (name.to_owned(), role, at.to_owned())
    }

    #[test]
    fn a_chain_needs_its_types_its_ipam_and_loopback() {
        assert_eq!(
            needed(
                &json!([{"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "portmap"}])
            ),
            [
                entry("bridge", PluginRole::Chain, "plugins[0].type"),
                entry("host-local", PluginRole::Ipam, "plugins[0].ipam.type"),
                entry("portmap", PluginRole::Chain, "plugins[1].type"),
                entry("loopback", PluginRole::Loopback, ""),
            ]
        );
        assert_eq!(needed(&json!([{"type": "a/b"}, null])).len(), 1);
    }

    #[test]
    fn flannel_hands_on_to_bridge_and_host_local_by_default() {
        assert_eq!(
            needed(&json!([{"type": "flannel", "delegate": {"hairpinMode": true}}])),
            [
                entry("flannel", PluginRole::Chain, "plugins[0].type"),
                entry("bridge", PluginRole::Delegate, "plugins[0].delegate.type"),
                entry("host-local", PluginRole::Ipam, "plugins[0].ipam.type"),
                entry("loopback", PluginRole::Loopback, ""),
            ]
        );
        let reported = json!([{"type": "flannel", "delegate": {"type": "calico"}, "ipam": {"type": "static"}}]);
        assert_eq!(
            needed(&reported)[1..3],
            [
                entry("calico", PluginRole::Delegate, "plugins[0].delegate.type"),
                entry("static", PluginRole::Ipam, "plugins[0].ipam.type"),
            ]
        );
    }

    #[test]
    fn every_plugin_must_support_what_each_runtime_selects() {
        let conflist = json!({
            "name": "n", "cniVersion": "1.0.0", "cniVersions": ["1.1.0"],
            "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "portmap"}],
        });
        let summary = validate_conflist(conflist.to_string().as_bytes())
            .summary
            .unwrap();
        let answers = |plugin: &str| match plugin {
            "portmap" => None,
            "host-local" => Some(vec!["1.0.0".to_owned()]),
            "loopback" => Some(vec!["0.3.1".to_owned()]),
            _ => Some(SPEC_VERSIONS.map(str::to_owned).to_vec()),
        };
        let found = check_plugin_versions(&list_required_plugins(&conflist), &summary, &answers);
        let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "error: plugins[0].ipam.type: host-local does not support CNI version 1.1.0, only 1.0.0; \
                 declare a version that it supports, or install another release of it",
                "error: plugins[1].type: portmap is not in the bin directory or does not answer VERSION; \
                 list it under the plugins of an artifact, then install",
            ]
        );
    }

    #[test]
    fn a_name_is_free_when_no_other_file_has_it() {
        let file = |name: &str, network: &str| DirEntry {
            name: name.into(),
            kind: EntryKind::File(
                json!({"name": network, "plugins": [{"type": "a"}]})
                    .to_string()
                    .into_bytes(),
            ),
        };
        let entries = [
            file("10-ours.conflist", "n"),
            file("20-same.conflist", "n"),
            file("30-other.conflist", "m"),
            file("40-same.conflist.bak", "n"),
        ];
        let check = |drop_ins: &DropIns| {
            let dir = ConfDir {
                entries: &entries,
                drop_ins: &|_| drop_ins.clone(),
            };
            check_name_is_free("n", &"10-ours.conflist".parse().unwrap(), &dir, &|_| false)
        };
        let found = check(&DropIns::Absent);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].problem,
            "20-same.conflist has a network of the same name"
        );
        let blocked = check(&DropIns::Unreadable("Not a directory".to_owned()));
        assert!(
            blocked[0]
                .problem
                .ends_with("in n beside the conflist: Not a directory")
        );
    }
}
