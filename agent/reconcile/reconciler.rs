//! The passes: observe, apply what may be applied now, observe again, and say what is true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::apply::StepApplier;
use super::context::Context;
use super::download::{DownloadOptions, DownloadedArtifact, StoredArtifact, download_artifact};
use super::drift::list_drifts;
use super::error::{ReconcileError, run_blocking};
use super::maintenance::{self, Maintenance, MaintenanceOutcome};
use super::network::{NotRendered, ObservedNetwork, observe_network};
use super::observe::{ObservedState, Observer};
use super::probes::{ProbeAnswers, ask_gates, ask_plugins};
use super::report::{AppliedSteps, FilesInBackoff, InstallReport, PassReport};
use super::state_lock::StateLock;
use super::status::{build_directory_view, build_snapshot};
use crate::cni::check_plugin_versions;
use crate::config::DriftPolicy;
use crate::model::{Artifact, FileName, FileState, Pin, PluginName, Sha256, Snapshot};
use crate::plan::Step;
use crate::runtime::{ExpectedNetwork, real_dir};
use crate::store::Ledger;
use crate::trust::DeclaredPin;

/// How often `install` makes a pass when a stored copy turns out to be damaged: another one to fetch it again, and a
/// third to be sure. What is still wrong then is a failing disk.
const MAX_INSTALL_PASSES: u32 = 3;

/// Brings a node to what is declared. It holds the state directory where it may, and remembers what it learned.
#[derive(Debug)]
pub struct Reconciler {
    observer: Observer,
    /// The state directory, as long as it is held.
    state: Option<Arc<StateLock>>,
    answers: ProbeAnswers,
    /// Downloads that no pass has recorded in the ledger yet.
    stored: Vec<StoredArtifact>,
    /// What is ours, as of the last observation. It is kept in memory, since somebody may remove the state directory.
    ledger: Ledger,
}

/// What came of the downloads that a pass made itself.
#[derive(Default)]
struct InlineDownloads {
    fetched: Vec<DownloadedArtifact>,
    failures: Vec<ReconcileError>,
}

/// What is gathered while the steps of one pass are applied.
#[derive(Default)]
struct ApplyProgress {
    /// Blobs that this process wrote itself.
    proven: BTreeSet<Sha256>,
    in_backoff: FilesInBackoff,
    steps: Vec<Step>,
    /// Whether a stored copy turned out to be damaged.
    found_damage: bool,
}

impl Reconciler {
    /// A reconciler that changes nothing until it is told to [`Reconciler::acquire_state_dir`] or to
    /// [`Reconciler::install`].
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self {
            observer: Observer::new(context),
            state: None,
            answers: ProbeAnswers::default(),
            stored: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    /// What is declared, and for which node.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.observer.context
    }

    /// The digest of a declared artifact, as far as it is known and, where it has to be, signed.
    #[must_use]
    pub fn pin_of(&self, artifact: &Artifact<DeclaredPin>) -> Option<Pin> {
        self.observer.pin_of(artifact)
    }

    /// Why the digests of artifacts of these names are not known yet, a sentence each.
    #[must_use]
    pub fn unknown_pins<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        self.observer.unknown_pins(names)
    }

    /// Has a plugin read at the next look, whatever its times say.
    pub fn forget_plugin_state(&self, plugin: &FileName) {
        self.observer.files.forget(plugin);
    }

    /// Looks at the disk; changes nothing. A conflist with a mistake is a failure here, since somebody is there to fix
    /// it.
    ///
    /// # Errors
    /// When the disk or the ledger cannot be read, or the conflist has a mistake.
    pub async fn observe(&self) -> Result<ObservedState, ReconcileError> {
        let observed = self.observer.observe().await?;
        let network = observed.network.map(ObservedNetwork::require_rendered);
        Ok(ObservedState {
            network: network.transpose()?,
            ..observed
        })
    }

    /// Looks at the disk, asks the gates and the plugins, and says what is true. Changes nothing.
    ///
    /// # Errors
    /// As [`Reconciler::observe`].
    pub async fn verify(&mut self) -> Result<Snapshot, ReconcileError> {
        let observed = self.observe().await?;
        self.ask(&observed, true).await?;
        Ok(build_snapshot(&self.observer, &observed, &self.answers))
    }

    /// Brings the node to what is declared, once, as far as that can be done now.
    ///
    /// A conflist with a mistake stops it before anything is touched. An artifact that cannot be had does not keep the
    /// others from being placed. The conflist is written only once every plugin that it needs is in place and answers,
    /// and the gates hold; the snapshot says what is missing.
    ///
    /// # Errors
    /// When another agent is at work, the conflist is wrong, or the disk refuses.
    pub async fn install(
        &mut self,
        options: &DownloadOptions<'_>,
    ) -> Result<InstallReport, ReconcileError> {
        let context = self.context().clone();
        let require_rendered = move || {
            let network = observe_network(&context)?;
            network.map(ObservedNetwork::require_rendered).transpose()
        };
        run_blocking(require_rendered).await?;
        match self.hold_state_dir().await {
            Err(error) if error.is_read_only() => return self.report_unchanged(error).await,
            held => held?,
        };
        let (mut fetched, mut steps) = (Vec::new(), Vec::new());
        let mut passes = 0;
        loop {
            passes += 1;
            let backoff = FilesInBackoff::default();
            let (pass, downloads) = self.run_pass(backoff, true, Some(options)).await?;
            if let Some(failure) = pass.applied.failure {
                return Err(failure);
            }
            fetched.extend(downloads.fetched);
            steps.extend(pass.applied.steps);
            if !pass.applied.again || passes == MAX_INSTALL_PASSES {
                return Ok(InstallReport {
                    fetched,
                    steps,
                    snapshot: pass.snapshot,
                    failures: downloads.failures,
                });
            }
        }
    }

    /// Without a state directory to write to nothing can be changed, which is no failure of a node that is right
    /// already.
    async fn report_unchanged(
        &mut self,
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

    /// Whether nothing is to be written, whatever is wrong.
    #[must_use]
    pub fn is_report_only(&self) -> bool {
        self.context().settings.drift.policy == DriftPolicy::Report
    }

    /// Takes hold of the state directory for an agent that stays, unless nothing is to be written anyway or it is held
    /// already.
    ///
    /// # Errors
    /// When another agent is at work ([`ReconcileError::is_held`]), or the disk refuses; passes only observe then.
    pub async fn acquire_state_dir(&mut self) -> Result<(), ReconcileError> {
        if self.state.is_none() && !self.is_report_only() {
            let state = self.hold_state_dir().await?;
            let ledger = self.ledger.clone();
            let prepare = move || {
                state.restore_ledger(&ledger)?;
                state.prepare_for_repairs()
            };
            if let Err(error) = run_blocking(prepare).await {
                self.state = None;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn hold_state_dir(&mut self) -> Result<Arc<StateLock>, ReconcileError> {
        let observer = self.observer.clone();
        let state = run_blocking(move || StateLock::acquire(&observer)).await?;
        self.state = Some(Arc::clone(&state));
        Ok(state)
    }

    /// Whether the state directory that is held was removed or replaced meanwhile.
    pub async fn has_lost_state_dir(&self) -> bool {
        let Some(state) = self.state.clone() else {
            return false;
        };
        // An error here is no reason to let go: the pass will report it.
        run_blocking(move || state.is_lost()).await.unwrap_or(false)
    }

    /// Lets go of the state directory, and of what was downloaded into it.
    pub fn release_state_dir(&mut self) {
        self.state = None;
        self.stored.clear();
    }

    /// Has every plugin asked again that gave no usable answer.
    pub fn forget_failed_answers(&mut self) {
        self.answers.forget_failures();
    }

    /// Has every plugin asked again; the files are read again by [`Maintenance`].
    pub fn forget_answers(&mut self) {
        self.answers.forget();
    }

    /// Hands over what was downloaded, for the next pass to use.
    pub fn add_stored_artifact(&mut self, artifact: StoredArtifact) {
        self.stored.push(artifact);
    }

    /// Downloads an artifact into the store, beside whatever passes do meanwhile; `None` where the state directory is
    /// not held. The future gives `None` where only the artifact's digest was to be learned.
    pub fn fetch_artifact(
        &self,
        artifact: Artifact<DeclaredPin>,
    ) -> Option<impl Future<Output = Result<Option<StoredArtifact>, ReconcileError>> + use<>> {
        let state = Arc::clone(self.state.as_ref()?);
        Some(async move {
            let options = DownloadOptions {
                offline: false,
                progress: &(),
            };
            download_artifact(&state, &artifact, &options).await
        })
    }

    /// Does one step of maintenance on a thread that may block, beside whatever passes do meanwhile.
    pub fn run_maintenance_step(
        &self,
        mut maintenance: Maintenance,
    ) -> tokio::task::JoinHandle<(Maintenance, MaintenanceOutcome)> {
        let (observer, state) = (self.observer.clone(), self.state.clone());
        tokio::task::spawn_blocking(move || {
            let outcome = maintenance::run_step(&observer, state, &mut maintenance);
            (maintenance, outcome)
        })
    }

    /// Writes down what is known of the node, where the state directory is held.
    pub async fn save_node_facts(&self) {
        let Some(state) = self.state.clone() else {
            return;
        };
        if let Err(error) = run_blocking(move || state.save_node_facts()).await {
            tracing::warn!("{error}");
        }
    }

    /// Whether a gate was closed when it was last asked.
    #[must_use]
    pub fn waits_for_gates(&self) -> bool {
        !self.answers.closed_gates.is_empty()
    }

    /// Records why each closed gate is closed; `true` if a pass should follow. That all gates are open is left for the
    /// pass to find out.
    pub fn record_gate_answers(&mut self, closed: Vec<String>) -> bool {
        if closed.is_empty() {
            return self.waits_for_gates();
        }
        let is_news = self.answers.closed_gates != closed;
        self.answers.closed_gates = closed;
        is_news
    }

    /// One pass. `gates` has the gates asked again; gates that were open are asked anyway before anything is written.
    ///
    /// # Errors
    /// When the disk cannot be observed, so that nothing can be said about it.
    pub async fn reconcile(
        &mut self,
        in_backoff: FilesInBackoff,
        gates: bool,
    ) -> Result<PassReport, ReconcileError> {
        let (report, _) = self.run_pass(in_backoff, gates, None).await?;
        Ok(report)
    }

    /// The one pass of `install`, `run` and repairs. With `download`, what is missing is downloaded within the pass, and
    /// the store is left complete behind it; else downloads go on beside passes.
    async fn run_pass(
        &mut self,
        in_backoff: FilesInBackoff,
        gates: bool,
        download: Option<&DownloadOptions<'_>>,
    ) -> Result<(PassReport, InlineDownloads), ReconcileError> {
        let mut began = Instant::now();
        let mut observed = self.observer.observe().await?;
        let mut downloads = InlineDownloads::default();
        let mut applied = AppliedSteps {
            before: list_drifts(self.context(), &observed),
            ..AppliedSteps::default()
        };
        let mut progress = ApplyProgress {
            in_backoff,
            ..ApplyProgress::default()
        };
        match self.state.clone() {
            None => self.ask(&observed, gates).await?,
            Some(state) => {
                if let Some(options) = download {
                    downloads = self.download_missing(&state, &observed, options).await;
                }
                applied.downloaded = !self.stored.is_empty();
                match self.apply(&state, observed, gates, &mut progress).await {
                    Ok(seen) => observed = seen,
                    Err(error) => {
                        applied.failure = Some(error);
                        began = Instant::now();
                        observed = self.observer.observe().await?;
                        self.ask(&observed, false).await?;
                    }
                }
            }
        }
        applied.again = progress.found_damage;
        applied.steps = progress.steps;
        // An agent that stays completes the store by its maintenance.
        let state = self.state.clone().filter(|_| download.is_some());
        let completed = complete_store(state, observed.disk.plugins.clone());
        if !applied.steps.is_empty() {
            applied.applied_at = Some(Instant::now());
            began = Instant::now();
            // The plugins are copied while the look hashes them.
            let (seen, completed) = tokio::join!(self.observer.observe(), completed);
            completed?;
            observed = seen?;
            self.ask(&observed, false).await?;
        } else {
            completed.await?;
        }
        let report = self.report(applied, began, &observed);
        // An empty ledger was lost between two calls, or has nothing to be remembered.
        if !observed.ledger.files().is_empty() {
            self.ledger = observed.ledger;
        }
        Ok((report, downloads))
    }

    /// Downloads and unpacks what the plan asks for.
    async fn download_missing(
        &mut self,
        state: &Arc<StateLock>,
        observed: &ObservedState,
        options: &DownloadOptions<'_>,
    ) -> InlineDownloads {
        let mut downloads = InlineDownloads::default();
        for artifact in self.artifacts_to_fetch(observed) {
            match download_artifact(state, &artifact, options).await {
                Ok(Some(stored)) => {
                    downloads.fetched.push(stored.fetched.clone());
                    self.stored.push(stored);
                }
                Ok(None) => {}
                Err(error) => downloads.failures.push(error),
            }
        }
        downloads
    }

    /// Applies the steps that may be applied now, in the order that is safe. What is returned says what is true if
    /// nothing was done.
    async fn apply(
        &mut self,
        state: &Arc<StateLock>,
        mut observed: ObservedState,
        gates: bool,
        progress: &mut ApplyProgress,
    ) -> Result<ObservedState, ReconcileError> {
        for stored in self.stored.drain(..) {
            for (member, measure) in stored.measured {
                let ledger = &mut observed.ledger;
                ledger.record_member(&stored.pin, &member, measure);
                progress.proven.insert(measure.sha256);
            }
        }
        // A digest that was learned meanwhile may change the plan, also where nothing was stored.
        observed.plan_again(&self.observer, &progress.proven);
        if !observed.plan.steps.is_empty() || !progress.proven.is_empty() {
            let sound;
            (observed, sound) =
                apply_steps(state, observed, progress, StepApplier::apply_plugin_steps).await?;
            progress.found_damage = !sound;
        }
        let writes = observed.has_conflist_steps();
        let gates = gates || (writes && !self.waits_for_gates());
        self.ask(&observed, gates).await?;
        if writes && self.may_write_conflist(&observed) {
            (observed, ()) =
                apply_steps(state, observed, progress, StepApplier::apply_conflist_steps).await?;
        }
        Ok(observed)
    }

    /// A conflist is never visible while a plugin that it names is absent or wrong, nor before its gates hold.
    fn may_write_conflist(&self, observed: &ObservedState) -> bool {
        let rendered = observed.network.as_ref().map(|network| &network.rendered);
        let Some(Ok(rendered)) = rendered else {
            return false;
        };
        let Some(summary) = &rendered.report.summary else {
            return false;
        };
        let supported = |plugin: &str| self.answers.supported_versions(plugin);
        let mut needed = rendered.needed.iter();
        !self.waits_for_gates()
            && !needed.any(|needed| observed.plan.concerns(&needed.plugin))
            && check_plugin_versions(&rendered.needed, summary, &supported).is_empty()
    }

    /// Asks the plugins that are not known yet, and the gates if they are to be asked.
    async fn ask(&mut self, observed: &ObservedState, gates: bool) -> Result<(), ReconcileError> {
        let mut answers = std::mem::take(&mut self.answers);
        if gates {
            answers.closed_gates = ask_gates(self.context()).await;
        }
        self.answers = ask_plugins(self.context(), observed, answers).await?;
        Ok(())
    }

    fn artifacts_to_fetch(&self, observed: &ObservedState) -> Vec<Artifact<DeclaredPin>> {
        let names: Vec<&str> = observed.plan.fetches().collect();
        let artifacts = self.context().settings.artifacts.iter();
        let wanted = artifacts.filter(|artifact| names.contains(&artifact.name.as_str()));
        wanted.cloned().collect()
    }

    /// Derives what is true from the last look.
    fn report(
        &self,
        applied: AppliedSteps,
        began: Instant,
        observed: &ObservedState,
    ) -> PassReport {
        let answers = &self.answers;
        let rendered = observed.network.as_ref().map(|network| &network.rendered);
        let summary = match rendered {
            Some(Ok(rendered)) => rendered.report.summary.as_ref(),
            _ => None,
        };
        PassReport {
            applied,
            began,
            after: list_drifts(self.context(), observed),
            snapshot: build_snapshot(&self.observer, observed, answers),
            directory: build_directory_view(&self.observer, observed, answers),
            wanted: self.artifacts_to_fetch(observed),
            waits: self.waits_for_gates()
                || answers.has_failures()
                || matches!(rendered, Some(Err(_))),
            waits_for_facts: matches!(rendered, Some(Err(NotRendered::Waiting(_)))),
            network: summary.map(|summary| summary.name.clone()),
            expected: self.expected_network(observed),
        }
    }

    /// What the runtime must have loaded; `None` as long as the conflist is not in place.
    fn expected_network(&self, observed: &ObservedState) -> Option<ExpectedNetwork> {
        let (settings, host) = (&self.context().settings, &self.context().host);
        let declared = settings.network.as_ref()?;
        let rendered = observed.network.as_ref()?.rendered.as_ref().ok()?;
        let summary = rendered.report.summary.as_ref();
        let summary = summary.filter(|_| !observed.has_conflist_steps())?;
        Some(ExpectedNetwork {
            file: declared.file_name.to_string(),
            network: summary.name.clone(),
            chain: summary.chain.clone(),
            text: rendered.text.clone(),
            conf_dir: real_dir(host, &settings.paths.conf_dir),
            bin_dir: real_dir(host, &settings.paths.bin_dir),
        })
    }
}

async fn complete_store(
    state: Option<Arc<StateLock>>,
    seen: BTreeMap<PluginName, FileState>,
) -> Result<(), ReconcileError> {
    match state {
        Some(state) => run_blocking(move || maintenance::complete_store(&state, &seen)).await,
        None => Ok(()),
    }
}

/// Has some of the plan's steps applied on a thread that may block.
async fn apply_steps<T: Send + 'static>(
    state: &Arc<StateLock>,
    observed: ObservedState,
    progress: &mut ApplyProgress,
    steps: impl FnOnce(&mut StepApplier) -> Result<T, ReconcileError> + Send + 'static,
) -> Result<(ObservedState, T), ReconcileError> {
    let mut applier = StepApplier {
        state: Arc::clone(state),
        observed,
        proven: progress.proven.clone(),
        applied: Vec::new(),
        in_backoff: progress.in_backoff.clone(),
    };
    let (applier, outcome) = run_blocking(move || {
        let outcome = steps(&mut applier);
        Ok((applier, outcome))
    })
    .await?;
    // Also what was done before a failure.
    progress.steps.extend(applier.applied);
    Ok((applier.observed, outcome?))
}
