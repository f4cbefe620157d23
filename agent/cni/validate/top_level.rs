//! Rules for the top level of a conflist.

use super::findings::Findings;
use crate::cni::json_tree::{Json, element_path, fold_key};
use crate::cni::spec_version::{self, SPEC_VERSIONS, VersionEntry};

/// Every key that libcni reads at the top level. Case matters there.
const KEYS: [&str; 7] = [
    "name",
    "cniVersion",
    "cniVersions",
    "disableCheck",
    "disableGC",
    "loadOnlyInlinedPlugins",
    "plugins",
];

/// The longest name of a network, in bytes. libcni caches a result in a file `<name>-<container id>-<interface>`: 255
/// bytes for a file name, less 64 for the id, 15 for the longest interface name and 2 for the dashes.
const MAX_NAME: usize = 174;

pub(super) fn check_top_level(root: &Json, findings: &mut Findings) {
    let Some(members) = root.as_object() else {
        return findings.wrong_type(root.type_name(), "", "one object with a name and plugins");
    };
    for (key, _) in members {
        let known = KEYS
            .into_iter()
            .find(|known| fold_key(known) == fold_key(key));
        if let Some(known) = known.filter(|known| known != key) {
            findings.warning(
                key,
                "no runtime reads a key with this spelling",
                format!("write '{known}'"),
            );
        }
    }
    check_name(root, findings);
    check_versions(root, findings);
    check_flags(root, findings);
    check_plugins(root, findings);
}

fn check_name(root: &Json, findings: &mut Findings) {
    const FIX: &str = "use letters, digits, '_', '.' and '-', beginning with a letter or a digit";
    let name = match root.get("name") {
        None => return findings.error("name", "the network has no name", "give it one"),
        Some(Json::Text(name)) => name,
        Some(other) => return findings.wrong_type(other.type_name(), "name", "a string"),
    };
    // The rule of `utils.ValidateNetworkName`, which libcni calls at ADD and not when it loads.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let begins_well = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if name.len() > MAX_NAME {
        findings.error(
            "name",
            format!("ADD can fail with a name of {} bytes", name.len()),
            format!("use at most {MAX_NAME}"),
        );
    } else if !begins_well || !name.bytes().all(plain) {
        findings.error("name", format!("ADD refuses the name {name:?}"), FIX);
    }
}

fn check_versions(root: &Json, findings: &mut Findings) {
    let known = || format!("write one of {}", SPEC_VERSIONS.join(", "));
    let list = root.get("cniVersions");
    let declared = match root.get("cniVersion") {
        None => "",
        Some(Json::Text(version)) => version,
        Some(other) => return findings.wrong_type(other.type_name(), "cniVersion", "a string"),
    };
    if declared.is_empty() {
        let problem = if list.is_some() {
            "containerd 1.7 does not read cniVersions, and takes a missing cniVersion for 0.1.0"
        } else {
            "a missing cniVersion means 0.1.0"
        };
        findings.warning("cniVersion", problem, "write \"1.0.0\"");
    } else if !spec_version::is_spec_version(declared) {
        findings.error(
            "cniVersion",
            format!("there is no CNI version {declared:?}"),
            known(),
        );
    } else if declared == spec_version::NEWEST {
        findings.warning(
            "cniVersion",
            "containerd 1.7 and older do not know 1.1.0, so every ADD fails there",
            "write \"1.0.0\", and list \"1.1.0\" under cniVersions for newer runtimes",
        );
    }

    let Some(list) = list else { return };
    let Some(entries) = list.as_list() else {
        return findings.wrong_type(list.type_name(), "cniVersions", "a list of strings");
    };
    let texts: Vec<&str> = entries.iter().filter_map(Json::as_text).collect();
    let selected = spec_version::select_version(&texts, declared);
    for (index, entry) in entries.iter().enumerate() {
        let at = element_path("cniVersions", index);
        let Some(text) = entry.as_text() else {
            findings.wrong_type(entry.type_name(), &at, "a string");
            continue;
        };
        match spec_version::classify_version(text) {
            _ if spec_version::is_spec_version(text) => {}
            VersionEntry::Unreadable => {
                findings.error(&at, format!("{text:?} is not a version"), known());
            }
            VersionEntry::Newer => findings.warning(
                &at,
                format!("no libcni supports {text} yet, so it is skipped"),
                "remove it",
            ),
            VersionEntry::Candidate if text == selected && !text.is_empty() => findings.error(
                &at,
                format!("libcni selects {text:?}, which no plugin supports"),
                known(),
            ),
            VersionEntry::Candidate => {
                findings.warning(&at, format!("there is no CNI version {text:?}"), known());
            }
        }
    }
}

fn check_flags(root: &Json, findings: &mut Findings) {
    for key in ["disableCheck", "disableGC", "loadOnlyInlinedPlugins"] {
        let spelled = match root.get(key) {
            None | Some(Json::Bool(_)) => continue,
            Some(Json::Text(text)) => text.to_lowercase(),
            Some(other) => {
                findings.wrong_type(other.type_name(), key, "a boolean");
                continue;
            }
        };
        let problem = "it is a string, not a boolean";
        let fix = "write true or false without quotes";
        match spelled.as_str() {
            "true" | "false" if key == "disableCheck" => {
                findings.error(key, "containerd 1.7 refuses a string here", fix);
            }
            "true" | "false" => findings.warning(key, problem, fix),
            _ => findings.error(key, problem, fix),
        }
    }
}

fn check_plugins(root: &Json, findings: &mut Findings) {
    const FIX: &str = "list at least one plugin";
    match root.get("plugins") {
        None => findings.error("plugins", "there are no plugins", FIX),
        Some(Json::List(plugins)) if plugins.is_empty() => {
            findings.error("plugins", "the list is empty", FIX);
        }
        Some(Json::List(_)) => {}
        Some(other) => findings.wrong_type(other.type_name(), "plugins", "a list of objects"),
    }
}
