//! The plan for every kind of difference, and the properties that every plan has.

use super::*;
use crate::model::{DriftKind, FileAttributes, Regular};
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
        attributes: FileAttributes::default(),
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
        sha256: Some(digest(200)),
    }
}

fn plan(desired: &Desired, disk: &DiskState) -> Plan {
    plan_steps(desired, disk, &compare_files(desired, disk))
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

/// The state of a disk after the steps: a model of what `reconcile` does, without a disk.
fn apply(desired: &Desired, observed: &DiskState, plan: &Plan) -> DiskState {
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
                    attributes: FileAttributes::default(),
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
                file.attributes = FileAttributes::default();
            }
            Step::WriteConflist { name, .. } => {
                let wanted = desired.conflist.as_ref().unwrap();
                let state = FileState::Regular(Regular {
                    sha256: wanted.sha256.unwrap(),
                    size: 1,
                    mode: wanted.mode.bits(),
                    owner: desired.owner,
                    attributes: FileAttributes::default(),
                });
                after.conflists.insert(name.clone(), state);
                after
                    .placed_conflists
                    .insert(name.clone(), [wanted.sha256.unwrap()].into());
            }
            Step::FixConflist { name, .. } => {
                let Some(FileState::Regular(file)) = after.conflists.get_mut(name) else {
                    panic!("{name} is no file");
                };
                file.mode = desired.conflist.as_ref().unwrap().mode.bits();
                file.owner = desired.owner;
                file.attributes = FileAttributes::default();
            }
            Step::RetireConflist { name } => {
                after.conflists.remove(name);
                after.placed_conflists.remove(name);
            }
            Step::SetAside { name } => after.shadowing.retain(|foreign| foreign != name),
        }
    }
    after
}

#[test]
fn binaries_come_first_then_the_conflist_then_foreign_conflists() {
    let desired = Desired {
        plugins: vec![
            wanted("bridge", Some(digest(1))),
            wanted("portmap", Some(digest(2))),
        ],
        conflist: Some(conflist("10-net.conflist")),
        owner: ROOT,
    };
    let observed = DiskState {
        plugins: [("portmap".parse().unwrap(), file(2, 0o4755))].into(),
        conflists: [("09-old.conflist".parse().unwrap(), file(9, 0o600))].into(),
        placed_conflists: [("09-old.conflist".parse().unwrap(), [digest(9)].into())].into(),
        shadowing: vec!["00-foreign.conf".parse().unwrap()],
        ..DiskState::default()
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
    let observed = DiskState {
        plugins: [("bridge".parse().unwrap(), file(7, 0o755))].into(),
        ..DiskState::default()
    };
    let plan = plan(&desired, &observed);
    assert_eq!(plan.artifacts_to_fetch().collect::<Vec<_>>(), ["set"]);
    assert_eq!(kinds(&plan), ["fetch"]);
    let Step::Fetch { pending, .. } = &plan.steps[0] else {
        panic!("no fetch");
    };
    let drifts: Vec<&Difference> = pending.iter().map(|pending| &pending.drift).collect();
    assert_eq!(drifts, [&Difference::Unrecorded, &Difference::Missing]);
}

#[test]
fn keep_spares_what_the_image_brought_and_fixes_what_we_placed() {
    let mut bridge = wanted("bridge", Some(digest(1)));
    bridge.keep_foreign = true;
    let desired = Desired {
        plugins: vec![bridge],
        conflist: None,
        owner: ROOT,
    };
    let mut observed = DiskState {
        plugins: [("bridge".parse().unwrap(), file(7, 0o755))].into(),
        blobs: [digest(1)].into(),
        ..DiskState::default()
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

/// Fault 18: a directory in a file's place is named, never removed, and foreign conflists stay.
#[test]
fn a_directory_in_the_way_is_refused() {
    let desired = Desired {
        plugins: vec![wanted("bridge", Some(digest(1)))],
        conflist: Some(conflist("10-net.conflist")),
        owner: ROOT,
    };
    let directory = FileState::Other(FileType::Directory);
    let observed = DiskState {
        plugins: [("bridge".parse().unwrap(), directory.clone())].into(),
        conflists: [("10-net.conflist".parse().unwrap(), directory)].into(),
        shadowing: vec!["00-foreign.conf".parse().unwrap()],
        ..DiskState::default()
    };
    let plan = plan(&desired, &observed);
    assert!(plan.steps.is_empty());
    assert_eq!(plan.refused.len(), 2);
    assert_eq!(plan.refused[0].drift.kind(), DriftKind::Type);
}

#[test]
fn an_edited_conflist_of_an_earlier_name_is_left_alone() {
    let desired = Desired {
        plugins: vec![],
        conflist: Some(conflist("10-net.conflist")),
        owner: ROOT,
    };
    let observed = DiskState {
        conflists: [
            ("09-old.conflist".parse().unwrap(), file(8, 0o600)),
            ("10-net.conflist".parse().unwrap(), file(200, 0o600)),
        ]
        .into(),
        placed_conflists: [("09-old.conflist".parse().unwrap(), [digest(9)].into())].into(),
        ..DiskState::default()
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
            0u32..2,
            any::<bool>(),
        )
            .prop_map(|(n, mode, uid, has_capabilities)| {
                FileState::Regular(Regular {
                    sha256: digest(n),
                    size: 1,
                    mode,
                    owner: Owner { uid, gid: 0 },
                    attributes: FileAttributes {
                        has_capabilities,
                        ..FileAttributes::default()
                    },
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
        shadowing in prop::collection::btree_set(names("r"), 0..3),
    ) -> (Desired, DiskState) {
        let as_plugin = |name: &FileName| name.as_str().parse::<PluginName>().unwrap();
        let desired = Desired {
            plugins: plugins.iter().map(|(name, (n, keep, artifact))| DesiredPlugin {
                plugin: as_plugin(name),
                artifact: format!("a{artifact}"),
                sha256: Some(digest(*n)),
                keep_foreign: *keep,
            }).collect(),
            conflist: conflist.map(|name| DesiredConflist { name, mode: FileMode::PRIVATE, sha256: Some(digest(3)) }),
            owner: ROOT,
        };
        let observed = DiskState {
            plugins: states.iter().map(|(name, state)| (as_plugin(name), state.clone())).collect(),
            conflists,
            placed_plugins,
            placed_conflists,
            blobs,
            shadowing: shadowing.into_iter().collect(),
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

    /// No step touches a file that is neither declared nor in the ledger, nor a foreign conflist that sorts first.
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
                Step::SetAside { name } => prop_assert!(observed.shadowing.contains(&name)),
            }
        }
    }
}
