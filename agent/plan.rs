//! Compares what is declared with what is on the disk, and lists the steps between them, in an order that is safe.
//!
//! Binaries come first and the conflist last, so that a conflist is never visible before the
//! plugins that it names; a foreign conflist that sorts first is only set aside once ours is in place.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Difference, FileMode, FileName, FileState, FileType, ManagedDir, Owner, PluginName, Sha256,
    Standing,
};

/// One plugin as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredPlugin {
    /// Its name, which is its file name in the bin directory.
    pub plugin: PluginName,
    /// The artifact that holds it, by the operator's name.
    pub artifact: String,
    /// The digest that it must have; `None` until its artifact has been fetched here once.
    pub sha256: Option<Sha256>,
    /// Whether a file of this name stays as it is if we did not place it (`ifPresent: keep`).
    pub keep_foreign: bool,
}

/// The conflist as rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredConflist {
    /// Its file name in the configuration directory.
    pub name: FileName,
    /// The mode that is enforced.
    pub mode: FileMode,
    /// Digest of the rendered text; `None` as long as it cannot be rendered.
    pub sha256: Option<Sha256>,
}

/// Everything that is declared for the node's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The plugins, each name once.
    pub plugins: Vec<DesiredPlugin>,
    /// The conflist; `None` where none is declared.
    pub conflist: Option<DesiredConflist>,
    /// Who must own every file.
    pub owner: Owner,
}

/// Everything that was observed on the node's disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskState {
    /// The state of every declared plugin; one that is left out is absent.
    pub plugins: BTreeMap<PluginName, FileState>,
    /// The state of the declared conflist and of every one that we placed earlier.
    pub conflists: BTreeMap<FileName, FileState>,
    /// What the ledger says we placed in the bin directory.
    pub placed_plugins: BTreeMap<FileName, BTreeSet<Sha256>>,
    /// What the ledger says we placed in the configuration directory.
    pub placed_conflists: BTreeMap<FileName, BTreeSet<Sha256>>,
    /// Plugin bytes that the store holds.
    pub blobs: BTreeSet<Sha256>,
    /// Foreign conflists that sort before ours, so that the runtime would take one of them. Empty unless the operator
    /// opted in to having them renamed.
    pub shadowing: Vec<FileName>,
}

impl DiskState {
    /// Whether a file of the configuration directory still has the content that we placed under its name.
    #[must_use]
    pub fn is_our_conflist(&self, name: &FileName) -> bool {
        let placed = self.placed_conflists.get(name);
        let found = self.conflists.get(name).and_then(FileState::digest);
        placed
            .zip(found)
            .is_some_and(|(placed, found)| placed.contains(&found))
    }
}

/// One change to the disk.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Download an artifact, verify its digest and put its plugins into the store.
    Fetch {
        /// The artifact, by the operator's name.
        artifact: String,
        /// The plugins whose digests are not known before the download. They are placed after it, if they differ.
        pending: Vec<Pending>,
    },
    /// Put a plugin from the store into the bin directory.
    Place {
        /// The plugin.
        plugin: PluginName,
        /// The bytes to place.
        sha256: Sha256,
        /// What is wrong with what is there.
        drift: Difference,
        /// Whether the file that is there is foreign, so that this step replaces it.
        foreign: bool,
    },
    /// Set mode and owner of a plugin whose content is right.
    FixPlugin {
        /// The plugin.
        plugin: PluginName,
        /// What is wrong.
        drifts: Vec<Difference>,
    },
    /// Write the conflist.
    WriteConflist {
        /// Its file name.
        name: FileName,
        /// What is wrong with what is there.
        drift: Difference,
        /// Whether the file that is there is foreign, so that this step replaces it.
        foreign: bool,
    },
    /// Set mode and owner of a conflist whose content is right.
    FixConflist {
        /// Its file name.
        name: FileName,
        /// What is wrong.
        drifts: Vec<Difference>,
    },
    /// Remove a conflist that we placed under a name that is no longer the declared one.
    RetireConflist {
        /// Its file name.
        name: FileName,
    },
    /// Rename a foreign configuration that sorts before ours to a name that no runtime reads.
    SetAside {
        /// Its file name.
        name: FileName,
    },
}

/// A plugin whose digest is not known until its artifact has been fetched.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pending {
    /// The plugin.
    pub plugin: PluginName,
    /// What is wrong with the file that is there.
    pub drift: Difference,
}

/// A declared file that cannot be fixed, because something that we may not remove is in its place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refusal {
    /// The file's name.
    pub name: FileName,
    /// Whether it is in the bin directory, rather than the configuration directory.
    pub plugin: bool,
    /// What is wrong.
    pub drift: Difference,
}

/// The steps from what is on the disk to what is declared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The steps, in the order in which they must be taken.
    pub steps: Vec<Step>,
    /// What no step can fix, for example a directory in the place of a file: it is never removed.
    pub refused: Vec<Refusal>,
    /// Plugins of the node image that stay (`ifPresent: keep`).
    pub kept: Vec<PluginName>,
}

impl Plan {
    /// Whether the disk is as declared.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.steps.is_empty() && self.refused.is_empty()
    }

    /// Whether something is wrong with a plugin: it has to be fetched, placed or fixed, or it cannot be fixed.
    #[must_use]
    pub fn is_plugin_wrong(&self, name: &PluginName) -> bool {
        let step = self.steps.iter().any(|step| match step {
            Step::Fetch { pending, .. } => pending.iter().any(|pending| pending.plugin == *name),
            Step::Place { plugin, .. } | Step::FixPlugin { plugin, .. } => plugin == name,
            _ => false,
        });
        let refused = |refusal: &Refusal| refusal.plugin && refusal.name == *name.file();
        step || self.refused.iter().any(refused)
    }

    /// The artifacts that have to be downloaded, each once.
    pub fn artifacts_to_fetch(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            Step::Fetch { artifact, .. } => Some(artifact.as_str()),
            _ => None,
        })
    }
}

impl Step {
    /// The file in the configuration directory that the step changes, if any.
    #[must_use]
    pub const fn changed_conflist(&self) -> Option<&FileName> {
        match self {
            Self::WriteConflist { name, .. }
            | Self::FixConflist { name, .. }
            | Self::RetireConflist { name }
            | Self::SetAside { name } => Some(name),
            Self::Fetch { .. } | Self::Place { .. } | Self::FixPlugin { .. } => None,
        }
    }

    /// Whether the step places the content with this digest.
    #[must_use]
    pub fn places_content(&self, digest: &Sha256) -> bool {
        matches!(self, Self::Place { sha256, .. } if sha256 == digest)
    }
}

/// One declared file, compared with what is on the disk. Steps, checks, reports and drift are all made from a list of
/// these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedFile {
    /// The directory that it is in.
    pub dir: ManagedDir,
    /// Its name there.
    pub name: FileName,
    /// The artifact that holds it, by the operator's name; `None` for the conflist.
    pub artifact: Option<String>,
    /// The digest that it must have, where that is known.
    pub expected: Option<Sha256>,
    /// What is there.
    pub actual: FileState,
    /// Whether it is as declared.
    pub standing: Standing,
    /// Every way in which it differs; the first one decides the step.
    pub differences: Vec<Difference>,
    /// Whether something is there that we never placed under this name. A file of ours that somebody edited is not
    /// foreign.
    pub is_foreign: bool,
}

impl ComparedFile {
    /// The difference that decides the step, if there is any.
    #[must_use]
    pub fn worst_difference(&self) -> Option<&Difference> {
        self.differences.first()
    }
}

/// Compares every declared file with what is there: the plugins as they are declared, then the conflist.
#[must_use]
pub fn compare_files(desired: &Desired, disk: &DiskState) -> Vec<ComparedFile> {
    let plugins = desired.plugins.iter();
    let mut files: Vec<ComparedFile> = plugins
        .map(|wanted| compare_plugin(wanted, desired.owner, disk))
        .collect();
    let conflist = desired.conflist.iter();
    files.extend(conflist.map(|wanted| compare_conflist(wanted, desired.owner, disk)));
    files
}

fn compare_plugin(wanted: &DesiredPlugin, owner: Owner, disk: &DiskState) -> ComparedFile {
    let actual = disk.plugins.get(&wanted.plugin);
    let actual = actual.cloned().unwrap_or(FileState::Absent);
    let is_ours = disk.placed_plugins.contains_key(wanted.plugin.file());
    let is_kept = wanted.keep_foreign && !is_ours && may_be_plugin(&actual);
    let differences = match is_kept {
        true => Vec::new(),
        false => list_differences(&actual, wanted.sha256, FileMode::PLUGIN, owner),
    };
    ComparedFile {
        dir: ManagedDir::Bin,
        name: wanted.plugin.file().clone(),
        artifact: Some(wanted.artifact.clone()),
        expected: wanted.sha256,
        standing: match (is_kept, differences.is_empty()) {
            (true, _) => Standing::Kept,
            (false, true) => Standing::Ok,
            (false, false) => Standing::Drift,
        },
        differences,
        is_foreign: actual != FileState::Absent && !is_ours,
        actual,
    }
}

/// Whether what is there can be a plugin that somebody else placed. A link can lead to one elsewhere, and a file that the
/// agent cannot read is still somebody's.
const fn may_be_plugin(state: &FileState) -> bool {
    match state {
        FileState::Regular(_)
        | FileState::Other(FileType::Symlink)
        | FileState::TooLarge(_)
        | FileState::Unreadable(_) => true,
        FileState::Absent | FileState::Other(FileType::Directory | FileType::Special) => false,
    }
}

fn compare_conflist(wanted: &DesiredConflist, owner: Owner, disk: &DiskState) -> ComparedFile {
    let actual = disk.conflists.get(&wanted.name);
    let actual = actual.cloned().unwrap_or(FileState::Absent);
    // A conflist that cannot be rendered yet cannot be compared.
    let differences = match wanted.sha256 {
        Some(_) => list_differences(&actual, wanted.sha256, wanted.mode, owner),
        None => Vec::new(),
    };
    ComparedFile {
        dir: ManagedDir::Conf,
        name: wanted.name.clone(),
        artifact: None,
        expected: wanted.sha256,
        standing: match (wanted.sha256, differences.is_empty()) {
            (None, _) => Standing::Waiting,
            (Some(_), true) => Standing::Ok,
            (Some(_), false) => Standing::Drift,
        },
        differences,
        is_foreign: actual != FileState::Absent
            && !disk.placed_conflists.contains_key(&wanted.name),
        actual,
    }
}

/// Derives the steps from the list that [`compare_files`] made. The same arguments always give the same steps.
#[must_use]
pub fn plan_steps(desired: &Desired, disk: &DiskState, files: &[ComparedFile]) -> Plan {
    let mut plan = Plan::default();
    let mut fetches: BTreeMap<String, Vec<Pending>> = BTreeMap::new();
    let mut changes = Vec::new();
    for (wanted, file) in desired.plugins.iter().zip(files) {
        if file.standing == Standing::Kept {
            plan.kept.push(wanted.plugin.clone());
        }
        let Some(worst) = file.worst_difference().cloned() else {
            continue;
        };
        if is_directory(&worst) {
            plan.refused.push(refuse(file, worst));
            continue;
        }
        if worst.is_metadata() {
            changes.push(Step::FixPlugin {
                plugin: wanted.plugin.clone(),
                drifts: file.differences.clone(),
            });
            continue;
        }
        match wanted.sha256 {
            Some(sha256) => {
                if !disk.blobs.contains(&sha256) {
                    fetches.entry(wanted.artifact.clone()).or_default();
                }
                changes.push(Step::Place {
                    plugin: wanted.plugin.clone(),
                    sha256,
                    drift: worst,
                    foreign: file.is_foreign,
                });
            }
            None => fetches
                .entry(wanted.artifact.clone())
                .or_default()
                .push(Pending {
                    plugin: wanted.plugin.clone(),
                    drift: worst,
                }),
        }
    }
    plan.steps = fetches
        .into_iter()
        .map(|(artifact, pending)| Step::Fetch { artifact, pending })
        .collect();
    plan.steps.append(&mut changes);
    if let Some(conflist) = files.get(desired.plugins.len()) {
        plan_conflist(conflist, disk, &mut plan);
    }
    plan
}

fn plan_conflist(file: &ComparedFile, disk: &DiskState, plan: &mut Plan) {
    if file.standing == Standing::Waiting {
        return;
    }
    if let Some(worst) = file.worst_difference().cloned() {
        if is_directory(&worst) {
            // Ours must be in place before a foreign conflist is renamed: otherwise the node would have no network.
            plan.refused.push(refuse(file, worst));
            return;
        }
        plan.steps.push(if worst.is_metadata() {
            Step::FixConflist {
                name: file.name.clone(),
                drifts: file.differences.clone(),
            }
        } else {
            Step::WriteConflist {
                name: file.name.clone(),
                drift: worst,
                foreign: file.is_foreign,
            }
        });
    }
    let earlier = disk.placed_conflists.keys();
    for name in earlier.filter(|name| **name != file.name && disk.is_our_conflist(name)) {
        plan.steps.push(Step::RetireConflist { name: name.clone() });
    }
    for foreign in &disk.shadowing {
        plan.steps.push(Step::SetAside {
            name: foreign.clone(),
        });
    }
}

fn refuse(file: &ComparedFile, drift: Difference) -> Refusal {
    Refusal {
        name: file.name.clone(),
        plugin: file.dir == ManagedDir::Bin,
        drift,
    }
}

/// Every way in which a file differs. The first one decides the step. The list is empty if the file is right.
fn list_differences(
    state: &FileState,
    expected: Option<Sha256>,
    mode: FileMode,
    owner: Owner,
) -> Vec<Difference> {
    let file = match state {
        FileState::Absent => return vec![Difference::Missing],
        FileState::Other(actual) => return vec![Difference::Type { actual: *actual }],
        FileState::Unreadable(reason) => {
            return vec![Difference::Unreadable {
                reason: reason.clone(),
            }];
        }
        FileState::TooLarge(_) if expected.is_none() => return vec![Difference::Unrecorded],
        FileState::TooLarge(size) => return vec![Difference::Size { actual: *size }],
        FileState::Regular(file) => file,
    };
    let Some(expected) = expected else {
        return vec![Difference::Unrecorded];
    };
    let mut drifts = Vec::new();
    if file.sha256 != expected {
        drifts.push(Difference::Content {
            expected,
            actual: file.sha256,
        });
    }
    let actual = format!("{:04o}", file.mode);
    if file.mode & 0o7000 != 0 {
        drifts.push(Difference::Suid { actual });
    } else if file.mode != mode.bits() {
        drifts.push(Difference::Mode {
            expected: mode,
            actual,
        });
    }
    if file.owner != owner {
        drifts.push(Difference::Owner {
            expected: owner,
            actual: file.owner,
        });
    }
    let attributes = file.attributes;
    for (is_there, difference) in [
        (attributes.has_capabilities, Difference::Capability),
        (attributes.acl_grants_writing, Difference::Acl),
        (attributes.is_locked, Difference::Flags),
    ] {
        if is_there {
            drifts.push(difference);
        }
    }
    drifts
}

fn is_directory(drift: &Difference) -> bool {
    matches!(
        drift,
        Difference::Type {
            actual: FileType::Directory
        }
    )
}

#[cfg(test)]
mod tests;
