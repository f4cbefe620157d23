//! One pass of an agent that stays: look, mend what may be applied_at now, look again, and say what is true.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::apply::StepApplier;
use super::converge::{InstallOptions, RunState, StoredArtifact, may_write, run_blocking};
use super::error::ReconcileError;
use super::faults::{FileDrift, list_drifts};
use super::questions;
use super::session::StateLock;
use super::{Context, NotRendered, ObservedState, judge};
use crate::config::DriftPolicy;
use crate::model::{Artifact, Directory, FileName, Snapshot};
use crate::plan::Step;
use crate::runtime::{ExpectedNetwork, real_dir};
use crate::store::{Ledger, ManagedDir};
use crate::trust::DeclaredPin;

/// A keeper that stays with its node: it holds the state directory where it may, and remembers what it learned.
pub struct Reconciler {
    keeper: Context,
    session: Option<Arc<StateLock>>,
    run: RunState,
    /// Supplies that no pass has recorded yet.
    supplies: Vec<StoredArtifact>,
    /// What is ours, as of the last look: the state directory may be removed under our hands.
    ledger: Ledger,
}

/// Files that are left alone for now, by directory and name.
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
    /// When that was durable; `None` where nothing was done.
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
    pub deeds: AppliedSteps,
    /// When the look began that the rest was derived from.
    pub began: Instant,
    /// What is wrong now.
    pub after: Vec<FileDrift>,
    /// What is true now.
    pub snapshot: Snapshot,
    /// The configuration directory as the runtimes see it.
    pub directory: Option<Directory>,
    /// What has to be downloaded.
    pub wanted: Vec<Artifact<DeclaredPin>>,
    /// Whether something is awaited that no event announces: a gate, a fact, a plugin that gives no answer.
    pub waits: bool,
    /// Whether what it waits for are values of the conflist.
    pub waits_for_facts: bool,
    /// The name of the declared network, where it is known: drop-ins lie in a directory of that name.
    pub network: Option<String>,
    /// What the runtime must have loaded, where the conflist is as declared.
    pub expected: Option<ExpectedNetwork>,
}

impl Reconciler {
    /// A caretaker that only looks until it is told to [`Reconciler::acquire_state_dir`].
    #[must_use]
    pub fn new(keeper: Context) -> Self {
        Self {
            keeper: keeper.with_file_cache(),
            session: None,
            run: RunState::default(),
            supplies: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    /// What it cares for.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.keeper
    }

    pub(super) fn session(&self) -> Option<Arc<StateLock>> {
        self.session.clone()
    }

    /// Whether nothing is to be written, whatever is wrong.
    #[must_use]
    pub fn is_report_only(&self) -> bool {
        self.keeper.settings.drift.policy == DriftPolicy::Report
    }

    /// Takes hold of the state directory, unless nothing is to be written anyway or it is held already.
    ///
    /// # Errors
    /// When another agent is at work ([`ReconcileError::is_held`]), or the disk refuses; it goes on looking then.
    pub async fn acquire_state_dir(&mut self) -> Result<(), ReconcileError> {
        if self.session.is_none() && !self.is_report_only() {
            let (keeper, known) = (self.keeper.clone(), self.ledger.clone());
            let hold = move || {
                let session = keeper.hold(true)?;
                session.remember(&known)?;
                Ok(session)
            };
            self.session = Some(run_blocking(hold).await?);
        }
        Ok(())
    }

    /// Whether the state directory that is held was removed or replaced meanwhile.
    pub async fn has_lost_state_dir(&self) -> bool {
        let Some(session) = self.session.clone() else {
            return false;
        };
        // What cannot be told is no reason to let go: the pass will tell of it.
        run_blocking(move || session.is_lost())
            .await
            .unwrap_or(false)
    }

    /// Lets go of the state directory, and of what was downloaded into it.
    pub fn release_state_dir(&mut self) {
        self.session = None;
        self.supplies.clear();
    }

    /// Has every plugin asked again that gave no usable answer.
    pub fn forget_failed_answers(&mut self) {
        self.run.answers.forget_failures();
    }

    /// Has every plugin asked again; the files are read again by [`super::Maintenance`].
    pub fn forget_answers(&mut self) {
        self.run.answers.forget();
    }

    /// Hands over what was downloaded, for the next pass to use.
    pub fn add_stored_artifact(&mut self, supply: StoredArtifact) {
        self.supplies.push(supply);
    }

    /// Downloads an artifact into the store, beside whatever passes do meanwhile; `None` without hold of the store. What
    /// comes of it is `None` where only its digest was to be learned.
    pub fn fetch_artifact(
        &self,
        artifact: Artifact<DeclaredPin>,
    ) -> Option<impl Future<Output = Result<Option<StoredArtifact>, ReconcileError>> + use<>> {
        let session = Arc::clone(self.session.as_ref()?);
        Some(async move {
            let means = InstallOptions {
                offline: false,
                audience: &(),
            };
            session.fetch(&artifact, &means).await
        })
    }

    /// Writes down what is known of the node, where the state directory is held.
    pub async fn save_node_facts(&self) {
        let Some(session) = self.session.clone() else {
            return;
        };
        if let Err(error) = run_blocking(move || session.save_node_facts()).await {
            tracing::warn!("{error}");
        }
    }

    /// Whether a gate did not hold when it was last asked.
    #[must_use]
    pub fn waits_for_gates(&self) -> bool {
        !self.run.answers.closed_gates.is_empty()
    }

    /// Takes in why each gate that does not hold does not; `true` if that is news. That all hold is left for a pass to
    /// see for itself.
    pub fn record_gate_answers(&mut self, closed: Vec<String>) -> bool {
        if closed.is_empty() {
            return self.waits_for_gates();
        }
        let is_news = self.run.answers.closed_gates != closed;
        self.run.answers.closed_gates = closed;
        is_news
    }

    /// One pass. `gates` has the gates asked again; those that held are asked anyway before anything is written.
    ///
    /// # Errors
    /// When the disk cannot be looked at, so that nothing can be said about it.
    pub async fn reconcile(
        &mut self,
        held: FilesInBackoff,
        gates: bool,
    ) -> Result<PassReport, ReconcileError> {
        let mut began = Instant::now();
        let mut sight = self.observe_disk().await?;
        let mut deeds = AppliedSteps {
            before: list_drifts(&self.keeper, &sight),
            downloaded: !self.supplies.is_empty(),
            ..AppliedSteps::default()
        };
        self.run.held = held;
        match self.session.clone() {
            None => self.ask(&sight, gates).await?,
            Some(session) => match self.mend(&session, sight, gates).await {
                Ok((seen, sound)) => {
                    sight = seen;
                    deeds.again = !sound;
                }
                Err(error) => {
                    deeds.failure = Some(error);
                    began = Instant::now();
                    sight = self.observe_disk().await?;
                    self.ask(&sight, false).await?;
                }
            },
        }
        deeds.steps = std::mem::take(&mut self.run.steps);
        if !deeds.steps.is_empty() {
            deeds.applied_at = Some(Instant::now());
            began = Instant::now();
            sight = self.observe_disk().await?;
            self.ask(&sight, false).await?;
        }
        let pass = self.told(deeds, began, &sight);
        // One that knows of nothing was lost between two calls, or has nothing to be remembered.
        if !sight.ledger.files().is_empty() {
            self.ledger = sight.ledger;
        }
        Ok(pass)
    }

    /// Derives what is true from the last look.
    fn told(&self, deeds: AppliedSteps, began: Instant, sight: &ObservedState) -> PassReport {
        let answers = &self.run.answers;
        let rendered = sight.network.as_ref().map(|network| &network.rendered);
        let fetches: Vec<&str> = sight.plan.fetches().collect();
        let artifacts = self.keeper.settings.artifacts.iter();
        let wanted = artifacts.filter(|artifact| fetches.contains(&artifact.name.as_str()));
        let summary = match rendered {
            Some(Ok(rendered)) => rendered.report.summary.as_ref(),
            _ => None,
        };
        PassReport {
            deeds,
            began,
            after: list_drifts(&self.keeper, sight),
            snapshot: judge::snapshot(&self.keeper, sight, answers),
            directory: judge::directory(&self.keeper, sight, answers),
            wanted: wanted.cloned().collect(),
            waits: !answers.closed_gates.is_empty()
                || answers.has_failures()
                || matches!(rendered, Some(Err(_))),
            waits_for_facts: matches!(rendered, Some(Err(NotRendered::Waiting(_)))),
            network: summary.map(|summary| summary.name.clone()),
            expected: self.expected(sight),
        }
    }

    /// What the runtime must have loaded; `None` as long as the conflist is not in place.
    fn expected(&self, sight: &ObservedState) -> Option<ExpectedNetwork> {
        let settings = &self.keeper.settings;
        let declared = settings.network.as_ref()?;
        let rendered = sight.network.as_ref()?.rendered.as_ref().ok()?;
        let is_missing = sight
            .plan
            .steps
            .iter()
            .any(|step| step.on_conflist().is_some());
        let summary = rendered.report.summary.as_ref().filter(|_| !is_missing)?;
        Some(ExpectedNetwork {
            file: declared.file_name.to_string(),
            network: summary.name.clone(),
            chain: summary.chain.clone(),
            text: rendered.text.clone(),
            conf_dir: real_dir(&self.keeper.host, &settings.paths.conf_dir),
            bin_dir: real_dir(&self.keeper.host, &settings.paths.bin_dir),
        })
    }

    /// Mends what may be applied_at, in the order that is safe. What is returned is good for telling what is true if
    /// nothing was done, and `false` beside it if a stored copy was found damaged.
    async fn mend(
        &mut self,
        session: &Arc<StateLock>,
        mut sight: ObservedState,
        gates: bool,
    ) -> Result<(ObservedState, bool), ReconcileError> {
        for supply in self.supplies.drain(..) {
            self.run.supplied(supply, &mut sight.ledger);
        }
        if !self.run.proven.is_empty() {
            sight.plan_again(&self.keeper, &self.run.proven);
        }
        let (mut sight, sound) = match sight.plan.steps.is_empty() && self.run.proven.is_empty() {
            true => (sight, true),
            false => {
                session
                    .work(sight, &mut self.run, StepApplier::binaries)
                    .await?
            }
        };
        // Placed by now, or lost: the next pass asks the disk.
        self.run.proven.clear();
        let writes = sight
            .plan
            .steps
            .iter()
            .any(|step| step.on_conflist().is_some());
        let gates = gates || (writes && !self.waits_for_gates());
        self.ask(&sight, gates).await?;
        if writes && may_write(&sight, &self.run.answers) {
            (sight, ()) = session
                .work(sight, &mut self.run, StepApplier::conflists)
                .await?;
        }
        Ok((sight, sound))
    }

    /// Asks the plugins that are not known yet, and the gates if they are to be asked.
    async fn ask(&mut self, sight: &ObservedState, gates: bool) -> Result<(), ReconcileError> {
        let mut answers = std::mem::take(&mut self.run.answers);
        if gates {
            answers.closed_gates = questions::closed_gates(&self.keeper).await;
        }
        self.run.answers = questions::ask_rest(&self.keeper, sight, answers).await?;
        Ok(())
    }

    async fn observe_disk(&self) -> Result<ObservedState, ReconcileError> {
        let keeper = self.keeper.clone();
        run_blocking(move || keeper.observe_disk()).await
    }
}
