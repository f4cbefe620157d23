//! Making it so: fetch what is missing, place the binaries, write the conflist, look again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::apply::StepApplier;
use super::error::ReconcileError;
use super::pins::ResolvedArtifact;
use super::questions::{self, ProbeAnswers};
use super::session::StateLock;
use super::{Context, ObservedState, judge, supply};
use crate::cni::check_plugin_versions;
use crate::fetch::{DownloadProgress, FetchedArtifact};
use crate::model::{
    Artifact, FailureKind, FileName, FileState, Pin, PluginName, Sha256, Snapshot, SourceFailure,
};
use crate::plan::{Step, plan};
use crate::store::{Ledger, ManagedDir};
use crate::trust::DeclaredPin;

/// How often a pass is repeated when a stored copy turns out to be damaged: once to fetch it again,
/// and once more for good measure. What is still wrong then is a failing disk.
const ROUNDS: u32 = 3;

/// Who watches what is going on, such as the progress bar of a terminal.
pub trait DownloadObserver {
    /// A download begins. What is returned is told of every step, and dropped at the end.
    fn downloading(&self, artifact: &Artifact) -> Box<dyn DownloadProgress + '_>;
}

/// Nobody watches.
impl DownloadObserver for () {
    fn downloading(&self, _artifact: &Artifact) -> Box<dyn DownloadProgress + '_> {
        Box::new(())
    }
}

/// What a pass may use.
pub struct InstallOptions<'a> {
    /// Whether everything but seeds and `file://` sources is left alone.
    pub offline: bool,
    /// Who watches.
    pub audience: &'a dyn DownloadObserver,
}

/// An artifact that was downloaded and proven.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DownloadedArtifact {
    /// The artifact, by the operator's name.
    pub artifact: String,
    /// Its version.
    pub version: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// The source that gave it, without secrets.
    pub source: String,
    /// The pin that it matched.
    pub pin: String,
    /// What failed before that one, in order.
    pub tried: Vec<SourceFailure>,
}

/// What was done, and what is true afterwards.
#[derive(Debug)]
pub struct InstallReport {
    /// What was downloaded.
    pub fetched: Vec<DownloadedArtifact>,
    /// The steps that were taken on disk, in order.
    pub steps: Vec<Step>,
    /// What is true now.
    pub snapshot: Snapshot,
    /// What kept an artifact from being fetched or unpacked; the rest was done all the same.
    pub failures: Vec<ReconcileError>,
}

/// An artifact whose plugins are in the store by now.
#[derive(Debug)]
pub struct StoredArtifact {
    /// What was downloaded.
    pub fetched: DownloadedArtifact,
    pin: Pin,
    measured: supply::Measured,
}

/// What one run has gathered so far.
#[derive(Default)]
pub(super) struct RunState {
    pub(super) fetched: Vec<DownloadedArtifact>,
    pub(super) steps: Vec<Step>,
    /// Blobs that this process wrote or proved itself.
    pub(super) proven: BTreeSet<Sha256>,
    /// Files that are left alone for now.
    pub(super) held: BTreeSet<(ManagedDir, FileName)>,
    failures: Vec<ReconcileError>,
    /// What the plugins in place were when the last pass was through with them.
    seen: BTreeMap<PluginName, FileState>,
    /// What the plugins in place said, and the gates.
    pub(super) answers: ProbeAnswers,
}

impl RunState {
    /// Records what an artifact was found to hold.
    pub(super) fn supplied(&mut self, supply: StoredArtifact, ledger: &mut Ledger) {
        for (member, measure) in supply.measured {
            ledger.record_member(&supply.pin, &member, measure);
            self.proven.insert(measure.sha256);
        }
        self.fetched.push(supply.fetched);
    }
}

impl ObservedState {
    /// Plans again with what the ledger and the store have learned.
    pub(super) fn plan_again(&mut self, keeper: &Context, blobs: &BTreeSet<Sha256>) {
        self.desired = keeper.desired(&self.ledger, self.network.as_ref());
        self.observed.blobs.extend(blobs);
        self.plan = plan(&self.desired, &self.observed);
    }
}

impl Context {
    /// Brings the node's disk to what is declared, as far as that can be done now.
    ///
    /// A conflist with a mistake stops it before anything is touched. An artifact that cannot be had
    /// does not keep the others from being placed. The conflist is written only once every plugin that
    /// it needs is in place and answers, and the gates hold; the snapshot says what is missing.
    ///
    /// # Errors
    /// When another agent is at work, the conflist is wrong, or the disk refuses.
    pub async fn install(
        &self,
        means: &InstallOptions<'_>,
    ) -> Result<InstallReport, ReconcileError> {
        let keeper = self.clone();
        let session = match run_blocking(move || keeper.open()).await {
            Err(error) if error.is_read_only() => return self.right_already(error).await,
            opened => opened?,
        };
        let mut run = RunState::default();
        for _ in 0..ROUNDS {
            if session.pass(&mut run, means).await? {
                break;
            }
        }
        // Spares are copied while the last look hashes what they are copied from.
        let tidy = run_blocking({
            let session = Arc::clone(&session);
            let seen = std::mem::take(&mut run.seen);
            move || session.tidy(&seen)
        });
        let (sight, tidied) = tokio::join!(self.observe_strictly(), tidy);
        tidied?;
        let sight = sight?;
        // Other plugins than before matter only where other files turned up meanwhile.
        let answers = questions::ask_rest(self, &sight, run.answers).await?;
        Ok(InstallReport {
            snapshot: judge::snapshot(self, &sight, &answers),
            fetched: run.fetched,
            steps: run.steps,
            failures: run.failures,
        })
    }

    /// Without a state directory to write to nothing can be changed, which is no failure of a node that
    /// is right already.
    async fn right_already(
        &self,
        refusal: ReconcileError,
    ) -> Result<InstallReport, ReconcileError> {
        let snapshot = self.verify().await?;
        if !snapshot.is_right() {
            return Err(refusal);
        }
        Ok(InstallReport {
            fetched: Vec::new(),
            steps: Vec::new(),
            snapshot,
            failures: Vec::new(),
        })
    }
}

impl StateLock {
    /// One pass; `false` if a stored copy was found damaged and another one is worth while.
    async fn pass(
        self: &Arc<Self>,
        run: &mut RunState,
        means: &InstallOptions<'_>,
    ) -> Result<bool, ReconcileError> {
        run.failures.clear();
        let mut sight = self.keeper.observe_strictly().await?;
        self.supply(&mut sight, run, means).await;
        let (sight, sound) = self.work(sight, run, StepApplier::binaries).await?;
        run.seen.clone_from(&sight.observed.plugins);
        run.answers = questions::ask(&self.keeper, &sight).await?;
        if may_write(&sight, &run.answers) {
            self.work(sight, run, StepApplier::conflists).await?;
        }
        Ok(sound)
    }

    /// Has some of the plan's steps taken on a thread that may block.
    pub(super) async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        sight: ObservedState,
        run: &mut RunState,
        steps: impl FnOnce(&mut StepApplier) -> Result<T, ReconcileError> + Send + 'static,
    ) -> Result<(ObservedState, T), ReconcileError> {
        let mut bench = StepApplier {
            session: Arc::clone(self),
            sight,
            proven: run.proven.clone(),
            taken: Vec::new(),
            held: run.held.clone(),
        };
        let (bench, outcome) = run_blocking(move || {
            let outcome = steps(&mut bench);
            Ok((bench, outcome))
        })
        .await?;
        // Also what was done before it failed.
        run.steps.extend(bench.taken);
        Ok((bench.sight, outcome?))
    }

    /// Downloads and unpacks what the plan asks for, then plans again with what is known now.
    async fn supply(
        self: &Arc<Self>,
        sight: &mut ObservedState,
        run: &mut RunState,
        means: &InstallOptions<'_>,
    ) {
        let wanted: Vec<String> = sight.plan.fetches().map(str::to_owned).collect();
        let artifacts: Vec<Artifact<DeclaredPin>> = self
            .keeper
            .settings
            .artifacts
            .iter()
            .filter(|artifact| wanted.contains(&artifact.name))
            .cloned()
            .collect();
        for artifact in artifacts {
            match self.fetch(&artifact, means).await {
                Ok(supply) => {
                    if let Some(supply) = supply {
                        run.supplied(supply, &mut sight.ledger);
                    }
                }
                Err(error) => run.failures.push(error),
            }
        }
        sight.plan_again(&self.keeper, &run.proven);
    }

    /// Downloads an artifact, proves it, and takes its plugins into the store. Beside passes: it may take minutes.
    ///
    /// `None` where only its digest was to be learned, and what is here already has it.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        declared: &Artifact<DeclaredPin>,
        means: &InstallOptions<'_>,
    ) -> Result<Option<StoredArtifact>, ReconcileError> {
        let ResolvedArtifact {
            artifact,
            asked,
            tried,
        } = self.resolve_pin(declared, means.offline).await?;
        if asked && !self.is_needed(&artifact).await? {
            return Ok(None);
        }
        let downloaded = {
            let progress = means.audience.downloading(&artifact);
            let keeper = &self.keeper;
            supply::download(&artifact, keeper, &self.store, means.offline, &*progress).await
        };
        let FetchedArtifact { content, receipt } = match downloaded {
            Err(error) if error.kind() == FailureKind::Digest => {
                let (session, declared) = (Arc::clone(self), declared.clone());
                run_blocking(move || session.forget_wrong_pin(&declared)).await?;
                return Err(error);
            }
            other => other?,
        };
        let fetched = DownloadedArtifact {
            artifact: artifact.name.clone(),
            version: artifact.version.clone(),
            bytes: receipt.bytes,
            source: receipt.source,
            pin: artifact.pin.to_string(),
            tried: tried
                .into_iter()
                .chain(receipt.failed_sources.iter().map(SourceFailure::from))
                .collect(),
        };
        tracing::info!(
            artifact = fetched.artifact,
            version = fetched.version,
            bytes = fetched.bytes,
            source = fetched.source,
            pin = fetched.pin,
            "downloaded and verified"
        );
        let session = Arc::clone(self);
        let pin = artifact.pin;
        let measured =
            run_blocking(move || supply::unpack(&artifact, content, &session.store)).await?;
        Ok(Some(StoredArtifact {
            fetched,
            pin,
            measured,
        }))
    }

    /// Whether an artifact still has to be downloaded, now that its digest is known.
    async fn is_needed(self: &Arc<Self>, artifact: &Artifact) -> Result<bool, ReconcileError> {
        let session = Arc::clone(self);
        let sight = run_blocking(move || session.keeper.observe_disk()).await?;
        Ok(sight.plan.fetches().any(|name| name == artifact.name))
    }

    /// Puts spares back into the store and lets go of what is neither declared nor in place: after an
    /// upgrade that failed, the set that is still there can be verified and healed as before. Nothing
    /// here may make a right node fail: a full disk costs the spare, not the network.
    fn tidy(&self, seen: &BTreeMap<PluginName, FileState>) -> Result<(), ReconcileError> {
        let mut ledger = self.store.load_ledger()?;
        let needed = self.keeper.needed(&ledger);
        let bin = self.keeper.bin_dir()?;
        for wanted in self.keeper.desired(&ledger, None).plugins {
            let name = wanted.plugin.file();
            // One that could not be mended is no copy of itself.
            let right = matches!(
                seen.get(&wanted.plugin),
                Some(FileState::Regular(file)) if wanted.sha256 == Some(file.sha256)
            );
            if let Some(placed) = ledger.find_file(ManagedDir::Bin, name)
                && wanted.sha256 == Some(placed.sha256)
                && right
                && let Some(bin) = &bin
                && let Err(error) = self.store.restore_blob(&placed.sha256, bin, name)
            {
                tracing::warn!("no spare copy of {}: {error}", wanted.plugin);
            }
        }
        let before = ledger.clone();
        ledger.retain_members(&needed.pins);
        let kept = self
            .store
            .prune_blobs(&needed.digests)
            .and_then(|()| self.store.sync_names());
        if let Err(error) = kept {
            tracing::warn!("{error}");
        }
        if ledger != before
            && let Err(error) = self.store.save_ledger(&ledger)
        {
            tracing::warn!("{error}");
        }
        Ok(())
    }
}

/// A conflist is never visible while a plugin that it names is absent or wrong, nor before its gates hold.
pub(super) fn may_write(sight: &ObservedState, answers: &ProbeAnswers) -> bool {
    let Some(Ok(rendered)) = sight.network.as_ref().map(|network| &network.rendered) else {
        return false;
    };
    let Some(summary) = &rendered.report.summary else {
        return false;
    };
    let supported = |plugin: &str| answers.supported(plugin);
    answers.closed_gates.is_empty()
        && !rendered
            .needed
            .iter()
            .any(|needed| sight.plan.concerns(&needed.plugin))
        && check_plugin_versions(&rendered.needed, summary, &supported).is_empty()
}

pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReconcileError> + Send + 'static,
) -> Result<T, ReconcileError> {
    tokio::task::spawn_blocking(work).await?
}
