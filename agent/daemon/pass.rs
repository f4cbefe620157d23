//! One pass of the agent: lock, watch, reconcile, draw the conclusions and publish the status.

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime};

use super::downloads::FinishedDownload;
use super::drift_log::PassTiming;
use super::repair_backoff::RepairBackoff;
use super::schedule::Timer;
use super::state::{Daemon, DeclarationState, PassTrigger};
use super::status_builder::{build_status, build_unobserved_status};
use crate::host::HostError;
use crate::model::ManagedDir;
use crate::model::{FailureKind, FileName, SourceFailure, Standing, Timestamp};
use crate::plan::Step;
use crate::reconcile::{
    FileDrift, FilesInBackoff, PassReport, ReconcileError, RepairPause, StoredArtifact,
};

impl Daemon {
    /// Makes a pass and publishes the status; `true` if another pass is due at once.
    ///
    /// # Errors
    /// When a mount was removed on the host ([`HostError::is_removed_mount`]). No later pass can repair anything then.
    pub(super) async fn run_pass(&mut self, trigger: PassTrigger) -> Result<bool, HostError> {
        let began = Instant::now();
        self.acquire_lock().await;
        self.update_watch().await?;
        self.note_real_dirs();
        if trigger == PassTrigger::AskAgain {
            self.reconciler.forget_failed_answers();
        }
        self.repair_backoff.forget_accepted(began);
        let waiting = self.repair_backoff.waiting_files(began);
        let mut waiting: FilesInBackoff = waiting
            .map(|waiting| (waiting.file.clone(), waiting.pause))
            .collect();
        // A hint follows when the writer has finished.
        let changing = self.watch.list_changing_files(Instant::now());
        waiting.extend(changing.into_iter().map(|file| (file, RepairPause::Always)));
        let asks_gates = self.decide_about_gates(trigger);
        let pass = self.reconciler.reconcile(waiting, asks_gates).await;
        self.passes += 1;
        if self.declaration == DeclarationState::New && pass.is_ok() {
            // The reconciler had nothing cached yet, so this pass has read every file.
            self.last_full_reading = Some(Timestamp(SystemTime::now()));
            self.declaration = DeclarationState::Reconciled;
        }
        match pass {
            Ok(pass) => Ok(self.conclude_pass(pass, trigger, began)),
            Err(error) => {
                self.conclude_failed_pass(&error, began);
                Ok(false)
            }
        }
    }

    /// Whether the pass itself asks the gates. A gate that does not answer takes seconds, and no repair must wait for
    /// that. So closed gates are asked beside passes, once for each event or retry.
    fn decide_about_gates(&mut self, trigger: PassTrigger) -> bool {
        if self.declaration == DeclarationState::New || trigger == PassTrigger::GatesOpened {
            return true;
        }
        if !self.reconciler.waits_for_gates() {
            return trigger == PassTrigger::AskAgain;
        }
        if matches!(trigger, PassTrigger::AskAgain | PassTrigger::Hint(_)) {
            self.gates.start(self.reconciler.context());
        }
        false
    }

    /// Acquires the lock on the state directory, unless the agent holds it already or only reports.
    async fn acquire_lock(&mut self) {
        if self.reconciler.has_lost_state_dir().await {
            tracing::warn!("the state directory was removed or replaced; it is created again");
            self.end_work_beside_passes().await;
            self.reconciler.release_state_dir();
        }
        if self.lock.acquire(&mut self.reconciler).await {
            self.maintenance.set_due();
        }
    }

    /// Watches what has to be watched now, before the disk is observed.
    async fn update_watch(&mut self) -> Result<(), HostError> {
        let settings = self.reconciler.context().settings_shared();
        let (host, config) = (&self.options.host, &self.options.config);
        let network = self.network.clone();
        self.watch.update(settings, host, config, network).await
    }

    /// Notes where the managed directories are now. The pauses between repairs are over where a path leads elsewhere.
    fn note_real_dirs(&mut self) {
        for (dir, path) in self.watch.managed_dirs() {
            let was = self.real_dirs.insert(*dir, path.clone());
            if was.is_some_and(|was| was != *path) {
                self.repair_backoff.forget_files(|(had, _)| had == dir);
            }
        }
    }

    /// Notes which links are missing, and tells those that have been for long.
    fn note_missing_links(&mut self, pass: &PassReport, now: Instant) {
        let mut missing = pass.missing_links.clone();
        let state_dir = self.lock.error().and_then(ReconcileError::missing_link);
        missing.extend(state_dir.cloned());
        for overdue in self.awaited_links.record(&missing, now) {
            tracing::warn!("{overdue}");
            self.record_error(overdue.to_string());
        }
        let due = self.awaited_links.next_due();
        self.schedule.set_timer(Timer::AwaitedLink, due);
    }

    /// Schedules what follows from a pass that could not observe the disk, and publishes why.
    fn conclude_failed_pass(&mut self, error: &ReconcileError, began: Instant) {
        self.record_error(error.to_string());
        let now = Instant::now();
        self.schedule.record_pass(began, now, true);
        self.schedule.schedule_retry(now, true);
        self.schedule.schedule_poll(now, self.watch.needs_polls());
        let status = build_unobserved_status(self, error, began);
        self.publisher.publish(status);
    }

    /// Records what a pass did and schedules what follows from it. Publishes the status.
    fn conclude_pass(&mut self, pass: PassReport, trigger: PassTrigger, began: Instant) -> bool {
        let now = Instant::now();
        let hinted_at = match trigger {
            PassTrigger::Hint(at) => Some(at),
            PassTrigger::AskAgain | PassTrigger::GatesOpened | PassTrigger::News => None,
        };
        self.record_drift(&pass, hinted_at.unwrap_or(began), now);
        self.record_failed_steps(&pass, now);
        self.note_missing_links(&pass, now);
        let blocker = self.find_blocker(&pass, now);
        if let Some(error) = &pass.applied.failure {
            *self.counters.repairs.entry("failed").or_default() += 1;
            self.record_error(error.to_string());
        }
        let has_applied = !pass.applied.steps.is_empty();
        if has_applied || pass.applied.downloaded {
            self.maintenance.request_sweep();
        }
        self.network.clone_from(&pass.network);
        let has_changed = hinted_at.is_some() || has_applied;
        self.runtime
            .record_pass(pass.expected.clone(), has_changed, now);
        self.node
            .record_pass(pass.waits_for_facts, now, fastrand::u64(..));
        let spread = self.reconciler.context().spread();
        self.downloads
            .set_wanted(&pass.wanted, pass.applied.downloaded, now, || {
                spread.next_number()
            });
        let futile = hinted_at.is_some() && !has_applied;
        self.schedule.record_pass(began, now, futile);
        self.schedule_next_pass(&pass, began, now);
        let repeat = pass.applied.needs_another_pass;
        let status = build_status(self, pass, blocker.as_deref());
        self.publisher.publish(status);
        repeat
    }

    /// Why the agent cannot repair what is wrong, if there is such a reason.
    fn find_blocker(&self, pass: &PassReport, now: Instant) -> Option<String> {
        if let Some(link) = self.awaited_links.list().next() {
            return Some(link.to_string());
        }
        if let Some(error) = &pass.applied.failure {
            return Some(error.to_string());
        }
        if let Some(error) = self.lock.error()
            && (!pass.snapshot.is_right() || !error.is_held())
        {
            return Some(error.to_string());
        }
        if pass.wanted.is_empty() {
            return None;
        }
        let failed = self.downloads.errors_of(&pass.wanted).next().cloned();
        failed.or_else(|| self.downloads.explain_delay(now))
    }

    fn schedule_next_pass(&mut self, pass: &PassReport, began: Instant, now: Instant) {
        let wants_retry = pass.is_waiting
            || pass.applied.failure.is_some()
            || self.repair_backoff.failed_repairs().next().is_some()
            || self.lock.is_unavailable()
            // No event says that a file has become readable.
            || self.config.is_refused();
        self.schedule.schedule_retry(now, wants_retry);
        self.schedule.schedule_poll(now, self.watch.needs_polls());
        // The time is the beginning of the pass: a file that was in back-off then may be due by now.
        let waiting = self.repair_backoff.waiting_files(began);
        let next_repair = waiting.map(|waiting| {
            let left = match pass.urgent.contains(waiting.file) {
                true => waiting.left_if_urgent,
                false => waiting.left,
            };
            began + left
        });
        let next_repair = next_repair.min();
        let next_repair = next_repair.filter(|_| !pass.after.is_empty());
        self.schedule.set_timer(Timer::FileBackoffEnds, next_repair);
        self.schedule
            .set_timer(Timer::PluginQuestion, pass.next_question);
        let conflict_end = self.repair_backoff.next_conflict_end();
        self.schedule.set_timer(Timer::ConflictEnds, conflict_end);
    }

    /// Brings the drift log, the counters and the back-off of repairs up to date.
    fn record_drift(&mut self, pass: &PassReport, since: Instant, now: Instant) {
        let timing = PassTiming {
            since,
            now,
            at: Timestamp(SystemTime::now()),
        };
        let times = |drift: &FileDrift| count_recent_repairs(&self.repair_backoff, drift);
        let repairs = self
            .drift_log
            .record_pass(&pass.applied, &pass.after, timing, times);
        let mut repaired_files = BTreeSet::new();
        for repair in repairs {
            *self.counters.repairs.entry("healed").or_default() += 1;
            self.counters.repair_seconds.observe(repair.took);
            match repair.name.parse::<FileName>() {
                Ok(name) => _ = repaired_files.insert((repair.dir, name)),
                // It is a directory. Its removal has undone the repairs of all files in it.
                Err(_) => repaired_files.extend(list_placed_files(repair.dir, &pass.applied.steps)),
            }
        }
        // This is a set, because a file that was wrong in two ways was repaired once.
        for file in repaired_files {
            if self.repair_backoff.record_repair(file, now) {
                self.counters.conflicts += 1;
            }
        }
        // Drift that is new since the first observation has happened after the repairs.
        let timing = PassTiming {
            since: pass.applied.applied_at.unwrap_or(since),
            ..timing
        };
        let times = |drift: &FileDrift| count_recent_repairs(&self.repair_backoff, drift);
        self.drift_log.open_records(&pass.after, timing, times);
        self.counters.drift.clone_from(self.drift_log.counters());
        let files = pass.snapshot.files.iter();
        let right = files.filter(|file| file.standing == Standing::Ok);
        self.drift_log
            .record_right_files(right.map(|file| file.path.clone()));
    }

    /// Brings the failed repairs up to date. A file that is right now has none.
    fn record_failed_steps(&mut self, pass: &PassReport, now: Instant) {
        for step in &pass.applied.failed {
            *self.counters.repairs.entry("failed").or_default() += 1;
            let reason = step.error.to_string();
            self.record_error(reason.clone());
            let file = (step.dir, step.name.clone());
            self.repair_backoff.record_failure(file, reason, now);
        }
        self.repair_backoff.retain_failed(|(dir, name)| {
            let mut wrong = pass.after.iter();
            wrong.any(|drift| drift.dir == *dir && *drift.name == *name.as_str())
        });
    }

    /// Records how a download ended, for the next pass and for the views.
    pub(super) fn record_download(&mut self, finished: FinishedDownload, now: Instant) {
        let FinishedDownload { artifact, result } = finished;
        let is_full = result.as_ref().is_err_and(ReconcileError::is_full);
        self.maintenance.set_disk_full(is_full);
        match result {
            Ok(None) => self.downloads.record_pin(&artifact),
            Ok(Some(stored)) => {
                self.downloads.record_success(&artifact, &stored);
                self.count_download(&stored);
                self.reconciler.add_stored_artifact(stored);
            }
            Err(error) => {
                self.count_source_failures(&error.source_failures());
                self.count_failed_downloads(error.kind(), 1);
                tracing::warn!("{error}");
                self.record_error(error.to_string());
                let random = self.draw_random();
                self.downloads
                    .record_failure(&artifact, &error, now, random);
            }
        }
    }

    fn count_download(&mut self, stored: &StoredArtifact) {
        let failures = &stored.report.tried;
        self.count_source_failures(failures);
        *self.counters.downloads.entry(("ok", "")).or_default() += 1;
        self.counters.download_bytes += stored.report.bytes;
        // The download succeeded, but a source that serves other bytes than the pinned ones is worth an alert.
        let wrong_bytes = failures.iter();
        let wrong_bytes = wrong_bytes.filter(|failure| failure.reason == FailureKind::Digest);
        match wrong_bytes.count() {
            0 => {}
            count => self.count_failed_downloads(FailureKind::Digest, count as u64),
        }
    }

    fn count_failed_downloads(&mut self, kind: FailureKind, count: u64) {
        let downloads = &mut self.counters.downloads;
        *downloads.entry(("failed", kind.as_str())).or_default() += count;
    }

    fn count_source_failures(&mut self, failures: &[SourceFailure]) {
        for failure in failures {
            let key = (failure.source.clone(), failure.reason.as_str());
            *self.counters.source_failures.entry(key).or_default() += 1;
        }
    }
}

/// How many repairs of a file have closely followed each other.
fn count_recent_repairs(backoff: &RepairBackoff<(ManagedDir, FileName)>, drift: &FileDrift) -> u32 {
    let name = drift.name.parse::<FileName>().ok();
    name.map_or(0, |name| backoff.recent_repairs(&(drift.dir, name)))
}

/// The files that were placed in a directory.
fn list_placed_files(dir: ManagedDir, steps: &[Step]) -> Vec<(ManagedDir, FileName)> {
    let name = |step: &Step| match step {
        Step::Place { plugin, .. } if dir == ManagedDir::Bin => Some(plugin.file().clone()),
        Step::WriteConflist { name, .. } if dir == ManagedDir::Conf => Some(name.clone()),
        _ => None,
    };
    let names = steps.iter().filter_map(name);
    names.map(|name| (dir, name)).collect()
}
