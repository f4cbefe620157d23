//! From what is wanted and what is there to the steps between, in the order that is safe.
//!
//! Binaries come first and the conflist last, so that a conflist is never visible before the
//! plugins that it names; a rival conflist is only set aside once ours is in place.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Difference, FileMode, FileName, FileState, FileType, Owner, PluginName, Sha256,
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
    /// Whether a file of that name that we did not place stays as it is.
    pub keep_foreign: bool,
}

/// The conflist as rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredConflist {
    /// Its file name in the configuration directory.
    pub name: FileName,
    /// The mode that is enforced.
    pub mode: FileMode,
    /// Digest of the rendered text.
    pub sha256: Sha256,
}

/// Everything that is wanted of the node's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The plugins, each name once.
    pub plugins: Vec<DesiredPlugin>,
    /// The conflist; `None` where none is declared or where it cannot be rendered yet.
    pub conflist: Option<DesiredConflist>,
    /// Who must own every file.
    pub owner: Owner,
}

/// Everything that was seen of the node's disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
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
    /// Foreign configurations that the runtime would take instead of ours, where the operator
    /// opted in to having them renamed.
    pub rivals: Vec<FileName>,
}

/// One change to the disk.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Download an artifact, prove its pin and put its plugins into the store.
    Fetch {
        /// The artifact, by the operator's name.
        artifact: String,
        /// The plugins whose content is not known before, and which are placed then if they differ.
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
        /// Whether what is there is somebody else's, and gives way.
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
        /// Whether what is there is somebody else's, and gives way.
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

/// A plugin of which nobody can tell what it must be before its artifact has been fetched.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pending {
    /// The plugin.
    pub plugin: PluginName,
    /// What is seen of it so far.
    pub drift: Difference,
}

/// A declared file that cannot be put right without taking away something that we may not.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refusal {
    /// The file's name.
    pub name: FileName,
    /// Whether it is in the bin directory, rather than the configuration directory.
    pub plugin: bool,
    /// What is wrong.
    pub drift: Difference,
}

/// The steps from what is there to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The steps, in the order in which they must be taken.
    pub steps: Vec<Step>,
    /// What no step can mend: a directory in a file's place is never removed.
    pub refused: Vec<Refusal>,
    /// Plugins of a node image's own build that stay (`ifPresent: keep`).
    pub kept: Vec<PluginName>,
}

impl Plan {
    /// Whether the disk is as declared.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.steps.is_empty() && self.refused.is_empty()
    }

    /// Whether something is wrong with a plugin: it has to be fetched, placed or set right, or cannot be.
    #[must_use]
    pub fn concerns(&self, name: &PluginName) -> bool {
        let step = self.steps.iter().any(|step| match step {
            Step::Fetch { pending, .. } => pending.iter().any(|pending| pending.plugin == *name),
            Step::Place { plugin, .. } | Step::FixPlugin { plugin, .. } => plugin == name,
            _ => false,
        });
        let refused = |refusal: &Refusal| refusal.plugin && refusal.name == *name.file();
        step || self.refused.iter().any(refused)
    }

    /// The artifacts that have to be downloaded, each once.
    pub fn fetches(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            Step::Fetch { artifact, .. } => Some(artifact.as_str()),
            _ => None,
        })
    }
}

impl Step {
    /// The file of the configuration directory that it changes, if it does.
    #[must_use]
    pub const fn on_conflist(&self) -> Option<&FileName> {
        match self {
            Self::WriteConflist { name, .. }
            | Self::FixConflist { name, .. }
            | Self::RetireConflist { name }
            | Self::SetAside { name } => Some(name),
            Self::Fetch { .. } | Self::Place { .. } | Self::FixPlugin { .. } => None,
        }
    }
}

/// Works out the steps; with the same arguments, always the same ones.
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let mut fetches: BTreeMap<String, Vec<Pending>> = BTreeMap::new();
    let mut changes = Vec::new();
    for wanted in &desired.plugins {
        let state = observed
            .plugins
            .get(&wanted.plugin)
            .unwrap_or(&FileState::Absent);
        let ours = observed.placed_plugins.contains_key(wanted.plugin.file());
        if wanted.keep_foreign && !ours && matches!(state, FileState::Regular(_)) {
            plan.kept.push(wanted.plugin.clone());
            continue;
        }
        let drifts = compare(state, wanted.sha256, FileMode::PLUGIN, desired.owner);
        let Some(worst) = drifts.first().cloned() else {
            continue;
        };
        if is_directory(&worst) {
            plan.refused.push(Refusal {
                name: wanted.plugin.file().clone(),
                plugin: true,
                drift: worst,
            });
            continue;
        }
        if worst.is_metadata() {
            changes.push(Step::FixPlugin {
                plugin: wanted.plugin.clone(),
                drifts,
            });
            continue;
        }
        match wanted.sha256 {
            Some(sha256) => {
                if !observed.blobs.contains(&sha256) {
                    fetches.entry(wanted.artifact.clone()).or_default();
                }
                changes.push(Step::Place {
                    plugin: wanted.plugin.clone(),
                    sha256,
                    drift: worst,
                    foreign: is_foreign(state, observed.placed_plugins.get(wanted.plugin.file())),
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
    if let Some(wanted) = &desired.conflist {
        plan_conflist(wanted, desired.owner, observed, &mut plan);
    }
    plan
}

fn plan_conflist(wanted: &DesiredConflist, owner: Owner, observed: &Observed, plan: &mut Plan) {
    let state = observed
        .conflists
        .get(&wanted.name)
        .unwrap_or(&FileState::Absent);
    let drifts = compare(state, Some(wanted.sha256), wanted.mode, owner);
    if let Some(worst) = drifts.first().cloned() {
        if is_directory(&worst) {
            plan.refused.push(Refusal {
                name: wanted.name.clone(),
                plugin: false,
                drift: worst,
            });
            // Without ours in place, taking another one away would leave the node without a network.
            return;
        }
        plan.steps.push(if worst.is_metadata() {
            Step::FixConflist {
                name: wanted.name.clone(),
                drifts,
            }
        } else {
            Step::WriteConflist {
                name: wanted.name.clone(),
                drift: worst,
                foreign: is_foreign(state, observed.placed_conflists.get(&wanted.name)),
            }
        });
    }
    for (name, digests) in &observed.placed_conflists {
        let still_ours = matches!(
            observed.conflists.get(name),
            Some(FileState::Regular(file)) if digests.contains(&file.sha256)
        );
        if *name != wanted.name && still_ours {
            plan.steps.push(Step::RetireConflist { name: name.clone() });
        }
    }
    for rival in &observed.rivals {
        plan.steps.push(Step::SetAside {
            name: rival.clone(),
        });
    }
}

/// Every way in which a file differs, the one that decides the step first; empty where it is right.
#[must_use]
pub fn compare(
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
    drifts
}

/// Whether a file is one that we never placed under that name. One that we did place and somebody
/// edited is drift, and no news.
const fn is_foreign(state: &FileState, placed: Option<&BTreeSet<Sha256>>) -> bool {
    !matches!(state, FileState::Absent) && placed.is_none()
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
