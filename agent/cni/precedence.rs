//! Which file of the configuration directory a runtime takes, and what that means for ours.
//!
//! A file that sorts before ours is taken instead of it (it shadows ours), or blocks the load if it is broken.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use super::directory::{ConfDir, DirEntry, DropIns, EntryKind, has_extension, is_candidate};
use super::examined_file::{LibcniNetwork, LoadError};
use super::loader::{ConfForm, Libcni, load_as_libcni, load_examined};
use super::spec_version::UNDECLARED;
use crate::model::{ContainerRuntime, FileName};

/// The `supportedVersions` in a plugin's answer to VERSION; `None` if the plugin is absent or does not answer.
pub type SupportedVersions<'a> = &'a dyn Fn(&str) -> Option<Vec<String>>;

/// What a runtime takes from a configuration directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeChoice {
    /// The file that it takes, or why it takes none.
    pub outcome: ChoiceOutcome,
    /// The files that it skipped before that, each with the reason. Only CRI-O skips files.
    pub skipped: Vec<(OsString, ConflistRefusal)>,
}

/// The file that a runtime takes, if any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChoiceOutcome {
    /// It takes this file.
    Picked {
        /// Its name in the directory.
        file: OsString,
        /// The network in it.
        network: LibcniNetwork,
    },
    /// It takes no file, because this one aborts the load. The runtime loses the network that worked before.
    Aborted {
        /// The file that sorts first.
        file: OsString,
        /// Why it does not load.
        error: LoadError,
    },
    /// It takes no file, because there is none that it could take.
    Nothing,
}

/// Why CRI-O skips a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConflistRefusal {
    /// libcni refuses it.
    #[error(transparent)]
    Invalid(#[from] LoadError),
    /// A plugin of the chain is not in the bin directory, or does not answer VERSION.
    #[error("its plugin {0} is missing or does not answer VERSION")]
    PluginSilent(String),
    /// A plugin of the chain does not support the network's version.
    #[error("its plugin {plugin} does not support CNI version {version}")]
    Version {
        /// The plugin.
        plugin: String,
        /// The version that the network selects.
        version: String,
    },
}

/// What a runtime takes from the directory. Only CRI-O asks plugins, so only it uses `answers`.
#[must_use]
pub fn choose_conflist(
    runtime: ContainerRuntime,
    dir: &ConfDir<'_>,
    answers: SupportedVersions<'_>,
) -> RuntimeChoice {
    match runtime {
        ContainerRuntime::Containerd => choose_as_containerd(dir, Libcni::V1_3),
        ContainerRuntime::ContainerdUpTo17 => choose_as_containerd(dir, Libcni::V1_1),
        ContainerRuntime::Crio => choose_as_crio(dir, answers),
    }
}

/// What containerd takes: the first file by name, or nothing if that file does not load (go-cni with `max_conf_num` 1,
/// the default).
#[must_use]
pub fn choose_as_containerd(dir: &ConfDir<'_>, libcni: Libcni) -> RuntimeChoice {
    let outcome = match sorted_candidates(dir).first() {
        None => ChoiceOutcome::Nothing,
        Some(entry) => match load_entry(entry, dir, libcni) {
            Ok(network) => ChoiceOutcome::Picked {
                file: entry.name.clone(),
                network,
            },
            Err(error) => ChoiceOutcome::Aborted {
                file: entry.name.clone(),
                error,
            },
        },
    };
    RuntimeChoice {
        outcome,
        skipped: Vec::new(),
    }
}

/// What CRI-O takes: the first file by name that loads and whose plugins all answer VERSION with the network's version
/// (ocicni, `ValidateNetworkList`). A network without a name gets the name of its file.
#[must_use]
pub fn choose_as_crio(dir: &ConfDir<'_>, answers: SupportedVersions<'_>) -> RuntimeChoice {
    let mut skipped = Vec::new();
    for entry in sorted_candidates(dir) {
        let loaded = load_entry(entry, dir, Libcni::V1_3).map_err(ConflistRefusal::from);
        match loaded.and_then(|network| check_answers(network, answers)) {
            Ok(mut network) => {
                if network.name.is_empty() {
                    network.name = entry.name.to_string_lossy().into_owned();
                }
                let outcome = ChoiceOutcome::Picked {
                    file: entry.name.clone(),
                    network,
                };
                return RuntimeChoice { outcome, skipped };
            }
            Err(reason) => skipped.push((entry.name.clone(), reason)),
        }
    }
    RuntimeChoice {
        outcome: ChoiceOutcome::Nothing,
        skipped,
    }
}

/// What a runtime does with our own file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precedence {
    /// The runtime takes it.
    Picked,
    /// A foreign file sorts before it, so the runtime takes that file, or would: drift `shadowed`.
    Shadowed {
        /// The foreign file.
        by: OsString,
        /// The network in it.
        network: String,
    },
    /// A file that sorts before it does not load, which aborts the whole load: drift `runtime-blocked`.
    Blocked {
        /// The foreign file.
        by: OsString,
        /// Why it does not load.
        error: LoadError,
    },
    /// The runtime refuses ours.
    Refused(ConflistRefusal),
    /// The runtime does not see ours, because it is missing or no runtime reads a file of that name. No file that sorts
    /// before it is in the way.
    Absent,
}

/// What the runtime that made this choice does with our file `ours`.
#[must_use]
pub fn precedence_of(ours: &FileName, choice: &RuntimeChoice) -> Precedence {
    let is_ours = |file: &OsString| *file == *ours.as_str();
    // If our own file is refused, that is reported first, because only fixing that file brings our network back.
    if let Some((_, reason)) = choice.skipped.iter().find(|(file, _)| is_ours(file)) {
        return Precedence::Refused(reason.clone());
    }
    match &choice.outcome {
        ChoiceOutcome::Picked { file, .. } if is_ours(file) => Precedence::Picked,
        ChoiceOutcome::Picked { file, network } if sorts_before(file, ours) => {
            Precedence::Shadowed {
                by: file.clone(),
                network: network.name.clone(),
            }
        }
        ChoiceOutcome::Aborted { file, error } if is_ours(file) => {
            Precedence::Refused(ConflistRefusal::Invalid(error.clone()))
        }
        ChoiceOutcome::Aborted { file, error } if sorts_before(file, ours) => Precedence::Blocked {
            by: file.clone(),
            error: error.clone(),
        },
        ChoiceOutcome::Picked { .. } | ChoiceOutcome::Aborted { .. } | ChoiceOutcome::Nothing => {
            Precedence::Absent
        }
    }
}

/// The files that libcni 1.3 and later merge into the network of that name, in their order: drift `dropin`. The caller
/// checks that the network does not say `loadOnlyInlinedPlugins: true`.
#[must_use]
pub fn list_merged_drop_ins(network: &str, dir: &ConfDir<'_>) -> Vec<OsString> {
    let DropIns::Entries(entries) = (dir.drop_ins)(network) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .iter()
        .filter(|entry| entry.kind != EntryKind::Directory && has_extension(entry, &[".conf"]))
        .map(|entry| entry.name.clone())
        .collect();
    files.sort();
    files
}

/// The files that the runtimes read before `ours`, in their order.
#[must_use]
pub fn list_earlier_candidates(ours: &FileName, dir: &ConfDir<'_>) -> Vec<OsString> {
    sorted_candidates(dir)
        .into_iter()
        .map(|entry| entry.name.clone())
        .filter(|name| sorts_before(name, ours))
        .collect()
}

/// Whether a file sorts before ours. This is the rule by which an earlier-sorting conflist shadows ours: the runtimes
/// sort by the bytes of the names, and the newest containerd takes the first file, or fails on it.
#[must_use]
pub fn sorts_before(name: &OsStr, ours: &FileName) -> bool {
    name < OsStr::new(ours.as_str())
}

/// Every file that the runtimes read, in their order, loaded as this generation of libcni loads it.
#[must_use]
pub fn load_candidates(
    dir: &ConfDir<'_>,
    libcni: Libcni,
) -> Vec<(OsString, Result<LibcniNetwork, LoadError>)> {
    let loaded = |entry: &DirEntry| (entry.name.clone(), load_entry(entry, dir, libcni));
    sorted_candidates(dir).into_iter().map(loaded).collect()
}

/// The plugins that CRI-O asks for their versions: those of our file and of every file before it.
#[must_use]
pub fn list_plugins_asked_by_crio(ours: &FileName, dir: &ConfDir<'_>) -> BTreeSet<String> {
    sorted_candidates(dir)
        .into_iter()
        .filter(|entry| entry.name == *ours.as_str() || sorts_before(&entry.name, ours))
        .filter_map(|entry| load_entry(entry, dir, Libcni::V1_3).ok())
        .flat_map(|network| network.chain)
        .collect()
}

/// Every entry that the runtimes read (see [`is_candidate`]), in their order: sorted by bytes.
fn sorted_candidates<'a>(dir: &ConfDir<'a>) -> Vec<&'a DirEntry> {
    let mut entries: Vec<_> = dir
        .entries
        .iter()
        .filter(|entry| is_candidate(entry))
        .collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

/// Loads one entry as the runtimes do.
pub(super) fn load_entry(
    entry: &DirEntry,
    dir: &ConfDir<'_>,
    libcni: Libcni,
) -> Result<LibcniNetwork, LoadError> {
    let form = ConfForm::of_name(&entry.name);
    match &entry.kind {
        EntryKind::File(bytes) => load_as_libcni(bytes, form, libcni, dir.drop_ins),
        EntryKind::Examined(file) => load_examined(file, libcni, dir.drop_ins),
        EntryKind::Unreadable(reason) => Err(LoadError::Unreadable(reason.clone())),
        EntryKind::Directory => Err(LoadError::Unreadable("it is a directory".to_owned())),
    }
}

fn check_answers(
    network: LibcniNetwork,
    answers: SupportedVersions<'_>,
) -> Result<LibcniNetwork, ConflistRefusal> {
    let version = match network.version.as_str() {
        "" => UNDECLARED,
        version => version,
    };
    for plugin in &network.chain {
        // libcni refuses a type with a slash in it.
        let supported = Some(plugin).filter(|plugin| !plugin.contains('/'));
        let Some(supported) = supported.and_then(|plugin| answers(plugin)) else {
            return Err(ConflistRefusal::PluginSilent(plugin.clone()));
        };
        if !supported.iter().any(|supported| supported == version) {
            return Err(ConflistRefusal::Version {
                plugin: plugin.clone(),
                version: version.to_owned(),
            });
        }
    }
    Ok(network)
}

#[cfg(test)]
mod tests;
