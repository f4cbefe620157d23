//! From what is wanted and what is there to the steps between, in the order that is safe.
//!
//! Binaries come first and the conflist last, so that a conflist is never visible before the
//! plugins that it names; a rival conflist is only set aside once ours is in place.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Drift, FileMode, FileName, FileState, FileType, Owner, PluginName, Sha256};

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
        drift: Drift,
    },
    /// Set mode and owner of a plugin whose content is right.
    FixPlugin {
        /// The plugin.
        plugin: PluginName,
        /// What is wrong.
        drifts: Vec<Drift>,
    },
    /// Write the conflist.
    WriteConflist {
        /// Its file name.
        name: FileName,
        /// What is wrong with what is there.
        drift: Drift,
    },
    /// Set mode and owner of a conflist whose content is right.
    FixConflist {
        /// Its file name.
        name: FileName,
        /// What is wrong.
        drifts: Vec<Drift>,
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
    pub drift: Drift,
}

/// A declared file that cannot be put right without taking away something that we may not.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refusal {
    /// The file's name.
    pub name: FileName,
    /// Whether it is in the bin directory, rather than the configuration directory.
    pub plugin: bool,
    /// What is wrong.
    pub drift: Drift,
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
    /// Whether it changes a file of the bin directory.
    #[must_use]
    pub const fn is_on_plugin(&self) -> bool {
        matches!(self, Self::Place { .. } | Self::FixPlugin { .. })
    }

    /// Whether it changes a file of the configuration directory.
    #[must_use]
    pub const fn is_on_conflist(&self) -> bool {
        !self.is_on_plugin() && !matches!(self, Self::Fetch { .. })
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
) -> Vec<Drift> {
    let file = match state {
        FileState::Absent => return vec![Drift::Missing],
        FileState::Other(actual) => return vec![Drift::Type { actual: *actual }],
        FileState::Unreadable(reason) => {
            return vec![Drift::Unreadable {
                reason: reason.clone(),
            }];
        }
        FileState::Regular(file) => file,
    };
    let Some(expected) = expected else {
        return vec![Drift::Unrecorded];
    };
    let mut drifts = Vec::new();
    if file.sha256 != expected {
        drifts.push(Drift::Content {
            expected,
            actual: file.sha256,
        });
    }
    let actual = format!("{:04o}", file.mode);
    if file.mode & 0o7000 != 0 {
        drifts.push(Drift::Suid { actual });
    } else if file.mode != mode.bits() {
        drifts.push(Drift::Mode {
            expected: mode,
            actual,
        });
    }
    if file.owner != owner {
        drifts.push(Drift::Owner {
            expected: owner,
            actual: file.owner,
        });
    }
    drifts
}

fn is_directory(drift: &Drift) -> bool {
    matches!(
        drift,
        Drift::Type {
            actual: FileType::Directory
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Regular;
    use proptest::prelude::*;

    const ROOT: Owner = Owner { uid: 0, gid: 0 };

    fn digest(n: u8) -> Sha256 {
        Sha256::from_bytes([n; 32])
    }

    fn file(n: u8, mode: u32) -> FileState {
        FileState::Regular(Regular {
            sha256: digest(n),
            size: 1,
            mode,
            owner: ROOT,
        })
    }

    fn wanted(name: &str, sha256: Option<Sha256>) -> DesiredPlugin {
        DesiredPlugin {
            plugin: name.parse().unwrap(),
            artifact: "set".to_owned(),
            sha256,
            keep_foreign: false,
        }
    }

    fn conflist(name: &str) -> DesiredConflist {
        DesiredConflist {
            name: name.parse().unwrap(),
            mode: FileMode::PRIVATE,
            sha256: digest(200),
        }
    }

    fn kinds(plan: &Plan) -> Vec<String> {
        plan.steps
            .iter()
            .map(|step| {
                serde_json::to_value(step).unwrap()["step"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    }

    /// What a disk looks like once the steps were taken: what `reconcile` does, without a disk.
    fn apply(desired: &Desired, observed: &Observed, plan: &Plan) -> Observed {
        let mut after = observed.clone();
        for step in &plan.steps {
            match step {
                // A fetch of a pinned artifact yields the digests that the declaration records.
                Step::Fetch { artifact, .. } => after.blobs.extend(
                    desired
                        .plugins
                        .iter()
                        .filter(|p| p.artifact == *artifact)
                        .filter_map(|p| p.sha256),
                ),
                Step::Place { plugin, sha256, .. } => {
                    assert!(after.blobs.contains(sha256), "placed before it was fetched");
                    let state = FileState::Regular(Regular {
                        sha256: *sha256,
                        size: 1,
                        mode: FileMode::PLUGIN.bits(),
                        owner: desired.owner,
                    });
                    after.plugins.insert(plugin.clone(), state);
                    after
                        .placed_plugins
                        .insert(plugin.file().clone(), [*sha256].into());
                }
                Step::FixPlugin { plugin, .. } => {
                    let Some(FileState::Regular(file)) = after.plugins.get_mut(plugin) else {
                        panic!("{plugin} is no file");
                    };
                    file.mode = FileMode::PLUGIN.bits();
                    file.owner = desired.owner;
                }
                Step::WriteConflist { name, .. } => {
                    let wanted = desired.conflist.as_ref().unwrap();
                    let state = FileState::Regular(Regular {
                        sha256: wanted.sha256,
                        size: 1,
                        mode: wanted.mode.bits(),
                        owner: desired.owner,
                    });
                    after.conflists.insert(name.clone(), state);
                    after
                        .placed_conflists
                        .insert(name.clone(), [wanted.sha256].into());
                }
                Step::FixConflist { name, .. } => {
                    let Some(FileState::Regular(file)) = after.conflists.get_mut(name) else {
                        panic!("{name} is no file");
                    };
                    file.mode = desired.conflist.as_ref().unwrap().mode.bits();
                    file.owner = desired.owner;
                }
                Step::RetireConflist { name } => {
                    after.conflists.remove(name);
                    after.placed_conflists.remove(name);
                }
                Step::SetAside { name } => after.rivals.retain(|rival| rival != name),
            }
        }
        after
    }

    #[test]
    fn binaries_come_first_then_the_conflist_then_rivals() {
        let desired = Desired {
            plugins: vec![
                wanted("bridge", Some(digest(1))),
                wanted("portmap", Some(digest(2))),
            ],
            conflist: Some(conflist("10-net.conflist")),
            owner: ROOT,
        };
        let observed = Observed {
            plugins: [("portmap".parse().unwrap(), file(2, 0o4755))].into(),
            conflists: [("09-old.conflist".parse().unwrap(), file(9, 0o600))].into(),
            placed_conflists: [("09-old.conflist".parse().unwrap(), [digest(9)].into())].into(),
            rivals: vec!["00-rival.conf".parse().unwrap()],
            ..Observed::default()
        };
        assert_eq!(
            kinds(&plan(&desired, &observed)),
            [
                "fetch",
                "place",
                "fix-plugin",
                "write-conflist",
                "retire-conflist",
                "set-aside"
            ]
        );
    }

    #[test]
    fn an_unknown_digest_asks_for_the_artifact_and_for_nothing_else() {
        let desired = Desired {
            plugins: vec![wanted("bridge", None), wanted("ptp", None)],
            conflist: None,
            owner: ROOT,
        };
        let observed = Observed {
            plugins: [("bridge".parse().unwrap(), file(7, 0o755))].into(),
            ..Observed::default()
        };
        let plan = plan(&desired, &observed);
        assert_eq!(plan.fetches().collect::<Vec<_>>(), ["set"]);
        assert_eq!(kinds(&plan), ["fetch"]);
        let Step::Fetch { pending, .. } = &plan.steps[0] else {
            panic!("no fetch");
        };
        let drifts: Vec<&Drift> = pending.iter().map(|pending| &pending.drift).collect();
        assert_eq!(drifts, [&Drift::Unrecorded, &Drift::Missing]);
    }

    #[test]
    fn keep_spares_what_the_image_brought_and_mends_what_we_placed() {
        let mut bridge = wanted("bridge", Some(digest(1)));
        bridge.keep_foreign = true;
        let desired = Desired {
            plugins: vec![bridge],
            conflist: None,
            owner: ROOT,
        };
        let mut observed = Observed {
            plugins: [("bridge".parse().unwrap(), file(7, 0o755))].into(),
            blobs: [digest(1)].into(),
            ..Observed::default()
        };
        let foreign = plan(&desired, &observed);
        assert!(foreign.is_clean());
        assert_eq!(foreign.kept, ["bridge".parse().unwrap()]);

        observed.placed_plugins = [("bridge".parse().unwrap(), [digest(1)].into())].into();
        assert_eq!(kinds(&plan(&desired, &observed)), ["place"]);

        observed.placed_plugins.clear();
        observed.plugins.clear();
        assert_eq!(kinds(&plan(&desired, &observed)), ["place"]);
    }

    /// Fault 18: a directory in a file's place is named, never removed, and rivals stay.
    #[test]
    fn a_directory_in_the_way_is_refused() {
        let desired = Desired {
            plugins: vec![wanted("bridge", Some(digest(1)))],
            conflist: Some(conflist("10-net.conflist")),
            owner: ROOT,
        };
        let directory = FileState::Other(FileType::Directory);
        let observed = Observed {
            plugins: [("bridge".parse().unwrap(), directory.clone())].into(),
            conflists: [("10-net.conflist".parse().unwrap(), directory)].into(),
            rivals: vec!["00-rival.conf".parse().unwrap()],
            ..Observed::default()
        };
        let plan = plan(&desired, &observed);
        assert!(plan.steps.is_empty());
        assert_eq!(plan.refused.len(), 2);
        assert_eq!(plan.refused[0].drift.kind(), "type");
    }

    #[test]
    fn an_edited_conflist_of_an_earlier_name_is_left_alone() {
        let desired = Desired {
            plugins: vec![],
            conflist: Some(conflist("10-net.conflist")),
            owner: ROOT,
        };
        let observed = Observed {
            conflists: [
                ("09-old.conflist".parse().unwrap(), file(8, 0o600)),
                ("10-net.conflist".parse().unwrap(), file(200, 0o600)),
            ]
            .into(),
            placed_conflists: [("09-old.conflist".parse().unwrap(), [digest(9)].into())].into(),
            ..Observed::default()
        };
        assert!(plan(&desired, &observed).is_clean());
    }

    fn any_state() -> impl Strategy<Value = FileState> {
        prop_oneof![
            Just(FileState::Absent),
            Just(FileState::Other(FileType::Symlink)),
            Just(FileState::Other(FileType::Directory)),
            Just(FileState::Unreadable("Input/output error".to_owned())),
            (
                0u8..4,
                prop_oneof![Just(0o755u32), Just(0o600), Just(0o4755)],
                0u32..2
            )
                .prop_map(|(n, mode, uid)| {
                    FileState::Regular(Regular {
                        sha256: digest(n),
                        size: 1,
                        mode,
                        owner: Owner { uid, gid: 0 },
                    })
                }),
        ]
    }

    fn names(prefix: &'static str) -> impl Strategy<Value = FileName> {
        (0u8..4).prop_map(move |n| format!("{prefix}{n}").parse().unwrap())
    }

    prop_compose! {
        fn any_case()(
            plugins in prop::collection::btree_map(names("p"), (0u8..4, any::<bool>(), 0u8..2), 0..4),
            conflist in prop::option::of(names("c")),
            states in prop::collection::btree_map(names("p"), any_state(), 0..5),
            conflists in prop::collection::btree_map(names("c"), any_state(), 0..5),
            placed_plugins in prop::collection::btree_map(names("p"), (0u8..4).prop_map(|n| [digest(n)].into()), 0..4),
            placed_conflists in prop::collection::btree_map(names("c"), (0u8..4).prop_map(|n| [digest(n)].into()), 0..4),
            blobs in prop::collection::btree_set((0u8..4).prop_map(digest), 0..4),
            rivals in prop::collection::btree_set(names("r"), 0..3),
        ) -> (Desired, Observed) {
            let as_plugin = |name: &FileName| name.as_str().parse::<PluginName>().unwrap();
            let desired = Desired {
                plugins: plugins.iter().map(|(name, (n, keep, artifact))| DesiredPlugin {
                    plugin: as_plugin(name),
                    artifact: format!("a{artifact}"),
                    sha256: Some(digest(*n)),
                    keep_foreign: *keep,
                }).collect(),
                conflist: conflist.map(|name| DesiredConflist { name, mode: FileMode::PRIVATE, sha256: digest(3) }),
                owner: ROOT,
            };
            let observed = Observed {
                plugins: states.iter().map(|(name, state)| (as_plugin(name), state.clone())).collect(),
                conflists,
                placed_plugins,
                placed_conflists,
                blobs,
                rivals: rivals.into_iter().collect(),
            };
            (desired, observed)
        }
    }

    proptest! {
        /// After the steps there is nothing left to do, whatever was there before.
        #[test]
        fn a_plan_that_was_carried_out_leaves_no_plan((desired, observed) in any_case()) {
            let first = plan(&desired, &observed);
            let second = plan(&desired, &apply(&desired, &observed, &first));
            prop_assert_eq!(&second.steps, &vec![]);
            prop_assert_eq!(second.refused, first.refused);
        }

        /// No step touches a file that is neither declared nor in the ledger, nor a rival.
        #[test]
        fn a_plan_touches_only_what_is_declared_or_ours((desired, observed) in any_case()) {
            for step in plan(&desired, &observed).steps {
                match step {
                    Step::Fetch { artifact, .. } => prop_assert!(desired.plugins.iter().any(|p| p.artifact == artifact)),
                    Step::Place { plugin, .. } | Step::FixPlugin { plugin, .. } => {
                        prop_assert!(desired.plugins.iter().any(|p| p.plugin == plugin));
                    }
                    Step::WriteConflist { name, .. } | Step::FixConflist { name, .. } => {
                        prop_assert_eq!(Some(name), desired.conflist.as_ref().map(|c| c.name.clone()));
                    }
                    Step::RetireConflist { name } => prop_assert!(observed.placed_conflists.contains_key(&name)),
                    Step::SetAside { name } => prop_assert!(observed.rivals.contains(&name)),
                }
            }
        }
    }
}
