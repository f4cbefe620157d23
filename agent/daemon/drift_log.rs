//! The drift log: what was wrong, since when, and how it ended. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::ManagedDir;
use crate::model::{DriftKind, DriftRecord, FileName, Outcome, Timestamp, escape_controls};
use crate::plan::Step;
use crate::reconcile::{AppliedSteps, DriftCause, FileDrift};

/// How many closed records the log keeps. It is also the limit for open records of foreign files.
const DRIFT_LOG_MAX_ENTRIES: usize = 256;
/// How many pairs of kind and file have a counter of their own. Foreign files may have any name.
const MAX_COUNTERS: usize = 512;
/// The file name under which all others are counted.
const OTHER_FILES: &str = "(other files)";

/// The drift log with its counters.
#[derive(Debug, Default)]
pub(super) struct DriftHistory {
    /// Drift that is over, newest first.
    closed: VecDeque<Arc<DriftRecord>>,
    open: BTreeMap<DriftKey, OpenDrift>,
    /// Files that were as declared at some time. If they differ afterwards, that is drift.
    once_right: BTreeSet<PathBuf>,
    counters: BTreeMap<(DriftKind, String), u64>,
    last_id: u64,
}

type DriftKey = (PathBuf, DriftKind);

#[derive(Debug)]
struct OpenDrift {
    since: Instant,
    entry: DriftRecord,
}

/// The times of a pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassTiming {
    /// When the first event came that led to the pass.
    pub(super) since: Instant,
    /// When the pass was over.
    pub(super) now: Instant,
    /// The same as wall-clock time.
    pub(super) at: Timestamp,
}

/// A file or directory that had drifted and was repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RepairedFile {
    pub(super) dir: ManagedDir,
    /// The name of the file; the path of a directory.
    pub(super) name: String,
    /// From the first event to the durable repair.
    pub(super) took: Duration,
}

impl DriftHistory {
    /// Records what a pass found and did. Returns the repairs of drift. A file that was placed for the first time is
    /// not drift. If a repair was undone before the pass observed the disk again, it counts as a repair, and undoing it
    /// as the next drift.
    pub(super) fn record_pass(
        &mut self,
        applied: &AppliedSteps,
        after: &[FileDrift],
        timing: PassTiming,
        times: impl Fn(&FileDrift) -> u32,
    ) -> Vec<RepairedFile> {
        self.open_records(&applied.before, timing, times);
        let applied_at = applied.applied_at.unwrap_or(timing.now);
        let mut repairs = Vec::new();
        let keys: Vec<DriftKey> = self.open.keys().cloned().collect();
        for key in keys {
            let is_it = |drift: &&FileDrift| (&drift.path, drift.kind) == (&key.0, key.1);
            let drift = applied.before.iter().find(is_it);
            let repair = drift.and_then(|drift| Some((drift, describe_repair(applied, drift)?)));
            if repair.is_none() && after.iter().any(|drift| is_it(&drift)) {
                continue;
            }
            let Some(OpenDrift { since, mut entry }) = self.open.remove(&key) else {
                continue;
            };
            match repair {
                Some((drift, how)) => {
                    let took = applied_at.saturating_duration_since(since);
                    let how = how.into();
                    entry.outcome = Outcome::Healed { how, took };
                    entry.after = drift.wanted.clone().or(entry.after);
                    repairs.push(RepairedFile {
                        dir: drift.dir,
                        name: drift.name.clone(),
                        took,
                    });
                }
                None => {
                    let after = timing.now.saturating_duration_since(since);
                    entry.outcome = Outcome::Gone { after };
                }
            }
            log_end(&entry);
            self.closed.push_front(Arc::new(entry));
        }
        self.closed.truncate(DRIFT_LOG_MAX_ENTRIES);
        repairs
    }

    /// Opens a record for all drift that has none yet. `times` is the number of recent repairs of a file.
    pub(super) fn open_records(
        &mut self,
        drifts: &[FileDrift],
        timing: PassTiming,
        times: impl Fn(&FileDrift) -> u32,
    ) {
        for drift in drifts {
            self.open_record(drift, timing, &times);
        }
    }

    fn open_record(
        &mut self,
        drift: &FileDrift,
        timing: PassTiming,
        times: &impl Fn(&FileDrift) -> u32,
    ) {
        let key = (drift.path.clone(), drift.kind);
        let is_drift = match drift.cause {
            DriftCause::Changed => true,
            DriftCause::Outdated => false,
            DriftCause::Unplaced => self.once_right.contains(&drift.path),
        };
        if !is_drift || self.open.contains_key(&key) || self.exceeds_foreign_limit(drift) {
            return;
        }
        self.last_id += 1;
        self.count_drift(drift.kind, &drift.name);
        let entry = DriftRecord {
            id: self.last_id,
            at: timing.at,
            path: drift.path.clone(),
            kind: drift.kind,
            what: drift.what.clone(),
            before: drift.before.clone(),
            after: None,
            outcome: Outcome::Open { waiting: None },
            times: times(drift) + 1,
            by: drift.by.clone(),
        };
        tracing::warn!(path = %entry.path.display(), kind = entry.kind.as_str(), by = entry.by, "drift: {}", entry.what);
        let since = timing.since;
        self.open.insert(key, OpenDrift { since, entry });
    }

    /// Drift of a declared file always gets a record. Records of foreign files are limited, because others decide how
    /// many such files there are.
    fn exceeds_foreign_limit(&self, drift: &FileDrift) -> bool {
        drift.kind.is_foreign_file() && self.open.len() >= DRIFT_LOG_MAX_ENTRIES
    }

    fn count_drift(&mut self, kind: DriftKind, name: &str) {
        // Two names that are shown alike are one label.
        let name = &*escape_controls(name);
        let known = self.counters.contains_key(&(kind, name.to_owned()));
        let name = match known || self.counters.len() < MAX_COUNTERS {
            true => name,
            false => OTHER_FILES,
        };
        *self.counters.entry((kind, name.to_owned())).or_default() += 1;
    }

    /// Records which files are as declared.
    pub(super) fn record_right_files(&mut self, files: impl Iterator<Item = PathBuf>) {
        self.once_right.extend(files);
    }

    /// Another declaration is in force now. A file that does not match it yet has not drifted.
    pub(super) fn forget_right_files(&mut self) {
        self.once_right.clear();
    }

    /// All records, the open ones before the closed ones, newest first. `waiting` gives the reason why an open one is
    /// not repaired at once.
    pub(super) fn list_records(
        &self,
        waiting: impl Fn(&DriftRecord) -> Option<String>,
    ) -> Vec<Arc<DriftRecord>> {
        let mut open: Vec<DriftRecord> =
            self.open.values().map(|open| open.entry.clone()).collect();
        open.sort_by_key(|entry| std::cmp::Reverse(entry.id));
        for entry in &mut open {
            entry.outcome = Outcome::Open {
                waiting: waiting(entry),
            };
        }
        let open = open.into_iter().map(Arc::new);
        open.chain(self.closed.iter().cloned()).collect()
    }

    /// What is known about the program that last changed a file.
    pub(super) fn last_writer(&self, path: &Path) -> Option<String> {
        let open = self.open.values().map(|open| &open.entry);
        let closed = self.closed.iter().map(AsRef::as_ref);
        let mut entries = open.chain(closed).filter(|entry| entry.path == path);
        entries.find_map(|entry| entry.by.clone())
    }

    /// The number of drifts by kind and file name.
    pub(super) fn counters(&self) -> &BTreeMap<(DriftKind, String), u64> {
        &self.counters
    }
}

fn log_end(entry: &DriftRecord) {
    let path = entry.path.display();
    match &entry.outcome {
        Outcome::Healed { how, took } => {
            tracing::info!(%path, kind = entry.kind.as_str(), ?took, "healed: {how}");
        }
        Outcome::Gone { .. } => tracing::info!(%path, kind = entry.kind.as_str(), "drift is gone"),
        Outcome::Open { .. } => {}
    }
}

/// How a drift was repaired; `None` if it was not.
fn describe_repair(applied: &AppliedSteps, drift: &FileDrift) -> Option<&'static str> {
    let is = |name: &FileName| drift.kind == DriftKind::DirMissing || *name.as_str() == *drift.name;
    applied
        .steps
        .iter()
        .find_map(|step| match (step, drift.dir) {
            (Step::Place { plugin, .. }, ManagedDir::Bin) if is(plugin.file()) => {
                Some(match applied.downloaded {
                    true => "placed after a download",
                    false => "placed from the store",
                })
            }
            (Step::FixPlugin { plugin, .. }, ManagedDir::Bin) if is(plugin.file()) => {
                Some(describe_fix(drift.kind))
            }
            (Step::WriteConflist { name, .. }, ManagedDir::Conf) if is(name) => Some("written"),
            (Step::FixConflist { name, .. }, ManagedDir::Conf) if is(name) => {
                Some(describe_fix(drift.kind))
            }
            (Step::SetAside { name }, ManagedDir::Conf) if is(name) => Some("set aside"),
            _ => None,
        })
}

const fn describe_fix(kind: DriftKind) -> &'static str {
    match kind.is_attribute() {
        true => "attributes removed",
        false => "mode and owner set",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Difference;

    fn drift() -> FileDrift {
        FileDrift {
            dir: ManagedDir::Conf,
            name: "10-pods.conflist".to_owned(),
            path: "/etc/cni/net.d/10-pods.conflist".into(),
            kind: DriftKind::Missing,
            what: "is missing".to_owned(),
            before: "absent".to_owned(),
            wanted: None,
            by: None,
            cause: DriftCause::Changed,
        }
    }

    fn written(before: Vec<FileDrift>) -> AppliedSteps {
        let step = Step::WriteConflist {
            name: "10-pods.conflist".parse().unwrap(),
            drift: Difference::Missing,
            foreign: false,
        };
        AppliedSteps {
            before,
            steps: vec![step],
            ..AppliedSteps::default()
        }
    }

    fn timing() -> PassTiming {
        PassTiming {
            since: Instant::now(),
            now: Instant::now(),
            at: Timestamp(std::time::SystemTime::now()),
        }
    }

    fn states(log: &DriftHistory) -> Vec<(u32, &'static str)> {
        let entries = log.list_records(|_| None);
        let state = |entry: &Arc<DriftRecord>| match entry.outcome {
            Outcome::Open { .. } => (entry.times, "open"),
            Outcome::Healed { .. } => (entry.times, "healed"),
            Outcome::Gone { .. } => (entry.times, "gone"),
        };
        entries.iter().map(state).collect()
    }

    /// Fault 29: whoever is quick enough to undo a repair before the pass has looked again must not get the next one
    /// at once.
    #[test]
    fn a_repair_that_is_undone_at_once_is_a_repair() {
        let mut log = DriftHistory::default();
        let applied = written(vec![drift()]);
        let repairs = log.record_pass(&applied, &[drift()], timing(), |_| 4);
        assert_eq!(repairs.len(), 1);
        log.open_records(&[drift()], timing(), |_| 5);
        assert_eq!(states(&log), [(6, "open"), (5, "healed")]);
        assert_eq!(log.counters().values().sum::<u64>(), 2);
    }

    /// A directory full of foreign files neither floods the log nor hides what is wrong with ours.
    #[test]
    fn records_of_foreign_files_are_limited_and_ours_are_not() {
        let mut log = DriftHistory::default();
        let foreign = |number: usize| FileDrift {
            name: format!("{number}.conf"),
            path: format!("/etc/cni/net.d/{number}.conf").into(),
            kind: DriftKind::Shadowed,
            ..drift()
        };
        let drifts: Vec<FileDrift> = (0..2 * DRIFT_LOG_MAX_ENTRIES)
            .map(foreign)
            .chain([drift()])
            .collect();
        for _ in 0..2 {
            log.open_records(&drifts, timing(), |_| 0);
        }
        assert_eq!(
            log.counters().values().sum::<u64>(),
            DRIFT_LOG_MAX_ENTRIES as u64 + 1
        );
        let entries = log.list_records(|_| None);
        assert_eq!(
            (entries.len(), entries[0].kind),
            (DRIFT_LOG_MAX_ENTRIES + 1, DriftKind::Missing)
        );
    }

    #[test]
    fn what_was_not_repaired_stays_open() {
        let mut log = DriftHistory::default();
        let nothing = AppliedSteps {
            before: vec![drift()],
            ..AppliedSteps::default()
        };
        for _ in 0..2 {
            assert!(
                log.record_pass(&nothing, &[drift()], timing(), |_| 0)
                    .is_empty()
            );
            assert_eq!(states(&log), [(1, "open")]);
        }
        assert!(log.record_pass(&nothing, &[], timing(), |_| 0).is_empty());
        assert_eq!(states(&log), [(1, "gone")]);
    }
}
