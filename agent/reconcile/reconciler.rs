//! Makes the passes: observe, apply the steps that may be applied now, observe again, and report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::apply::StepApplier;
use super::context::Context;
use super::download::{DownloadReport, InstallOptions, StoredArtifact, download_artifact};
use super::drift_list::list_drifts;
use super::error::{ReconcileError, run_blocking};
use super::maintenance::{self, Maintenance, MaintenanceOutcome};
use super::observed_network::{NotRendered, ObservedNetwork, observe_network};
use super::observer::{ObservedState, Observer};
use super::probes::{ProbeAnswers, ask_gates, ask_plugins};
use super::report::{AppliedSteps, FailedStep, FilesInBackoff, InstallReport, PassReport};
use super::runtime_choices::RuntimeChoices;
use super::snapshot_builder::{build_directory_view, build_snapshot};
use super::state_lock::StateLock;
use crate::cni::check_plugin_versions;
use crate::config::{DriftPolicy, NetworkSettings};
use crate::model::{Artifact, FileName, FileState, Pin, PluginName, Sha256, Snapshot};
use crate::plan::Step;
use crate::runtime::{ExpectedNetwork, real_dir};
use crate::store::Ledger;
use crate::trust::DeclaredPin;

/// How many passes `install` makes at most. If a stored copy is damaged, the second pass fetches it again, and the
/// third is a reserve. If a file is still wrong after that, the disk is failing.
const MAX_INSTALL_PASSES: u32 = 3;

/// Makes a node as declared. It remembers what it learned, and holds the state directory if it may write.
#[derive(Debug)]
pub struct Reconciler {
    observer: Observer,
    /// The locked state directory; `None` while it is not held.
    state: Option<Arc<StateLock>>,
    answers: ProbeAnswers,
    /// Downloads that no pass has recorded in the ledger yet.
    stored: Vec<StoredArtifact>,
    /// What we placed, as of the last observation. It is kept in memory as well, because somebody may remove the state
    /// directory.
    ledger: Ledger,
}

/// The results of the downloads that a pass made itself.
#[derive(Default)]
struct InlineDownloads {
    fetched: Vec<DownloadReport>,
    failures: Vec<ReconcileError>,
}

/// Collects results while the steps of one pass are applied.
#[derive(Default)]
struct ApplyProgress {
    /// Blobs that this process wrote itself.
    proven: BTreeSet<Sha256>,
    in_backoff: FilesInBackoff,
    steps: Vec<Step>,
    failed: Vec<FailedStep>,
    /// Whether a stored copy turned out to be damaged.
    found_damage: bool,
}

impl Reconciler {
    /// A reconciler. It changes nothing before [`Reconciler::acquire_state_dir`] or [`Reconciler::install`] is called.
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

    /// The settings, the host and the node.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.observer.context
    }

    /// The digest of a declared artifact, as far as it is known and, where it has to be, signed.
    #[must_use]
    pub fn known_pin(&self, artifact: &Artifact<DeclaredPin>) -> Option<Pin> {
        self.observer.known_pin(artifact)
    }

    /// Why the digests of artifacts of these names are not known yet, a sentence each.
    #[must_use]
    pub fn describe_unknown_pins<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        self.observer.describe_unknown_pins(names)
    }

    /// Forgets the state of a plugin, so that the next observation reads the file.
    pub fn forget_plugin_state(&self, plugin: &FileName) {
        self.observer.files.forget(plugin);
    }

    /// Observes the disk and changes nothing. A mistake in the conflist is an error here, because a person runs the
    /// command and can fix it.
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

    /// Observes the disk, asks the gates and the plugins, and reports. Changes nothing.
    ///
    /// # Errors
    /// As [`Reconciler::observe`].
    pub async fn verify(&mut self) -> Result<Snapshot, ReconcileError> {
        let observed = self.observe().await?;
        self.ask(&observed, true).await?;
        let choices = RuntimeChoices::of_observed(&observed, &self.answers);
        let choices = choices.as_ref();
        Ok(build_snapshot(
            &self.observer,
            &observed,
            &self.answers,
            choices,
        ))
    }

    /// Makes the node as declared, once, as far as that is possible now:
    ///
    /// - If the conflist has a mistake, nothing is changed, unless it takes values from an envFile or from the node: these
    ///   may be the cause, and no plugin waits for them.
    /// - If an artifact cannot be downloaded, the plugins of the others are placed all the same.
    /// - The conflist is written only if every plugin that it needs is in place and answers, and all gates are open.
    ///   The snapshot says what is missing.
    ///
    /// # Errors
    /// When another agent is running, the conflist has a mistake, or a file operation fails.
    pub async fn install(
        &mut self,
        options: &InstallOptions<'_>,
    ) -> Result<InstallReport, ReconcileError> {
        let observer = self.observer.clone();
        let require_rendered = move || {
            let declared = observer.context.settings.network.as_ref();
            if declared.is_none_or(NetworkSettings::takes_facts_from_elsewhere) {
                return Ok(None);
            }
            let network = observe_network(&observer.context, &observer.foreign)?;
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
            let (mut pass, downloads) = self.run_pass(backoff, true, Some(options)).await?;
            if let Some(failure) = pass.applied.take_failure() {
                return Err(failure);
            }
            fetched.extend(downloads.fetched);
            steps.extend(pass.applied.steps);
            if !pass.applied.needs_another_pass || passes == MAX_INSTALL_PASSES {
                return Ok(InstallReport {
                    fetched,
                    steps,
                    snapshot: pass.snapshot,
                    failures: downloads.failures,
                });
            }
        }
    }

    /// Reports a node on which the state directory is not writable. That is an error only if the node is not as
    /// declared.
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

    /// Whether the agent only reports drift and writes nothing (`drift.policy: report`).
    #[must_use]
    pub fn is_report_only(&self) -> bool {
        self.context().settings.drift.policy == DriftPolicy::Report
    }

    /// Locks the state directory for a running agent. Does nothing if it is locked already or the agent only reports.
    ///
    /// # Errors
    /// When another agent is running ([`ReconcileError::is_held`]), or a file operation fails. Passes then only
    /// observe.
    pub async fn acquire_state_dir(&mut self) -> Result<(), ReconcileError> {
        if self.state.is_none() && !self.is_report_only() {
            let state = self.hold_state_dir().await?;
            if let Err(error) = run_blocking(move || state.prepare_for_repairs()).await {
                self.state = None;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn hold_state_dir(&mut self) -> Result<Arc<StateLock>, ReconcileError> {
        let (observer, known) = (self.observer.clone(), self.ledger.clone());
        let state = run_blocking(move || StateLock::acquire(&observer, &known)).await?;
        self.state = Some(Arc::clone(&state));
        Ok(state)
    }

    /// Whether the locked state directory was removed or replaced.
    pub async fn has_lost_state_dir(&self) -> bool {
        let Some(state) = self.state.clone() else {
            return false;
        };
        // An error here does not release the directory. The next pass reports it.
        run_blocking(move || state.is_lost()).await.unwrap_or(false)
    }

    /// Releases the state directory, and forgets what was downloaded into it.
    pub fn release_state_dir(&mut self) {
        self.state = None;
        self.stored.clear();
    }

    /// Forgets the plugins that gave no usable answer, so that they are asked again.
    pub fn forget_failed_answers(&mut self) {
        self.answers.forget_failures();
    }

    /// Takes over what plugins have answered to the reconciler before, whose declaration is no longer in force.
    pub fn take_answers_from(&mut self, former: &mut Self) {
        self.answers.take_answers_from(&mut former.answers);
    }

    /// Adds a downloaded artifact, which the next pass uses.
    pub fn add_stored_artifact(&mut self, artifact: StoredArtifact) {
        self.stored.push(artifact);
    }

    /// Downloads an artifact into the store, beside the passes. Returns `None` if the state directory is not locked.
    /// The future gives `None` if only the artifact's digest had to be learned.
    pub fn fetch_artifact(
        &self,
        artifact: Artifact<DeclaredPin>,
    ) -> Option<impl Future<Output = Result<Option<StoredArtifact>, ReconcileError>> + use<>> {
        let state = Arc::clone(self.state.as_ref()?);
        Some(async move {
            let options = InstallOptions {
                offline: false,
                progress: &(),
            };
            download_artifact(&state, &artifact, &options).await
        })
    }

    /// Does one step of maintenance on a thread that may block, beside the passes.
    pub fn run_maintenance_step(
        &self,
        mut maintenance: Maintenance,
    ) -> tokio::task::JoinHandle<(Maintenance, MaintenanceOutcome)> {
        let (observer, state) = (self.observer.clone(), self.state.clone());
        tokio::task::spawn_blocking(move || {
            let outcome = maintenance::run_maintenance_step(&observer, state, &mut maintenance);
            (maintenance, outcome)
        })
    }

    /// Saves the facts of the node in the state directory, if it is locked.
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

    /// Records why each closed gate is closed. Returns `true` if a pass should follow. If no gate is closed, the record
    /// stays as it is, and the pass asks the gates itself.
    pub fn record_gate_answers(&mut self, closed: Vec<String>) -> bool {
        if closed.is_empty() {
            return self.waits_for_gates();
        }
        let is_news = self.answers.closed_gates != closed;
        self.answers.closed_gates = closed;
        is_news
    }

    /// Makes one pass. With `gates`, the gates are asked again. Gates that were open are always asked before a conflist
    /// is written.
    ///
    /// # Errors
    /// When the disk cannot be observed.
    pub async fn reconcile(
        &mut self,
        in_backoff: FilesInBackoff,
        gates: bool,
    ) -> Result<PassReport, ReconcileError> {
        let (report, _) = self.run_pass(in_backoff, gates, None).await?;
        Ok(report)
    }

    /// The pass of `install`, `run` and repairs. With `download`, missing artifacts are downloaded within the pass, and
    /// the store is completed at its end. Without it, downloads and maintenance run beside the passes.
    async fn run_pass(
        &mut self,
        in_backoff: FilesInBackoff,
        gates: bool,
        download: Option<&InstallOptions<'_>>,
    ) -> Result<(PassReport, InlineDownloads), ReconcileError> {
        let mut began = Instant::now();
        let mut observed = self.observe_recovered().await?;
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
                    downloads = self.download_missing(&state, &mut observed, options).await;
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
        applied.needs_another_pass = progress.found_damage;
        applied.steps = progress.steps;
        applied.failed = progress.failed;
        // A running agent completes the store by its maintenance.
        let state = self.state.clone().filter(|_| download.is_some());
        let completed = complete_store(state, observed.disk.plugins.clone());
        if !applied.steps.is_empty() || !applied.failed.is_empty() {
            applied.applied_at = (!applied.steps.is_empty()).then(Instant::now);
            began = Instant::now();
            // The plugins are copied to the store while the observation hashes them.
            let (seen, completed) = tokio::join!(self.observer.observe(), completed);
            completed?;
            observed = seen?;
            self.ask(&observed, false).await?;
        } else {
            completed.await?;
        }
        self.adopt_right_files(&mut observed).await?;
        let report = self.report(applied, began, &observed);
        // An empty ledger is not kept: either nothing was placed, or the state directory was removed during the pass.
        if !observed.ledger.files().is_empty() {
            self.ledger = observed.ledger;
        }
        Ok((report, downloads))
    }

    /// Observes the disk. If a record of the state directory is damaged and may be recovered, this is done first.
    async fn observe_recovered(&self) -> Result<ObservedState, ReconcileError> {
        let observed = self.observer.observe().await?;
        let Some(state) = self.state.clone().filter(|_| !observed.damaged.is_empty()) else {
            return Ok(observed);
        };
        let known = self.ledger.clone();
        run_blocking(move || {
            state.recover_records(&known);
            Ok(())
        })
        .await?;
        self.observer.observe().await
    }

    /// Records in the ledger what was found as declared, if the ledger may be written. Without that record the node works
    /// as well, so a failure is only told.
    async fn adopt_right_files(&self, observed: &mut ObservedState) -> Result<(), ReconcileError> {
        let Some(state) = self.state.clone() else {
            return Ok(());
        };
        if !observed.adopt_right_files(&self.observer) {
            return Ok(());
        }
        let ledger = observed.ledger.clone();
        run_blocking(move || {
            if let Err(error) = state.store.save_ledger(&ledger) {
                state.observer.recovered.tell([error.to_string()]);
            }
            Ok(())
        })
        .await
    }

    /// Downloads and unpacks the artifacts that the plan needs. It plans again after each of them: two artifacts may
    /// hold the same content, which is then downloaded once.
    async fn download_missing(
        &mut self,
        state: &Arc<StateLock>,
        observed: &mut ObservedState,
        options: &InstallOptions<'_>,
    ) -> InlineDownloads {
        let mut downloads = InlineDownloads::default();
        let mut tried = BTreeSet::new();
        loop {
            let mut missing = self.list_artifacts_to_fetch(observed).into_iter();
            let Some(artifact) = missing.find(|artifact| !tried.contains(&artifact.name)) else {
                return downloads;
            };
            match download_artifact(state, &artifact, options).await {
                Ok(Some(stored)) => {
                    let digests = record_members(&mut observed.ledger, &stored);
                    observed.plan_again(&self.observer, &digests);
                    downloads.fetched.push(stored.report.clone());
                    self.stored.push(stored);
                }
                Ok(None) => {}
                Err(error) => downloads.failures.push(error),
            }
            tried.insert(artifact.name);
        }
    }

    /// Applies the steps that may be applied now, in the safe order. Returns an observation that is valid if no step
    /// was applied.
    async fn apply(
        &mut self,
        state: &Arc<StateLock>,
        mut observed: ObservedState,
        gates: bool,
        progress: &mut ApplyProgress,
    ) -> Result<ObservedState, ReconcileError> {
        for stored in self.stored.drain(..) {
            let mut digests = record_members(&mut observed.ledger, &stored);
            progress.proven.append(&mut digests);
        }
        // A digest may have been learned since the observation. It can change the plan even if nothing was stored.
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
            (observed, ()) = apply_steps(state, observed, progress, |applier| {
                applier.apply_conflist_steps();
                Ok(())
            })
            .await?;
        }
        Ok(observed)
    }

    /// Whether the conflist may be written: every plugin that it names is in place, as declared, and answers, and all
    /// gates are open.
    fn may_write_conflist(&self, observed: &ObservedState) -> bool {
        let rendered = observed.network.as_ref().map(|network| &network.rendered);
        let Some(Ok(rendered)) = rendered else {
            return false;
        };
        let supported = |plugin: &str| self.answers.supported_versions(plugin);
        let mut needed = rendered.needed.iter();
        !self.waits_for_gates()
            && !needed.any(|needed| observed.plan.is_plugin_wrong(&needed.plugin))
            && check_plugin_versions(&rendered.needed, &rendered.summary, &supported).is_empty()
    }

    /// Asks the plugins whose answers are not known, and with `gates` also the gates.
    async fn ask(&mut self, observed: &ObservedState, gates: bool) -> Result<(), ReconcileError> {
        let mut answers = std::mem::take(&mut self.answers);
        if gates {
            answers.closed_gates = ask_gates(self.context()).await;
        }
        self.answers = ask_plugins(&self.observer, observed, answers).await?;
        Ok(())
    }

    fn list_artifacts_to_fetch(&self, observed: &ObservedState) -> Vec<Artifact<DeclaredPin>> {
        let names: Vec<&str> = observed.plan.artifacts_to_fetch().collect();
        let artifacts = self.context().settings.artifacts.iter();
        let wanted = artifacts.filter(|artifact| names.contains(&artifact.name.as_str()));
        wanted.cloned().collect()
    }

    /// Makes the report from the last observation.
    fn report(
        &self,
        applied: AppliedSteps,
        began: Instant,
        observed: &ObservedState,
    ) -> PassReport {
        let answers = &self.answers;
        let rendered = observed.network.as_ref().map(|network| &network.rendered);
        let choices = RuntimeChoices::of_observed(observed, answers);
        let choices = choices.as_ref();
        PassReport {
            applied,
            began,
            after: list_drifts(self.context(), observed),
            urgent: observed.list_urgent(),
            missing_links: observed.missing_links.clone(),
            snapshot: build_snapshot(&self.observer, observed, answers, choices),
            directory: choices
                .and_then(|choices| build_directory_view(&self.observer, observed, choices)),
            wanted: self.list_artifacts_to_fetch(observed),
            is_waiting: self.waits_for_gates()
                || answers.has_failures()
                || matches!(rendered, Some(Err(_))),
            next_question: answers.next_question(),
            waits_for_facts: matches!(rendered, Some(Err(NotRendered::Waiting(_)))),
            network: match rendered {
                Some(Ok(rendered)) => Some(rendered.summary.name.clone()),
                _ => None,
            },
            expected: self.expected_network(observed),
        }
    }

    /// The network that the runtime must have loaded; `None` while the conflist is not in place.
    fn expected_network(&self, observed: &ObservedState) -> Option<ExpectedNetwork> {
        let (settings, host) = (&self.context().settings, &self.context().host);
        let declared = settings.network.as_ref()?;
        let rendered = observed.network.as_ref()?.rendered.as_ref().ok()?;
        if observed.has_conflist_steps() {
            return None;
        }
        let first = observed.network.as_ref()?.candidates.first();
        let rival = first.and_then(|(name, loaded)| {
            let network = loaded.as_ref().ok()?;
            (*name != *declared.file_name.as_str()).then(|| (name.clone(), network.name.clone()))
        });
        Some(ExpectedNetwork {
            rival,
            file: declared.file_name.to_string(),
            network: rendered.summary.name.clone(),
            chain: rendered.summary.chain.clone(),
            text: rendered.text.clone(),
            conf_dir: real_dir(host, &settings.paths.conf_dir),
            bin_dir: real_dir(host, &settings.paths.bin_dir),
        })
    }
}

/// Records in the ledger what was stored. Returns the digests of its plugins, which this process wrote itself.
fn record_members(ledger: &mut Ledger, stored: &StoredArtifact) -> BTreeSet<Sha256> {
    let mut digests = BTreeSet::new();
    for (member, measure) in &stored.measured {
        ledger.record_member(&stored.pin, member, *measure);
        digests.insert(measure.sha256);
    }
    digests
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

/// Applies some of the plan's steps on a thread that may block.
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
        failed: Vec::new(),
        in_backoff: progress.in_backoff.clone(),
    };
    let (applier, outcome) = run_blocking(move || {
        let outcome = steps(&mut applier);
        Ok((applier, outcome))
    })
    .await?;
    // Steps that were applied before a failure count as well.
    progress.steps.extend(applier.applied);
    progress.failed.extend(applier.failed);
    Ok((applier.observed, outcome?))
}
