//! What a pass did, and what is true afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::download::DownloadReport;
use super::drift_list::FileDrift;
use super::error::ReconcileError;
use crate::host::MissingLink;
use crate::model::{Artifact, Directory, FileName, ManagedDir, Snapshot};
use crate::plan::Step;
use crate::runtime::ExpectedNetwork;
use crate::trust::DeclaredPin;

/// Files that no step may change yet, by directory and name, and why.
pub type FilesInBackoff = BTreeMap<(ManagedDir, FileName), RepairPause>;

/// Why a file is not repaired now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepairPause {
    /// Its last repair failed, or was too short a while ago, or somebody is in the middle of writing it.
    Always,
    /// Another writer keeps undoing the repairs. The pause leaves the file to that writer, so it holds only while the
    /// node has a network: see [`PassReport::urgent`].
    WhileNetworkWorks,
}

/// A step that failed. The other steps of the pass were applied all the same.
#[derive(Debug)]
pub struct FailedStep {
    /// The directory of the file.
    pub dir: ManagedDir,
    /// The file that is still wrong.
    pub name: FileName,
    /// Why.
    pub error: ReconcileError,
}

/// What a pass did.
#[derive(Debug, Default)]
pub struct AppliedSteps {
    /// What was wrong before the first step.
    pub before: Vec<FileDrift>,
    /// The applied steps, in order.
    pub steps: Vec<Step>,
    /// Whether the pass used a new download.
    pub downloaded: bool,
    /// When the last step was durable; `None` if no step was applied.
    pub applied_at: Option<Instant>,
    /// The steps that failed.
    pub failed: Vec<FailedStep>,
    /// The error that ended the pass early.
    pub failure: Option<ReconcileError>,
    /// Whether a stored copy was damaged, so that another pass is needed at once.
    pub needs_another_pass: bool,
}

impl AppliedSteps {
    /// Takes the error that ended the pass early, or else the one of the first step that failed.
    pub(super) fn take_failure(&mut self) -> Option<ReconcileError> {
        let failed = self.failed.drain(..).next();
        let failure = self.failure.take();
        failure.or_else(|| failed.map(|step| step.error))
    }
}

/// What a pass did, and what is true afterwards.
#[derive(Debug)]
pub struct PassReport {
    /// What the pass did.
    pub applied: AppliedSteps,
    /// When the observation began from which the fields below are made.
    pub began: Instant,
    /// What is wrong now.
    pub after: Vec<FileDrift>,
    /// What is true now.
    pub snapshot: Snapshot,
    /// The wrong files without which new pods get no network: the conflist where the runtimes find no other that they
    /// can load, and a plugin of the conflist that is missing.
    pub urgent: BTreeSet<(ManagedDir, FileName)>,
    /// Links on the way to the bin and the configuration directory that were there before and are missing. Nothing is
    /// placed behind them before they are back.
    pub missing_links: Vec<MissingLink>,
    /// The configuration directory as the runtimes see it.
    pub directory: Option<Directory>,
    /// What has to be downloaded.
    pub wanted: Vec<Artifact<DeclaredPin>>,
    /// Whether the node waits for something that causes no file event: a gate, a fact, or a plugin that does not
    /// answer.
    pub is_waiting: bool,
    /// When a plugin is to be asked again whose answer to VERSION could not be had.
    pub next_question: Option<Instant>,
    /// Whether it waits for facts that the conflist uses.
    pub waits_for_facts: bool,
    /// The name of the declared network, if it is known. Drop-ins are in a directory of that name.
    pub network: Option<String>,
    /// What the runtime must have loaded. `None` while the conflist is not as declared.
    pub expected: Option<ExpectedNetwork>,
}

/// What `install` did, and what is true afterwards.
#[derive(Debug)]
pub struct InstallReport {
    /// What was downloaded.
    pub fetched: Vec<DownloadReport>,
    /// The applied steps, in order.
    pub steps: Vec<Step>,
    /// What is true now.
    pub snapshot: Snapshot,
    /// Why artifacts could not be fetched or unpacked. Everything else was done.
    pub failures: Vec<ReconcileError>,
}
