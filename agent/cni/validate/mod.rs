//! Checks a conflist before it is written, more strictly than libcni does.
//!
//! An *error* is one of these:
//! - a supported runtime refuses to load the file;
//! - ADD fails with every plugin;
//! - a plugin gets another value than the one that is written.
//!
//! A *warning* is something that works but is probably a mistake.

mod chain;
mod finding;
mod findings;
mod top_level;

pub use finding::{ConflistSummary, Finding, Severity, ValidationReport};

use std::collections::BTreeSet;

use findings::Findings;

use super::directory::DropIns;
use super::examined_file::LibcniNetwork;
use super::json_tree::{DEPTH, Json, element_path, member_path};
use super::loader::{ConfForm, Libcni, load_as_libcni};
use super::parse::{JsonFlaws, parse_json};
use super::plugin_conf::{Order, decode_plugin};

/// The largest file that newer go-cni reads (`MaxFileSize`), in bytes.
const MAX_SIZE: usize = 2 * 1024 * 1024;

/// Checks the bytes of a conflist.
///
/// Checks that need the node (installed plugins and their versions, other files of the directory) are separate
/// functions: [`super::check_plugin_versions`] and [`super::check_name_is_free`].
#[must_use]
pub fn validate_conflist(bytes: &[u8]) -> ValidationReport {
    let mut findings = Findings::default();
    if bytes.len() > MAX_SIZE {
        findings.error(
            "",
            format!(
                "it has {} bytes, and containerd reads at most {MAX_SIZE}",
                bytes.len()
            ),
            "make it smaller",
        );
    }
    let document = match parse_json(bytes) {
        Ok(document) => document,
        Err(error) => {
            findings.error("", error.to_string(), "fix the JSON there");
            return findings.into_report(None);
        }
    };
    check_flaws(&document.flaws, &mut findings);
    check_values(&document.root, "", &mut findings);
    top_level::check_top_level(&document.root, &mut findings);
    chain::check_chain(&document.root, &mut findings);

    let no_drop_ins = |_: &str| DropIns::Absent;
    let load = |libcni| load_as_libcni(bytes, ConfForm::List, libcni, &no_drop_ins);
    if !findings.has_errors() {
        // The checks above should find every reason to refuse the file. The loader is the final check.
        for libcni in Libcni::ALL {
            if let Err(error) = load(libcni) {
                findings.error(
                    "",
                    format!("{} would refuse it: {error}", libcni.used_by()),
                    "fix that",
                );
            }
        }
    }
    let summary = load(Libcni::V1_3).ok();
    let summary = summary.map(|network| summary_of(network, &document.root));
    findings.into_report(summary)
}

/// Reports what Go accepts, or refuses only later, although the author certainly meant something else.
fn check_flaws(flaws: &JsonFlaws, findings: &mut Findings) {
    let too_deep = format!("it nests deeper than {DEPTH} levels");
    for (at, problem, fix) in [
        (
            &flaws.invalid_utf8,
            "bytes that are not UTF-8",
            "save the file as UTF-8",
        ),
        (
            &flaws.lone_surrogate,
            "half of a \\u surrogate pair",
            "write both halves, or the character itself",
        ),
        (
            &flaws.overflow,
            "a number too large for a 64-bit float",
            "write a smaller one, or a string",
        ),
        (&flaws.too_deep, &too_deep, "flatten it"),
    ] {
        if let Some(at) = at {
            findings.error(at, problem, fix);
        }
    }
}

/// Finds duplicate keys, and integers that reach the plugin changed: libcni reads every number as a 64-bit float and
/// writes the plugin's configuration again.
fn check_values(value: &Json, at: &str, findings: &mut Findings) {
    match value {
        Json::Number(text) if is_rounded(text) => findings.error(
            at,
            "an integer beyond 2^53, so the plugin would get another one",
            "write it as a string, or smaller",
        ),
        Json::List(elements) => {
            for (index, value) in elements.iter().enumerate() {
                check_values(value, &element_path(at, index), findings);
            }
        }
        Json::Object(members) => {
            let mut seen = BTreeSet::new();
            for (key, value) in members {
                let at = member_path(at, key);
                if !seen.insert(key) {
                    findings.error(
                        &at,
                        "the key is there twice, and only the last one counts",
                        "remove one",
                    );
                }
                check_values(value, &at, findings);
            }
        }
        _ => {}
    }
}

fn is_rounded(number: &str) -> bool {
    let digits = number.trim_start_matches('-');
    digits.bytes().all(|byte| byte.is_ascii_digit())
        && digits.parse::<u64>().map_or(true, |value| value > 1 << 53)
}

fn summary_of(network: LibcniNetwork, root: &Json) -> ConflistSummary {
    let declared = root.get("cniVersion").and_then(Json::as_text);
    let plugins = root.get("plugins").and_then(Json::as_list);
    let (mut ipam, mut capabilities) = (Vec::new(), BTreeSet::new());
    for plugin in plugins.unwrap_or_default() {
        let plugin = decode_plugin(plugin, "", Order::Sorted, true);
        ipam.extend(Some(plugin.ipam).filter(|ipam| !ipam.is_empty()));
        let enabled = plugin.capabilities.into_iter().filter(|(_, on)| *on);
        capabilities.extend(enabled.map(|(capability, _)| capability));
    }
    ConflistSummary {
        name: network.name,
        version: network.version,
        version_without_list: declared.unwrap_or_default().to_owned(),
        chain: network.chain,
        ipam,
        capabilities: capabilities.into_iter().collect(),
        only_inlined: root.get("loadOnlyInlinedPlugins") == Some(&Json::Bool(true)),
    }
}

#[cfg(test)]
mod tests;
