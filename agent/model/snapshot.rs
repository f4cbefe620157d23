//! What is true of the node at one moment: the one thing that every view is made from.

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
    /// How it stands.
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

/// How a declared file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is what was declared.
    Ok,
    /// A node image's own build, which `ifPresent: keep` leaves alone.
    Kept,
    /// It is not what was declared.
    Drift,
    /// What it must be is not known yet: a fact source is not there.
    Waiting,
}

label_enum! {
    /// A question that is asked of the node again and again. Scripts, metrics and `/readyz` know it by its name.
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
        /// Whether everything that the conflist waits for is there.
        Gates = "gates",
        /// How changes on the disk are noticed.
        Watch = "watch",
        /// Whether another program undoes the repairs.
        Conflict = "conflict",
        /// Whether the container runtime has taken the network.
        Runtime = "runtime",
        /// Whether the disk could be looked at in time. Only `/readyz` and its like add it.
        Look = "look",
        /// Whether the agent's loop is turning: the check of `/livez`.
        Loop = "loop",
        /// A check of a newer agent, read by this program.
        #[serde(other)]
        Unknown = "unknown",
    }
}

/// One question with its answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Check {
    /// The question.
    pub name: CheckName,
    /// Why the answer is no, a line each; empty where it is yes.
    pub failures: Vec<String>,
    /// What is odd but works, a line each.
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
    /// A check that nothing speaks against so far.
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
