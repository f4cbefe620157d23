//! What is built into the program: profiles to start from, and known digests of upstream's releases.

use serde::Deserialize;

use crate::model::{Arch, Sha256};

/// A configuration to start from, in the schema of an operator's own file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// The name for `profile:`.
    pub name: &'static str,
    /// One line about it, for `cni-keeper catalog`.
    pub about: &'static str,
    /// The YAML, comments included.
    pub text: &'static str,
}

/// The built-in profile of a name, and one line about it.
macro_rules! profile {
    ($name:literal, $about:literal) => {
        Profile {
            name: $name,
            about: $about,
            text: include_str!(concat!("profiles/", $name, ".yaml")),
        }
    };
}

/// Every built-in profile.
pub const PROFILES: [Profile; 8] = [
    profile!(
        "reference-bridge",
        "upstream's bridge, host-local and portmap; routes between nodes are yours"
    ),
    profile!(
        "reference-ptp",
        "upstream's ptp, host-local and portmap; routes between nodes are yours"
    ),
    profile!(
        "flannel",
        "the flannel plugin over bridge, host-local and portmap; runs beside kube-flannel"
    ),
    profile!(
        "calico",
        "calico, calico-ipam and portmap; runs beside calico-node"
    ),
    profile!(
        "canal",
        "calico over host-local, and portmap; runs beside canal, flanneld with calico-node"
    ),
    profile!(
        "weave",
        "weave-net and portmap; runs beside weave-kube; the image's digest is yours to supply"
    ),
    profile!(
        "romana",
        "legacy: romana; runs beside romana-agent; the image's digest is yours to supply"
    ),
    profile!(
        "cilium",
        "cilium-cni; runs beside cilium-agent; the image's digest is yours to supply"
    ),
];

/// Digests of upstream's release assets, as other public projects pinned them.
///
/// None was computed here. If upstream's own `.sha256` file says otherwise, that file is right.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// The projects, each with its releases.
    pub projects: Vec<Project>,
}

/// A project that publishes plugins.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// `owner/name` on GitHub.
    pub name: String,
    /// Its releases, newest first.
    pub releases: Vec<Release>,
}

/// One release.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The tag.
    pub version: String,
    /// The URL of an asset, with `{version}`, `{arch}` and, if a release has several files for an architecture,
    /// `{file}`.
    pub url: String,
    /// Whether it can be downloaded and is recommended. If not, the notes say why.
    pub advised: bool,
    /// What to know before choosing it.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The assets whose digest is known.
    pub assets: Vec<Asset>,
    /// Digests of assets that upstream has replaced under the same name. They help to recognise what is installed, and
    /// must not be pinned.
    #[serde(default)]
    pub superseded: Vec<Asset>,
}

/// One asset of a release.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// The architecture.
    pub arch: Arch,
    /// The name of the file, if the release has several for an architecture.
    #[serde(default)]
    pub file: Option<String>,
    /// Its digest.
    pub sha256: Sha256,
    /// How well the digest is known.
    pub confidence: Confidence,
}

/// How well a digest is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Two or more separate projects pinned the same digest.
    CrossChecked,
    /// One project pinned it.
    SingleSource,
}

/// The built-in catalog cannot be read. This is a mistake in this program and not on the node.
#[derive(Debug, thiserror::Error)]
#[error("the built-in catalog cannot be read; this build of cni-keeper is broken, use another")]
pub struct CatalogError(#[source] serde_json::Error);

/// The built-in catalog.
///
/// # Errors
/// When the program was built with a broken catalog. Tests make sure that this does not happen.
pub fn read_catalog() -> Result<Catalog, CatalogError> {
    serde_json::from_str(include_str!("pins.json")).map_err(CatalogError)
}

impl Release {
    /// The URL of an asset of this release.
    #[must_use]
    pub fn url_of(&self, asset: &Asset) -> String {
        self.url
            .replace("{version}", &self.version)
            .replace("{arch}", asset.arch.as_str())
            .replace("{file}", asset.file.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_catalog_parses_and_names_every_asset_once() {
        let catalog = read_catalog().unwrap();
        let mut urls = BTreeSet::new();
        let mut digests = BTreeSet::new();
        for release in catalog
            .projects
            .iter()
            .flat_map(|project| &project.releases)
        {
            assert!(
                release.advised || !release.notes.is_empty(),
                "{}",
                release.version
            );
            for asset in &release.assets {
                let url = release.url_of(asset);
                assert!(!url.contains(['{', '}']), "{url}");
                assert!(urls.insert(url.clone()), "{url} twice");
                digests.insert(asset.sha256);
            }
            for asset in &release.superseded {
                assert!(
                    !digests.contains(&asset.sha256),
                    "{} is still pinned",
                    asset.sha256
                );
            }
        }
        assert!(urls.len() > 80, "{}", urls.len());
    }

    /// portmap before 1.9.0 has CVE-2025-67499; 1.7.0 and 1.6.1 are broken releases.
    #[test]
    fn releases_with_known_faults_say_so() {
        let catalog = read_catalog().unwrap();
        let plugins = &catalog.projects[0];
        assert_eq!(plugins.name, "containernetworking/plugins");
        for release in &plugins.releases {
            let fixed = ["v1.9.0", "v1.9.1"].contains(&release.version.as_str());
            let warned = release
                .notes
                .iter()
                .any(|note| note.contains("CVE-2025-67499"));
            assert_ne!(fixed, warned, "{}", release.version);
            let broken = ["v1.7.0", "v1.6.1", "v1.4.1"].contains(&release.version.as_str());
            assert_ne!(broken, release.advised, "{}", release.version);
        }
    }
}
