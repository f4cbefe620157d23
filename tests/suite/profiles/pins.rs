//! What each profile installs, and which digests verify it.

use std::collections::BTreeSet;

use cni_keeper::cni::list_required_plugins;
use cni_keeper::config::{PROFILES, read_catalog};
use cni_keeper::model::Arch;

use super::{completed, data, loaded};

/// Every plugin that the conflist needs comes with the profile, and no other does.
#[test]
fn every_profile_installs_what_its_chain_needs() {
    for profile in &PROFILES {
        for arch in [Arch::Amd64, Arch::Arm64] {
            let settings = loaded(&completed(profile.name), arch).settings;
            let installed: BTreeSet<String> = settings
                .artifacts
                .iter()
                .flat_map(|artifact| &artifact.members)
                .map(|member| member.plugin.as_str().to_owned())
                .collect();
            let needed: BTreeSet<String> =
                list_required_plugins(&settings.network.unwrap().conflist)
                    .into_iter()
                    .map(|needed| needed.plugin.as_str().to_owned())
                    .collect();
            // weave-net gives out addresses itself; weave-ipam is there for chains of other plugins, as the project has it.
            let extra: BTreeSet<&str> = installed.difference(&needed).map(String::as_str).collect();
            let expected: &[&str] = match profile.name {
                "weave" => &["weave-ipam"],
                _ => &[],
            };
            assert_eq!(
                extra,
                expected.iter().copied().collect(),
                "{}",
                profile.name
            );
            assert!(needed.is_subset(&installed), "{}: {needed:?}", profile.name);
        }
    }
}

/// A pin that is in a profile is in the catalog, for the same asset; and one in the catalog is in the profile.
#[test]
fn the_pins_of_each_profile_are_those_of_the_catalog() {
    let catalog = read_catalog().unwrap();
    let releases = || {
        catalog
            .projects
            .iter()
            .flat_map(|project| &project.releases)
    };
    for profile in &PROFILES {
        for artifact in data(profile.text)["artifacts"].as_array().unwrap() {
            let source = artifact["sources"][0].as_str().unwrap();
            let Some(pins) = artifact["sha256"].as_object() else {
                assert!(source.starts_with("FILL-IN: oci://"), "{source}");
                continue;
            };
            let version = artifact["version"].as_str().unwrap();
            let mut found = 0;
            for release in releases().filter(|release| release.version == version) {
                for asset in &release.assets {
                    let arch = asset.arch.as_str();
                    let url = source.replace("{version}", version).replace("{arch}", arch);
                    if release.url_of(asset) != url {
                        continue;
                    }
                    assert!(release.advised, "{url}");
                    assert_eq!(pins[arch], asset.sha256.to_string(), "{url}");
                    found += 1;
                }
            }
            assert_eq!(found, pins.len(), "{}: {source}", profile.name);
        }
    }
}
