//! What a pass did, and what is true afterwards.

use std::collections::BTreeSet;
use std::time::Instant;

use super::download::DownloadedArtifact;
use super::drift::FileDrift;
use super::error::ReconcileError;
use crate::model::{Artifact, Directory, FileName, ManagedDir, Snapshot};
use crate::plan::Step;
use crate::runtime::ExpectedNetwork;
use crate::trust::DeclaredPin;

/// Files that no step may change yet, by directory and name: another writer keeps undoing what is done to them.
pub type FilesInBackoff = BTreeSet<(ManagedDir, FileName)>;

/// What a pass did.
#[derive(Debug, Default)]
pub struct AppliedSteps {
    /// What was wrong before anything was done.
    pub before: Vec<FileDrift>,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// Whether what was placed has just been downloaded.
    pub downloaded: bool,
    /// When the last step was durable; `None` if nothing was done.
    pub applied_at: Option<Instant>,
    /// What kept the pass from doing more.
    pub failure: Option<ReconcileError>,
    /// Whether a stored copy turned out to be damaged, so that another pass is due at once.
    pub again: bool,
}

/// What a pass did, and what is true afterwards.
#[derive(Debug)]
pub struct PassReport {
    /// What was done.
    pub applied: AppliedSteps,
    /// When the observation began from which the rest follows.
    pub began: Instant,
    /// What is wrong now.
    pub after: Vec<FileDrift>,
    /// What is true now.
    pub snapshot: Snapshot,
    /// The configuration directory as the runtimes see it.
    pub directory: Option<Directory>,
    /// What has to be downloaded.
    pub wanted: Vec<Artifact<DeclaredPin>>,
    /// Whether the node waits for something that no event announces: a gate, a fact, a plugin that gives no answer.
    pub waits: bool,
    /// Whether it waits for values of the conflist.
    pub waits_for_facts: bool,
    /// The name of the declared network, if it is known. Drop-ins lie in a directory of that name.
    pub network: Option<String>,
    /// What the runtime must have loaded. `None` while the conflist is not as declared.
    pub expected: Option<ExpectedNetwork>,
}

/// What `install` did, and what is true afterwards.
#[derive(Debug)]
pub struct InstallReport {
    /// What was downloaded.
    pub fetched: Vec<DownloadedArtifact>,
    /// The steps that were taken on disk, in order.
    pub steps: Vec<Step>,
    /// What is true now.
    pub snapshot: Snapshot,
    /// Why artifacts could not be fetched or unpacked. Everything else was done.
    pub failures: Vec<ReconcileError>,
}
