//! The built-in profiles: the conflist that each becomes, what it waits for, and how it is deployed.
//!
//! `tests/fixtures/profiles` has two files for each of them: NAME.yaml, with what only an operator can know filled in,
//! and NAME.conflist, the golden file that it becomes on the node that [`node`] makes.

mod deployed;
mod golden;
mod installed;
mod pins;

use std::fs;
use std::path::{Path, PathBuf};

use cni_keeper::config::{LoadedConfig, Overrides, PROFILES, load};
use cni_keeper::model::Arch;
use serde_json::Value;

use crate::support::node::Node;

/// What flanneld writes before the conflists of two profiles can be.
const SUBNET_ENV: &str = "\
FLANNEL_NETWORK=10.244.0.0/16
FLANNEL_SUBNET=10.244.1.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
";

/// A path within the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where a profile's fixture is.
fn fixture(profile: &str, extension: &str) -> PathBuf {
    repository("tests/fixtures/profiles").join(format!("{profile}.{extension}"))
}

/// The profile as an operator completes it.
fn completed(profile: &str) -> String {
    fs::read_to_string(fixture(profile, "yaml")).unwrap()
}

/// What the conflist becomes.
fn golden(profile: &str) -> String {
    fs::read_to_string(fixture(profile, "conflist")).unwrap()
}

/// Loads a text as `config.yaml` of a node.
fn loaded(text: &str, arch: Arch) -> LoadedConfig {
    let overrides = Overrides {
        arch: Some(arch),
        ..Overrides::default()
    };
    load(text, Path::new("config.yaml"), &overrides).unwrap_or_else(|error| panic!("{error}"))
}

/// A YAML text as plain data, without the rules of a configuration.
fn data(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap()
}

/// The node `node-1` on which flanneld runs, with a declaration.
fn node(text: &str) -> Node {
    let node = Node::empty();
    node.write("run/flannel/subnet.env", SUBNET_ENV.as_bytes(), 0o644);
    fs::write(node.config(), text).unwrap();
    node
}

/// Each profile has its fixtures, and each fixture its profile.
#[test]
fn every_profile_is_looked_at_here() {
    let mut expected: Vec<String> = PROFILES
        .iter()
        .flat_map(|profile| ["conflist", "yaml"].map(|end| format!("{}.{end}", profile.name)))
        .collect();
    expected.sort();
    let entries = fs::read_dir(repository("tests/fixtures/profiles")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, expected);
}
