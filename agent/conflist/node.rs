//! Rules of a conflist that need knowledge of the node, which the caller brings.

use std::ffi::OsStr;

use serde_json::Value;

use super::json::{Json, element, member};
use super::loader::{DropIns, Libcni};
use super::plugin::{Order, decode};
use super::precedence::{Answers, ConfDir, is_candidate, load_entry};
use super::validate::{Finding, Summary};
use super::version::UNDECLARED;
use crate::model::{FileName, PluginName};

/// What a conflist needs a plugin for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It is in the chain.
    Chain,
    /// It gives out addresses, called by a plugin of the chain.
    Ipam,
    /// It does the work for a plugin of the chain.
    Delegate,
    /// containerd sets `lo` up with it, though no conflist names it.
    Loopback,
}

/// A plugin that must be in the bin directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// Its name.
    pub plugin: PluginName,
    /// What for.
    pub role: Role,
    /// What names it, as in `plugins[0].ipam.type`; empty for `loopback`.
    pub at: String,
}

/// Every plugin that a conflist needs, in call order, each for each of its roles; `loopback` is last.
///
/// A type that is no possible binary name is left out: `validate` has refused it.
#[must_use]
pub fn needed_plugins(conflist: &Value) -> Vec<Needed> {
    let conflist = Json::from(conflist);
    let mut needed = Vec::new();
    let mut need = |plugin: &str, role, at: String| {
        if let Ok(plugin) = plugin.parse() {
            needed.push(Needed { plugin, role, at });
        }
    };
    let plugins = conflist.get("plugins").and_then(Json::elements);
    for (index, value) in plugins.unwrap_or_default().iter().enumerate() {
        let at = element("plugins", index);
        let plugin = decode(value, &at, Order::Sorted, true);
        // The flannel plugin hands on to bridge and host-local unless told otherwise.
        let (delegate, ipam) = match plugin.kind.as_str() {
            "flannel" => ("bridge", "host-local"),
            _ => ("", ""),
        };
        need(&plugin.kind, Role::Chain, member(&at, "type"));
        let explicit = value.get("delegate").map(|delegate| {
            let delegate_at = member(&at, "delegate");
            decode(delegate, &delegate_at, Order::Sorted, true)
        });
        let explicit = explicit.unwrap_or_default();
        need(
            first_of(&explicit.kind, delegate),
            Role::Delegate,
            format!("{at}.delegate.type"),
        );
        need(
            first_of(&plugin.ipam, ipam),
            Role::Ipam,
            format!("{at}.ipam.type"),
        );
        need(
            &explicit.ipam,
            Role::Ipam,
            format!("{at}.delegate.ipam.type"),
        );
    }
    need("loopback", Role::Loopback, String::new());
    needed
}

/// The first one unless it is empty.
fn first_of<'a>(explicit: &'a str, default: &'a str) -> &'a str {
    if explicit.is_empty() {
        default
    } else {
        explicit
    }
}

/// Checks that every needed plugin answers VERSION, and with the versions that the runtimes select:
/// libcni refuses ADD otherwise, and CRI-O does not even take the file.
///
/// `loopback` is only asked whether it answers: containerd calls it with a version of its own.
#[must_use]
pub fn check_plugins(needed: &[Needed], summary: &Summary, answers: Answers<'_>) -> Vec<Finding> {
    let mut versions = vec![summary.version.as_str()];
    if summary.version_without_list != summary.version {
        versions.push(&summary.version_without_list);
    }
    let mut findings = Vec::new();
    for Needed { plugin, role, at } in needed {
        let Some(supported) = answers(plugin.as_str()) else {
            findings.push(Finding::error(
                at,
                format!("{plugin} is not in the bin directory or does not answer VERSION"),
                "add it to the plugins of an artifact",
            ));
            continue;
        };
        for version in &versions {
            let version = first_of(version, UNDECLARED);
            if *role != Role::Loopback && !supported.iter().any(|one| one == version) {
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

/// Checks that nothing else in the directory has the network's name: of two files CRI-O takes the first,
/// and libcni looks for drop-ins in `<confDir>/<name>`, where a file makes it refuse the network.
#[must_use]
pub fn check_name_is_free(network: &str, ours: &FileName, dir: &ConfDir<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let DropIns::Unreadable(reason) = (dir.drop_ins)(network) {
        findings.push(Finding::error(
            "name",
            format!("libcni expects drop-ins in {network} beside the conflist: {reason}"),
            "rename the network, or what is called like it",
        ));
    }
    for entry in dir.entries {
        if entry.name != OsStr::new(ours.as_str())
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
