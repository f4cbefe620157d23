//! `manifests/profiles`: an overlay for each profile.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use cni_keeper::config::{FactSource, Gate, PROFILES};
use cni_keeper::model::Arch;
use serde_json::Value;

use super::{completed, data, loaded, node, repository};

/// What the base mounts already.
const MOUNTED: [&str; 2] = ["/etc/cni", "/opt/cni"];

/// A file of a profile's overlay.
fn overlay(profile: &str, file: &str) -> String {
    let path = repository("manifests/profiles").join(profile).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All strings that begin with FILL-IN.
fn requests(value: &Value) -> BTreeSet<String> {
    match value {
        Value::String(text) if text.starts_with("FILL-IN: ") => [text.clone()].into(),
        Value::Array(items) => items.iter().flat_map(requests).collect(),
        Value::Object(entries) => entries.values().flat_map(requests).collect(),
        _ => BTreeSet::new(),
    }
}

/// The host directories in which something has to be seen for the conflist to be written.
fn directories_of(profile: &str) -> BTreeSet<PathBuf> {
    let settings = loaded(&completed(profile), Arch::Amd64).settings;
    let network = settings.network.unwrap();
    let gates = network.requires.iter().filter_map(|gate| match gate {
        Gate::File(path) | Gate::Unix(path) => Some(path),
        Gate::Tcp(_) | Gate::Http(_) => None,
    });
    let facts = network.facts.iter().filter_map(|source| match source {
        FactSource::EnvFile(path) => Some(path),
        FactSource::Values(_) | FactSource::KubernetesNode => None,
    });
    gates
        .chain(facts)
        .map(|path| path.parent().unwrap().to_owned())
        .filter(|path| MOUNTED.iter().all(|mounted| !path.starts_with(mounted)))
        .collect()
}

/// Each overlay names its profile, and has all FILL-INs of the profile in its own file, so that an error names a line
/// of the operator's file.
#[test]
fn every_profile_has_an_overlay_that_asks_for_what_is_missing() {
    for profile in &PROFILES {
        let config = data(&overlay(profile.name, "config.yaml"));
        assert_eq!(config["profile"], profile.name);
        let asked = requests(&config);
        for request in requests(&data(profile.text)) {
            assert!(asked.contains(&request), "{}: {request}", profile.name);
        }
    }
}

/// An overlay as it is in the repository is valid, or each of its FILL-INs is an error with its line.
#[test]
fn validate_names_what_is_still_to_be_filled_in() {
    for profile in &PROFILES {
        let text = overlay(profile.name, "config.yaml");
        let node = node(&text);
        let shown = node.config().display().to_string();
        let expected: BTreeSet<String> = text
            .lines()
            .enumerate()
            .filter_map(|(index, line)| {
                let (_, request) = line.split_once("\"FILL-IN: ")?;
                let request = request.split('"').next().unwrap();
                Some(format!("{shown}:{}: FILL-IN: {request}", index + 1))
            })
            .collect();
        let outcome = node.run("validate");
        outcome.exits(if expected.is_empty() { 0 } else { 64 });
        // Between line and request stands the key.
        let reported: BTreeSet<String> = outcome
            .errors()
            .into_iter()
            .map(|error| {
                let (place, request) = error.split_once("FILL-IN: ").unwrap();
                let line = place.split(": ").next().unwrap();
                format!("{line}: FILL-IN: {request}")
            })
            .collect();
        assert_eq!(reported, expected, "{}", profile.name);
    }
}

/// The directories of the gates are mounted read-only where the agent looks, and nothing else is mounted.
#[test]
fn every_overlay_mounts_what_its_conflist_waits_for() {
    for profile in &PROFILES {
        let kustomization = data(&overlay(profile.name, "kustomization.yaml"));
        let mut mounts = BTreeSet::new();
        for patch in kustomization["patches"].as_array().into_iter().flatten() {
            let patch = data(patch["patch"].as_str().unwrap());
            let pod = &patch["spec"]["template"]["spec"];
            let volumes = pod["volumes"].as_array().unwrap();
            for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap() {
                let volume = volumes
                    .iter()
                    .find(|volume| volume["name"] == mount["name"]);
                let host = &volume.unwrap()["hostPath"];
                let path = host["path"].as_str().unwrap();
                assert_eq!(host["type"], "DirectoryOrCreate", "{path}");
                assert_eq!(mount["mountPath"], format!("/host{path}"));
                assert_eq!(mount["readOnly"], true, "{path}");
                mounts.insert(PathBuf::from(path));
            }
        }
        assert_eq!(mounts, directories_of(profile.name), "{}", profile.name);
    }
}

/// An overlay has the right to ask the API server if its configuration does so, and only then.
#[test]
fn only_who_asks_the_api_server_may() {
    for profile in &PROFILES {
        let config = data(&overlay(profile.name, "config.yaml"));
        let facts = config["network"]["facts"].as_array();
        let asks = facts.is_some_and(|facts| facts.iter().any(|fact| fact["kubernetes"] == "node"));
        let kustomization = data(&overlay(profile.name, "kustomization.yaml"));
        let components = kustomization["components"].as_array();
        let may =
            components.is_some_and(|list| list.contains(&"../../components/kubernetes-api".into()));
        assert_eq!(may, asks, "{}", profile.name);
    }
}

/// The table says for each profile which daemon runs beside it and how its installer is switched off.
#[test]
fn the_table_has_a_row_for_every_profile() {
    let table = fs::read_to_string(repository("manifests/profiles/README.md")).unwrap();
    for profile in &PROFILES {
        let begin = format!("| [{0}]({0})", profile.name);
        let rows = table.lines().filter(|line| line.starts_with(&begin));
        let columns: Vec<usize> = rows.map(|row| row.matches(" | ").count()).collect();
        assert_eq!(columns, [4], "{}", profile.name);
    }
}
