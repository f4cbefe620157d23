//! The state of the node at one moment. Every view is made from it.

use std::path::PathBuf;

use super::{Difference, Sha256, label_enum};

/// The state of everything declared, as observed in one pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Every declared file, in the order of the declaration, the conflist last.
    pub files: Vec<FileReport>,
    /// The checks, in their fixed order.
    pub checks: Vec<Check>,
    /// What the runtimes on this node would take from the configuration directory.
    pub effective: Option<Effective>,
}

/// One declared file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileReport {
    /// The path on the host, `--host-root` included.
    pub path: PathBuf,
    /// Its state.
    pub standing: Standing,
    /// The digest that it must have, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Sha256>,
    /// The digest that it has, where it is a readable file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<Sha256>,
    /// Where it comes from: `ARTIFACT VERSION`, or `configuration`.
    pub origin: String,
    /// What is wrong with it.
    pub drifts: Vec<Difference>,
}

/// The state of a declared file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is what was declared.
    Ok,
    /// A node image's own build, which `ifPresent: keep` leaves alone.
    Kept,
    /// It is not what was declared.
    Drift,
    /// Its declared content is not known yet: a source of facts is missing.
    Waiting,
}

label_enum! {
    /// A check of the node, made in every pass. Scripts, metrics and `/readyz` use its name.
    pub enum CheckName {
        /// Whether the configuration file that is there now is the one in force.
        Config = "config",
        /// Whether the plugins are as declared.
        Binaries = "binaries",
        /// Whether the conflist is as declared.
        Conflist = "conflist",
        /// Whether the runtimes take the declared conflist and no other file.
        Precedence = "precedence",
        /// Whether the plugins that the conflist needs are there and answer.
        Plugins = "plugins",
        /// Whether the gates and facts hold that the conflist waits for.
        Gates = "gates",
        /// How changes on the disk are noticed.
        Watch = "watch",
        /// Whether another program undoes the repairs.
        Conflict = "conflict",
        /// Whether the container runtime has taken the network.
        Runtime = "runtime",
        /// Whether the agent listens as declared. It never fails, and is there only with a warning.
        Endpoint = "endpoint",
        /// Whether the disk could be observed in time. Only `/readyz` and similar endpoints add it.
        Look = "look",
        /// Whether the agent's loop makes progress: the check of `/livez`.
        Loop = "loop",
        /// A check of a newer agent, read by this program.
        #[serde(other)]
        Unknown = "unknown",
    }
}

/// One check with its result.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Check {
    /// The question.
    pub name: CheckName,
    /// The reasons why it fails, one line each; empty if it holds.
    pub failures: Vec<String>,
    /// Warnings, one line each: something is unusual, but works.
    pub warnings: Vec<String>,
}

/// What the runtimes would take from the configuration directory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// The file that containerd takes, if it takes any.
    pub containerd: Option<String>,
    /// The file that CRI-O takes, if it takes any.
    pub crio: Option<String>,
}

impl Check {
    /// A check without failures or warnings.
    #[must_use]
    pub const fn new(name: CheckName) -> Self {
        Self {
            name,
            failures: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl Snapshot {
    /// Whether everything declared holds.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.checks.iter().all(|check| check.failures.is_empty())
    }
}
