//! The conflists, byte for byte, and what the runtimes make of them.

use std::ffi::OsString;
use std::fs;

use cni_keeper::cni::{
    ChoiceOutcome, ConfDir, DirEntry, DropIns, EntryKind, Libcni, RuntimeChoice,
    choose_as_containerd, choose_as_crio, validate_conflist,
};
use cni_keeper::config::PROFILES;
use cni_keeper::model::Arch;
use serde_json::Value;

use super::{completed, fixture, golden, loaded, node};

/// Set to write the golden files anew: `CNI_KEEPER_GOLDEN=renew cargo test --test suite profiles::golden`. Then read
/// the difference: it is what changes on every node that has the profile.
const RENEW: &str = "CNI_KEEPER_GOLDEN";

/// `render` prints exactly what is in the golden file.
#[test]
fn every_profile_becomes_its_golden_file() {
    let renew = std::env::var_os(RENEW).is_some_and(|value| value == "renew");
    for profile in &PROFILES {
        let node = node(&completed(profile.name));
        node.run("validate").exits(0).does_not_say("warning");
        let rendered = node.run("render --node-name node-1");
        rendered.exits(0);
        if renew {
            fs::write(fixture(profile.name, "conflist"), &rendered.stdout).unwrap();
        }
        assert_eq!(rendered.stdout, golden(profile.name), "{}", profile.name);
    }
}

/// Our rules give not even a warning for them, and every generation of containerd and CRI-O loads them as intended.
#[test]
fn every_golden_file_is_taken_by_every_runtime() {
    for profile in &PROFILES {
        let text = golden(profile.name);
        assert_eq!(
            validate_conflist(text.as_bytes()).findings,
            [],
            "{}",
            profile.name
        );
        let network = loaded(&completed(profile.name), Arch::Amd64)
            .settings
            .network
            .unwrap();
        let entries = [DirEntry {
            name: OsString::from(network.file_name.as_str()),
            kind: EntryKind::File(text.clone().into_bytes()),
        }];
        let directory = ConfDir {
            entries: &entries,
            drop_ins: &|_| DropIns::Absent,
        };
        for libcni in Libcni::ALL {
            picked(choose_as_containerd(&directory, libcni), &text);
        }
        let all = || {
            Some(
                ["0.3.0", "0.3.1", "1.0.0", "1.1.0"]
                    .map(str::to_owned)
                    .to_vec(),
            )
        };
        picked(choose_as_crio(&directory, &|_| all()), &text);
    }
}

/// The only file of the directory is taken, with its network and its chain.
#[track_caller]
fn picked(verdict: RuntimeChoice, text: &str) {
    let ChoiceOutcome::Picked { network, .. } = verdict.outcome else {
        panic!("{verdict:?}")
    };
    let conflist: Value = serde_json::from_str(text).unwrap();
    let plugins = conflist["plugins"].as_array().unwrap();
    let chain: Vec<&str> = plugins
        .iter()
        .map(|plugin| plugin["type"].as_str().unwrap())
        .collect();
    assert_eq!(network.name, conflist["name"].as_str().unwrap());
    assert_eq!(network.chain, chain);
}
