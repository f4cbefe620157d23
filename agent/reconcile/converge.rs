//! Making it so: fetch what is missing, place the binaries, write the conflist, look again.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::apply::Bench;
use super::error::ReconcileError;
use super::questions::{self, Answers};
use super::{Keeper, Sight, network, supply};
use crate::conflist::check_plugins;
use crate::fetch::Progress;
use crate::host::Lock;
use crate::model::{Artifact, Sha256, Snapshot};
use crate::plan::{Plan, Step, plan};
use crate::store::{Ledger, Place, Store};

/// How often a pass is repeated when a stored copy turns out to be damaged: once to fetch it again,
/// and once more for good measure. What is still wrong then is a failing disk.
const ROUNDS: u32 = 3;

/// Who watches what is going on, such as the progress bar of a terminal.
pub trait Audience {
    /// A download begins. What is returned is told of every step, and dropped at the end.
    fn downloading(&self, artifact: &Artifact) -> Box<dyn Progress + '_>;
}

/// What a pass may use.
pub struct Means<'a> {
    /// Whether sources other than `file://` are left alone.
    pub offline: bool,
    /// Who watches.
    pub audience: &'a dyn Audience,
}

/// An artifact that was downloaded and proven.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fetched {
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
}

/// What was done, and what is true afterwards.
#[derive(Debug)]
pub struct Converged {
    /// What was downloaded.
    pub fetched: Vec<Fetched>,
    /// The steps that were taken on disk, in order.
    pub steps: Vec<Step>,
    /// What is true now.
    pub snapshot: Snapshot,
    /// What kept an artifact from being fetched or unpacked; the rest was done all the same.
    pub failures: Vec<ReconcileError>,
}

/// The state directory with the lock held. Shared with blocking work, so that the lock outlives it.
struct Session {
    keeper: Keeper,
    store: Store,
    _lock: Lock,
}

/// What one run has gathered so far.
#[derive(Default)]
struct Progressed {
    fetched: Vec<Fetched>,
    steps: Vec<Step>,
    /// Blobs that this process wrote or proved itself.
    proven: BTreeSet<Sha256>,
    failures: Vec<ReconcileError>,
}

impl Keeper {
    /// Brings the node's disk to what is declared, as far as that can be done now.
    ///
    /// A conflist with a mistake stops it before anything is touched. An artifact that cannot be had
    /// does not keep the others from being placed. The conflist is written only once every plugin that
    /// it needs is in place and answers, and the gates hold; the snapshot says what is missing.
    ///
    /// # Errors
    /// When another agent is at work, the conflist is wrong, or the disk refuses.
    pub async fn converge(&self, means: &Means<'_>) -> Result<Converged, ReconcileError> {
        let keeper = self.clone();
        let session = match blocking(move || keeper.open()).await {
            Err(error) if error.is_read_only() => return self.right_already(error).await,
            opened => opened?,
        };
        let mut run = Progressed::default();
        for _ in 0..ROUNDS {
            if session.pass(&mut run, means).await? {
                break;
            }
        }
        let tidy = Arc::clone(&session);
        blocking(move || tidy.tidy()).await?;
        Ok(Converged {
            snapshot: self.verify().await?,
            fetched: run.fetched,
            steps: run.steps,
            failures: run.failures,
        })
    }

    /// Without a state directory to write to nothing can be changed, which is no failure of a node that
    /// is right already.
    async fn right_already(&self, refusal: ReconcileError) -> Result<Converged, ReconcileError> {
        let snapshot = self.verify().await?;
        if !snapshot.is_right() {
            return Err(refusal);
        }
        Ok(Converged {
            fetched: Vec::new(),
            steps: Vec::new(),
            snapshot,
            failures: Vec::new(),
        })
    }

    /// Refuses a wrong conflist, takes the lock, and sweeps what a killed run left behind.
    fn open(&self) -> Result<Arc<Session>, ReconcileError> {
        network::look(self)?;
        let store = Store::open(&self.host, &self.settings.paths.state_dir)?;
        let lock = store.lock()?;
        self.sweep(&store)?;
        Ok(Arc::new(Session {
            keeper: self.clone(),
            store,
            _lock: lock,
        }))
    }

    /// Removes the temps that a killed run left, in every directory that is ours to write to. To be
    /// called with the lock held.
    pub(super) fn sweep(&self, store: &Store) -> Result<(), ReconcileError> {
        let mut swept = store.sweep()?;
        for dir in [self.bin_dir()?, self.conf_dir()?].into_iter().flatten() {
            match dir.sweep() {
                Ok(names) => swept.extend(names),
                // A read-only node that is right already is right all the same.
                Err(error) => tracing::warn!("{error}"),
            }
        }
        if !swept.is_empty() {
            tracing::info!(files = swept.len(), "removed what an interrupted run left");
        }
        Ok(())
    }
}

impl Session {
    /// One pass; `false` if a stored copy was found damaged and another one is worth while.
    async fn pass(
        self: &Arc<Self>,
        run: &mut Progressed,
        means: &Means<'_>,
    ) -> Result<bool, ReconcileError> {
        run.failures.clear();
        let mut sight = self.keeper.sight().await?;
        self.supply(&mut sight, run, means).await;
        let (mut sight, sound) = self.binaries(sight, run).await?;
        if sight.network.is_some() {
            let answers = questions::ask(&self.keeper, &sight).await?;
            if may_write(&sight, &answers) {
                sight = self.conflists(sight, run).await?;
            }
        }
        drop(sight);
        Ok(sound)
    }

    /// Downloads and unpacks what the plan asks for, then plans again with what is known now.
    async fn supply(self: &Arc<Self>, sight: &mut Sight, run: &mut Progressed, means: &Means<'_>) {
        let wanted: Vec<String> = sight.plan.fetches().map(str::to_owned).collect();
        let artifacts: Vec<Artifact> = self
            .keeper
            .settings
            .artifacts
            .iter()
            .filter(|artifact| wanted.contains(&artifact.name))
            .cloned()
            .collect();
        for artifact in artifacts {
            match self.fetch(&artifact, &mut sight.ledger, means).await {
                Ok((fetched, blobs)) => {
                    run.fetched.push(fetched);
                    run.proven.extend(blobs);
                }
                Err(error) => run.failures.push(error),
            }
        }
        sight.desired = self.keeper.desired(&sight.ledger, sight.network.as_ref());
        sight.observed.blobs.extend(&run.proven);
        let mut plan = plan(&sight.desired, &sight.observed);
        // What could not be fetched cannot be placed; it stays as it is.
        let blobs = &sight.observed.blobs;
        plan.steps.retain(|step| match step {
            Step::Fetch { .. } => false,
            Step::Place { sha256, .. } => blobs.contains(sha256),
            _ => true,
        });
        sight.plan = plan;
    }

    async fn fetch(
        self: &Arc<Self>,
        artifact: &Artifact,
        ledger: &mut Ledger,
        means: &Means<'_>,
    ) -> Result<(Fetched, Vec<Sha256>), ReconcileError> {
        let bytes = {
            let progress = means.audience.downloading(artifact);
            let settings = &self.keeper.settings;
            supply::download(artifact, settings, &self.store, means.offline, &*progress).await?
        };
        let fetched = Fetched {
            artifact: artifact.name.clone(),
            version: artifact.version.clone(),
            bytes: bytes.bytes(),
            source: bytes.source().to_owned(),
            pin: artifact.pin.to_string(),
        };
        tracing::info!(
            artifact = fetched.artifact,
            version = fetched.version,
            bytes = fetched.bytes,
            source = fetched.source,
            pin = fetched.pin,
            "downloaded and verified"
        );
        let (session, artifact) = (Arc::clone(self), artifact.clone());
        let pin = artifact.pin;
        let measured = blocking(move || supply::unpack(&artifact, bytes, &session.store)).await?;
        let blobs = measured.iter().map(|(_, measure)| measure.sha256).collect();
        for (member, measure) in measured {
            ledger.measured(&pin, &member, measure);
        }
        self.store.save(ledger)?;
        Ok((fetched, blobs))
    }

    async fn binaries(
        self: &Arc<Self>,
        mut sight: Sight,
        run: &mut Progressed,
    ) -> Result<(Sight, bool), ReconcileError> {
        let (session, mut proven) = (Arc::clone(self), std::mem::take(&mut run.proven));
        let (sight, proven, unusable) = blocking(move || {
            let unusable = Bench {
                keeper: &session.keeper,
                store: &session.store,
                ledger: &mut sight.ledger,
                observed: &sight.observed,
                proven: &proven,
            }
            .binaries(&sight.plan.steps)?;
            proven.retain(|blob| !unusable.contains(blob));
            Ok((sight, proven, unusable))
        })
        .await?;
        run.proven = proven;
        run.steps.extend(
            sight
                .plan
                .steps
                .iter()
                .filter(|step| match step {
                    Step::Place { sha256, .. } => !unusable.contains(sha256),
                    Step::FixPlugin { .. } => true,
                    _ => false,
                })
                .cloned(),
        );
        Ok((sight, unusable.is_empty()))
    }

    async fn conflists(
        self: &Arc<Self>,
        mut sight: Sight,
        run: &mut Progressed,
    ) -> Result<Sight, ReconcileError> {
        let session = Arc::clone(self);
        let sight = blocking(move || {
            let rendered = sight
                .network
                .as_ref()
                .and_then(|network| network.rendered.as_ref().ok());
            if let Some((declared, rendered)) =
                session.keeper.settings.network.as_ref().zip(rendered)
            {
                Bench {
                    keeper: &session.keeper,
                    store: &session.store,
                    ledger: &mut sight.ledger,
                    observed: &sight.observed,
                    proven: &BTreeSet::new(),
                }
                .conflists(&sight.plan.steps, declared, rendered)?;
            }
            Ok(sight)
        })
        .await?;
        run.steps.extend(
            sight
                .plan
                .steps
                .iter()
                .filter(|step| is_conflist_step(step))
                .cloned(),
        );
        Ok(sight)
    }

    /// Puts spares back into the store and lets go of what is neither declared nor in place: after an
    /// upgrade that failed, the set that is still there can be verified and healed as before. Nothing
    /// here may make a right node fail: a full disk costs the spare, not the network.
    fn tidy(&self) -> Result<(), ReconcileError> {
        let mut ledger = self.store.ledger()?;
        let artifacts = &self.keeper.settings.artifacts;
        let mut pins: BTreeSet<String> = artifacts
            .iter()
            .map(|artifact| artifact.pin.to_string())
            .collect();
        let mut blobs: HashSet<Sha256> = HashSet::new();
        let bin = self.keeper.bin_dir()?;
        for wanted in self.keeper.desired(&ledger, None).plugins {
            let name = wanted.plugin.file();
            blobs.extend(wanted.sha256);
            let Some(placed) = ledger.find(Place::Bin, name) else {
                continue;
            };
            pins.extend(placed.origin.iter().map(|origin| origin.pin.clone()));
            blobs.extend(placed.previous);
            blobs.insert(placed.sha256);
            if wanted.sha256 == Some(placed.sha256)
                && let Some(bin) = &bin
                && let Err(error) = self.store.restage(&placed.sha256, bin, name)
            {
                tracing::warn!("no spare copy of {}: {error}", wanted.plugin);
            }
        }
        let before = ledger.clone();
        ledger.retain_members(&pins);
        let kept = self.store.prune(&blobs).and_then(|()| self.store.sync());
        if let Err(error) = kept {
            tracing::warn!("{error}");
        }
        if ledger != before {
            self.store.save(&ledger)?;
        }
        Ok(())
    }
}

/// A conflist is never visible while a plugin that it names is absent or wrong, nor before its gates hold.
fn may_write(sight: &Sight, answers: &Answers) -> bool {
    let rendered = sight
        .network
        .as_ref()
        .and_then(|network| network.rendered.as_ref().ok());
    let Some(summary) = rendered.and_then(|rendered| rendered.report.summary.as_ref()) else {
        return false;
    };
    let needed = rendered
        .map(|rendered| rendered.needed.as_slice())
        .unwrap_or_default();
    let wrong = |plan: &Plan| {
        let refused = plan.refused.iter().any(|refusal| {
            refusal.plugin
                && needed
                    .iter()
                    .any(|needed| *needed.plugin.file() == refusal.name)
        });
        refused || !unplaced(sight, needed).is_empty()
    };
    answers.closed_gates.is_empty()
        && !wrong(&sight.plan)
        && check_plugins(needed, summary, &|plugin| answers.supported(plugin)).is_empty()
}

/// The needed plugins whose declared content is not known, or was neither there nor placed.
fn unplaced<'a>(
    sight: &Sight,
    needed: &'a [crate::conflist::Needed],
) -> Vec<&'a crate::model::PluginName> {
    needed
        .iter()
        .map(|needed| &needed.plugin)
        .filter(|plugin| {
            let desired = sight
                .desired
                .plugins
                .iter()
                .find(|wanted| wanted.plugin == **plugin);
            let Some(wanted) = desired else { return false };
            let placed = sight.plan.steps.iter().any(|step| match step {
                Step::Place { plugin: placed, .. } | Step::FixPlugin { plugin: placed, .. } => {
                    placed == *plugin
                }
                _ => false,
            });
            let state = sight.observed.plugins.get(*plugin);
            let right = state.is_some_and(|state| {
                crate::plan::compare(
                    state,
                    wanted.sha256,
                    crate::model::FileMode::PLUGIN,
                    sight.desired.owner,
                )
                .is_empty()
            });
            !(placed || right || sight.plan.kept.contains(plugin))
        })
        .collect()
}

const fn is_conflist_step(step: &Step) -> bool {
    matches!(
        step,
        Step::WriteConflist { .. }
            | Step::FixConflist { .. }
            | Step::RetireConflist { .. }
            | Step::SetAside { .. }
    )
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReconcileError> + Send + 'static,
) -> Result<T, ReconcileError> {
    tokio::task::spawn_blocking(work).await?
}
