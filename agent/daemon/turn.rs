//! One turn of the loop: arm → look → mend → look → publish.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::gates::Gates;
use super::log::Timing;
use super::node::Node;
use super::patience::Patience;
use super::places::Places;
use super::{Daemon, Reason, api, keeper, refetch, report};
use crate::config::ForeignConflists;
use crate::model::{
    Artifact, DownloadOutcome, DriftKind, DriftRecord, FailureKind, FileName, RecordedError,
    Standing, Timestamp,
};
use crate::plan::Step;
use crate::reconcile::{
    FileDrift, FilesInBackoff, Maintenance, PassReport, ReconcileError, Reconciler, StoredArtifact,
};
use crate::store::ManagedDir;
use crate::trust::DeclaredPin;

/// How many failures are remembered.
const MOST_ERRORS: usize = 16;

impl Daemon {
    /// Takes a turn and publishes what is true; `true` if another one is due at once.
    pub(super) async fn turn(&mut self, reason: Reason) -> bool {
        let began = Instant::now();
        self.take_hold().await;
        self.arm().await;
        if reason.ask {
            self.caretaker.forget_failed_answers();
        }
        self.patience.settle(began);
        let held: FilesInBackoff = self
            .patience
            .held(began)
            .map(|(file, _)| file.clone())
            .collect();
        // A gate that does not answer takes seconds, in which nothing must have to wait to be mended: one that did not
        // hold is asked beside turns, also when something happened.
        let closed = self.caretaker.waits_for_gates() && !self.fresh && !reason.opened;
        if closed && (reason.ask || reason.since.is_some()) {
            self.gates.ask(self.caretaker.context());
        }
        let gates = self.fresh || reason.opened || (reason.ask && !closed);
        let pass = self.caretaker.reconcile(held, gates).await;
        self.passes += 1;
        if self.fresh && pass.is_ok() {
            // It remembered nothing yet, so everything was read.
            self.verified = Some(Timestamp(SystemTime::now()));
            self.fresh = false;
        }
        match pass {
            Ok(pass) => self.passed(pass, reason.since, began),
            Err(error) => {
                self.record_error(error.to_string());
                let now = Instant::now();
                self.timers.turned(began, now, true);
                self.timers.retry(now, true);
                self.timers
                    .poll(now, self.blind.is_some() || self.was_blind);
                let status = report::blind(self, &error, began);
                self.publisher.publish(status);
                false
            }
        }
    }

    /// Draws the conclusions of a pass.
    fn passed(&mut self, pass: PassReport, hint: Option<Instant>, began: Instant) -> bool {
        let now = Instant::now();
        self.record(&pass, hint.unwrap_or(began), now);
        let stuck = match (&pass.deeds.failure, &self.no_hold) {
            (Some(error), _) => Some(error.to_string()),
            (None, Some(error)) if !pass.snapshot.is_right() || !error.is_held() => {
                Some(error.to_string())
            }
            (None, _) if pass.wanted.is_empty() => None,
            (None, _) => {
                let mut wanted = pass.wanted.iter();
                let failed =
                    wanted.find_map(|artifact| self.no_supply.get(&artifact.name).cloned());
                failed.or_else(|| self.refetch.waits_to_start(now).map(waits_to_start))
            }
        };
        if let Some(error) = &pass.deeds.failure {
            *self.counters.repairs.entry("failed").or_default() += 1;
            self.record_error(error.to_string());
        }
        if !pass.deeds.steps.is_empty() || pass.deeds.downloaded {
            self.chores.request_sweep();
            self.chores_are_done = false;
        }
        self.network.clone_from(&pass.network);
        let changed = hint.is_some() || !pass.deeds.steps.is_empty();
        self.runtime.turned(pass.expected.clone(), changed, now);
        self.node
            .turned(pass.waits_for_facts, now, fastrand::u64(..));
        self.wants(&pass, now);
        let futile = hint.is_some() && pass.deeds.steps.is_empty();
        self.timers.turned(began, now, futile);
        self.timers.retry(
            now,
            pass.waits
                || pass.deeds.failure.is_some()
                || self.no_hold.is_some()
                // What could not be read may be readable by now, and no event tells of that.
                || !self.refused.is_empty(),
        );
        self.timers
            .poll(now, self.blind.is_some() || self.was_blind);
        // As of the beginning: what was left alone in this turn may be due by now.
        let held = self.patience.held(began);
        let next = held.map(|(_, left)| began + left).min();
        self.timers.held(next.filter(|_| !pass.after.is_empty()));
        self.timers.peace(self.patience.next_peace());
        let again = pass.deeds.again;
        let status = report::status(self, pass, stuck.as_deref());
        self.publisher.publish(status);
        again
    }

    /// Takes in what has to be downloaded.
    fn wants(&mut self, pass: &PassReport, now: Instant) {
        self.wanted.clone_from(&pass.wanted);
        // What was downloaded in vain, since the disk did not take it or lost it, is not fetched again without a pause.
        let in_vain = |artifact: &Artifact<DeclaredPin>| {
            self.refetch.has_tried(&artifact.name) && !self.no_supply.contains_key(&artifact.name)
        };
        if self.wanted.is_empty() {
            self.no_supply.clear();
            self.refetch.reset();
        } else if pass.deeds.downloaded && self.wanted.iter().any(in_vain) {
            self.refetch.record_failure(now, self.draw());
        }
    }

    /// This node's next number among those of its cluster.
    fn draw(&self) -> u64 {
        self.caretaker.context().spread().next_number()
    }

    /// Brings the drift log, the counters and the back-off up to date.
    fn record(&mut self, pass: &PassReport, since: Instant, now: Instant) {
        let timing = Timing {
            since,
            now,
            at: Timestamp(SystemTime::now()),
        };
        let times = |fault: &FileDrift| repairs(&self.patience, fault);
        let mut repaired = BTreeSet::new();
        for repair in self.log.record(&pass.deeds, &pass.after, timing, times) {
            *self.counters.repairs.entry("healed").or_default() += 1;
            self.counters.repair_seconds.observe(repair.took);
            match repair.name.parse::<FileName>() {
                Ok(name) => _ = repaired.insert((repair.place, name)),
                // A directory: whoever removed it undid everything in it.
                Err(_) => repaired.extend(placed_in(repair.place, &pass.deeds.steps)),
            }
        }
        // One that was wrong in two ways was repaired once.
        for file in repaired {
            if self.patience.repaired(file, now) {
                self.counters.conflicts += 1;
            }
        }
        // What is wrong now and was not before came after the repairs.
        let timing = Timing {
            since: pass.deeds.applied_at.unwrap_or(since),
            ..timing
        };
        let times = |fault: &FileDrift| repairs(&self.patience, fault);
        self.log.found(&pass.after, timing, times);
        self.counters.drift.clone_from(self.log.counted());
        let files = pass.snapshot.files.iter();
        let right = files.filter(|file| file.standing == Standing::Ok);
        self.log.are_right(right.map(|file| file.path.clone()));
    }

    /// Takes hold of the state directory, unless it is held already or nothing is to be written.
    async fn take_hold(&mut self) {
        if self.caretaker.has_lost_state_dir().await {
            tracing::warn!("the state directory was removed or replaced; it is made anew");
            self.drop_work().await;
            self.caretaker.release_state_dir();
        }
        let had = self.no_hold.take();
        if let Err(error) = self.caretaker.acquire_state_dir().await {
            if had.is_none() {
                tracing::warn!("{error}");
            }
            self.no_hold = Some(error);
        } else if had.is_some() {
            tracing::info!("the state directory is ours now");
            self.chores_are_done = false;
        }
    }

    /// Watches what is to be watched now, before anything is looked at.
    async fn arm(&mut self) {
        let settings = self.caretaker.context().settings_shared();
        let (host, config) = (self.start.host.clone(), self.start.config.clone());
        let network = self.network.clone();
        let places = tokio::task::spawn_blocking(move || {
            Places::of(&settings, &host, &config, network.as_deref())
        });
        let known = match places.await {
            Ok(Ok(places)) => {
                if places != *self.places {
                    self.places = Arc::new(places);
                }
                Ok(())
            }
            // Where it watched until now is better than nowhere.
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let armed = self
            .watch
            .watch_dirs(&self.places.dirs, self.places.interest());
        let armed = armed.map_err(|error| error.to_string());
        let blind = known.and(armed).err();
        if blind.is_some() != self.blind.is_some() {
            match &blind {
                Some(reason) => tracing::warn!("polling from now on: {reason}"),
                None => {
                    tracing::info!("watching again");
                    // What nobody told of until now is found by one look more.
                    self.was_blind = true;
                }
            }
        }
        self.blind = blind;
    }

    /// Reads the configuration file anew. One with a mistake changes nothing but the `config` check.
    pub(super) async fn reload(&mut self) {
        let reader = Arc::clone(&self.start.reader);
        let read = tokio::task::spawn_blocking(move || reader()).await;
        let settings = match read {
            Ok(Ok(settings)) => settings,
            Ok(Err(mistakes)) => return self.refuse(mistakes),
            Err(error) => return self.refuse(vec![error.to_string()]),
        };
        if settings == *self.caretaker.context().settings() {
            if !self.refused.is_empty() {
                tracing::info!("the configuration is the one in force again");
                self.refused.clear();
            }
            return;
        }
        let keeper = keeper(&self.start, settings, self.node.known());
        // What it says of this node counts as well: a conflist with a mistake, files that lie elsewhere.
        if let Err(error) = keeper.observe_strictly().await {
            return self.refuse(report::lines(&error));
        }
        tracing::info!("the configuration has changed");
        self.refused.clear();
        let settings = keeper.settings();
        self.runtime.declared_anew(settings);
        let api = api(&keeper, &self.requests);
        self.node = Node::of(&keeper, api, self.node.known(), Instant::now());
        self.postponed = (settings.http != self.start.settings.http).then(|| {
            "http has changed, which takes effect when the agent is started again".to_owned()
        });
        self.timers
            .resync_every(Instant::now(), settings.drift.resync);
        self.refetch = refetch(&keeper, Instant::now());
        self.no_supply.clear();
        self.downloads.clear();
        self.drop_work().await;
        // The former one goes first: it has the lock.
        self.caretaker = Reconciler::new(keeper.clone());
        self.report();
        self.fresh = true;
        self.log.declared_anew();
        self.timers.at_once();
    }

    /// Ends what goes on beside turns, so that nothing holds the state directory any more: a download is given up, a
    /// chore is let finish.
    async fn drop_work(&mut self) {
        self.fetch = None;
        self.gates = Gates::default();
        if let Some(chore) = self.chore.take() {
            let _ = chore.await;
        }
        self.chores = Maintenance::default();
        self.chores.request_sweep();
        self.chores_are_done = false;
    }

    fn refuse(&mut self, mistakes: Vec<String>) {
        if self.refused != mistakes {
            for mistake in &mistakes {
                tracing::error!("the new configuration is not used: {mistake}");
            }
        }
        self.refused = mistakes;
        self.timers.at_once();
    }

    /// Draws the conclusions of a download.
    pub(super) fn fetched(
        &mut self,
        artifact: String,
        supply: Result<Option<StoredArtifact>, ReconcileError>,
        now: Instant,
    ) {
        self.chores
            .set_disk_full(supply.as_ref().is_err_and(ReconcileError::is_full));
        self.chores_are_done = false;
        let supply = match supply {
            Ok(Some(supply)) => Ok(supply),
            Ok(None) => {
                // Its digest alone was not known; whatever failed before is over.
                self.no_supply.remove(&artifact);
                self.downloads.remove(&artifact);
                return;
            }
            Err(error) => Err(error),
        };
        self.asked(&artifact, &supply);
        match supply {
            Ok(supply) => {
                self.no_supply.remove(&artifact);
                *self.counters.downloads.entry(("ok", "")).or_default() += 1;
                self.counters.download_bytes += supply.fetched.bytes;
                // It went well, and yet somebody serves what is not pinned: that is not to pass in silence.
                let failures = supply.fetched.tried.iter();
                let impostors = failures
                    .filter(|failure| failure.reason == FailureKind::Digest)
                    .count();
                if impostors > 0 {
                    let failed = self
                        .counters
                        .downloads
                        .entry(("failed", FailureKind::Digest.as_str()));
                    *failed.or_default() += impostors as u64;
                }
                self.caretaker.add_stored_artifact(supply);
            }
            Err(error) => {
                let count = self
                    .counters
                    .downloads
                    .entry(("failed", error.kind().as_str()));
                *count.or_default() += 1;
                tracing::warn!("{error}");
                self.record_error(error.to_string());
                self.no_supply.insert(artifact, error.to_string());
                self.refetch.record_failure(now, self.draw());
            }
        }
    }

    /// Takes in how the sources of a download answered.
    fn asked(&mut self, artifact: &str, supply: &Result<StoredArtifact, ReconcileError>) {
        let outcome = DownloadOutcome {
            artifact: artifact.to_owned(),
            at: Timestamp(SystemTime::now()),
            from: supply.as_ref().ok().map(|it| it.fetched.source.clone()),
            error: supply
                .as_ref()
                .err()
                .filter(|error| error.source_failures().is_empty())
                .map(ToString::to_string),
            failures: match supply {
                Ok(supply) => supply.fetched.tried.clone(),
                Err(error) => error.source_failures(),
            },
        };
        for failure in &outcome.failures {
            let key = (failure.source.clone(), failure.reason.as_str());
            *self.counters.source_failures.entry(key).or_default() += 1;
        }
        self.downloads.insert(artifact.to_owned(), outcome);
    }

    /// Remembers a failure, the same one once.
    fn record_error(&mut self, what: String) {
        let times = match self.errors.iter().position(|known| known.what == what) {
            Some(known) => self.errors.remove(known).times + 1,
            None => 1,
        };
        let at = Timestamp(SystemTime::now());
        self.errors.insert(0, RecordedError { at, what, times });
        self.errors.truncate(MOST_ERRORS);
    }

    /// Why each file that is not right is not mended at once.
    pub(super) fn waiting(&self, stuck: Option<&str>) -> impl Fn(&DriftRecord) -> Option<String> {
        let now = Instant::now();
        let settings = self.caretaker.context().settings();
        let (bin, conf) = self.caretaker.context().shown_dirs();
        let path = |(place, name): &(ManagedDir, FileName)| match place {
            ManagedDir::Bin => bin.join(name.as_str()),
            ManagedDir::Conf => conf.join(name.as_str()),
        };
        let held: BTreeMap<PathBuf, Duration> = self
            .patience
            .held(now)
            .map(|(file, left)| (path(file), left))
            .collect();
        let everywhere = match () {
            () if self.caretaker.is_report_only() => Some("drift.policy is report".to_owned()),
            () if self.fetch.is_some() => Some("its artifact is being downloaded".to_owned()),
            () => stuck.map(str::to_owned),
        };
        let are_left = settings.drift.foreign_conflists == ForeignConflists::Report
            && !self.caretaker.is_report_only();
        move |entry| match held.get(&entry.path) {
            _ if are_left && entry.kind.is_foreign_conflist() => {
                Some("drift.foreignConflists is report".to_owned())
            }
            // Nobody but its owner takes it away.
            _ if entry.kind == DriftKind::DropIn => None,
            Some(left) => Some(format!(
                "somebody keeps undoing the repair; the next one is in {:.1} s",
                left.as_secs_f64()
            )),
            None => everywhere.clone(),
        }
    }
}

/// Why nothing is downloaded yet. It stays the same as long as it is true.
fn waits_to_start(delay: Duration) -> String {
    let seconds = delay.as_secs_f64();
    format!("its download begins {seconds:.1} s after the start, this node's part of fetch.spread")
}

/// How many repairs of a file have followed each other closely.
fn repairs(patience: &Patience<(ManagedDir, FileName)>, fault: &FileDrift) -> u32 {
    let name = fault.name.parse::<FileName>().ok();
    name.map_or(0, |name| patience.repairs(&(fault.place, name)))
}

/// The files of a directory that were put there.
fn placed_in(place: ManagedDir, steps: &[Step]) -> Vec<(ManagedDir, FileName)> {
    let name = |step: &Step| match step {
        Step::Place { plugin, .. } if place == ManagedDir::Bin => Some(plugin.file().clone()),
        Step::WriteConflist { name, .. } if place == ManagedDir::Conf => Some(name.clone()),
        _ => None,
    };
    steps
        .iter()
        .filter_map(name)
        .map(|name| (place, name))
        .collect()
}
