//! The drift log: what was wrong, since when, and how it ended. Pure: the time is handed in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{DriftKind, DriftRecord, FileName, Outcome, Timestamp};
use crate::plan::Step;
use crate::reconcile::{AppliedSteps, DriftCause, FileDrift};
use crate::store::ManagedDir;

/// How many drifts that are over are remembered.
const LONGEST: usize = 256;
/// How many kinds and files are counted apart; foreign files may have any name.
const MOST_COUNTED: usize = 512;
/// Under what the rest is counted.
const OTHERS: &str = "(other files)";

/// The drift log and its counters.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Drifts that are over, newest first.
    closed: VecDeque<Arc<DriftRecord>>,
    open: BTreeMap<Key, Open>,
    /// Files that were as declared at some time, so that what differs afterwards is drift.
    right: BTreeSet<PathBuf>,
    counted: BTreeMap<(DriftKind, String), u64>,
    last_id: u64,
}

type Key = (PathBuf, DriftKind);

#[derive(Debug)]
struct Open {
    since: Instant,
    entry: DriftRecord,
}

/// When a pass was, and why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// When the first sign of a change came.
    pub(super) since: Instant,
    /// When the pass was over.
    pub(super) now: Instant,
    /// The same for people.
    pub(super) at: Timestamp,
}

/// A file or directory that had drifted and is right again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repair {
    /// The directory that it is in.
    pub(super) place: ManagedDir,
    /// Its name.
    pub(super) name: String,
    /// From the first sign of the drift to the durable repair.
    pub(super) took: Duration,
}

impl Log {
    /// Takes in what a pass found and what it did about it. Returns its repairs of what had drifted: what was placed
    /// for the first time is none. One that was undone before anybody looked is a repair all the same, and what undid
    /// it the next drift.
    pub(super) fn record(
        &mut self,
        deeds: &AppliedSteps,
        after: &[FileDrift],
        timing: Timing,
        times: impl Fn(&FileDrift) -> u32,
    ) -> Vec<Repair> {
        self.found(&deeds.before, timing, times);
        let mended = deeds.applied_at.unwrap_or(timing.now);
        let mut repairs = Vec::new();
        let keys: Vec<Key> = self.open.keys().cloned().collect();
        for key in keys {
            let is_it = |fault: &&FileDrift| (&fault.path, fault.kind) == (&key.0, key.1);
            let fault = deeds.before.iter().find(is_it);
            let repair = fault.and_then(|fault| Some((fault, how(deeds, fault)?)));
            if repair.is_none() && after.iter().any(|fault| is_it(&fault)) {
                continue;
            }
            let Some(Open { since, mut entry }) = self.open.remove(&key) else {
                continue;
            };
            match repair {
                Some((fault, how)) => {
                    let took = mended.saturating_duration_since(since);
                    let how = how.into();
                    entry.outcome = Outcome::Healed { how, took };
                    entry.after = fault.wanted.clone().or(entry.after);
                    repairs.push(Repair {
                        place: fault.place,
                        name: fault.name.clone(),
                        took,
                    });
                }
                None => {
                    let after = timing.now.saturating_duration_since(since);
                    entry.outcome = Outcome::Gone { after };
                }
            }
            tell(&entry);
            self.closed.push_front(Arc::new(entry));
        }
        self.closed.truncate(LONGEST);
        repairs
    }

    /// Takes in what is wrong, as far as it is not known yet. `times` says of a file how many repairs of it have
    /// followed each other closely.
    pub(super) fn found(
        &mut self,
        faults: &[FileDrift],
        timing: Timing,
        times: impl Fn(&FileDrift) -> u32,
    ) {
        for fault in faults {
            self.note(fault, timing, &times);
        }
    }

    fn note(&mut self, fault: &FileDrift, timing: Timing, times: &impl Fn(&FileDrift) -> u32) {
        let key = (fault.path.clone(), fault.kind);
        let is_drift = match fault.origin {
            DriftCause::Changed => true,
            DriftCause::Outdated => false,
            DriftCause::Unplaced => self.right.contains(&fault.path),
        };
        if !is_drift || self.open.contains_key(&key) || self.is_one_too_many(fault) {
            return;
        }
        self.last_id += 1;
        self.count(fault.kind, &fault.name);
        let entry = DriftRecord {
            id: self.last_id,
            at: timing.at,
            path: fault.path.clone(),
            kind: fault.kind,
            what: fault.what.clone(),
            before: fault.before.clone(),
            after: None,
            outcome: Outcome::Open { waiting: None },
            times: times(fault) + 1,
            by: fault.by.clone(),
        };
        tracing::warn!(path = %entry.path.display(), kind = entry.kind.as_str(), by = entry.by, "drift: {}", entry.what);
        let since = timing.since;
        self.open.insert(key, Open { since, entry });
    }

    /// Of what is declared everything is told; how much others put beside it is up to them.
    fn is_one_too_many(&self, fault: &FileDrift) -> bool {
        fault.kind.is_foreign_file() && self.open.len() >= LONGEST
    }

    fn count(&mut self, kind: DriftKind, name: &str) {
        let known = self.counted.contains_key(&(kind, name.to_owned()));
        let name = match known || self.counted.len() < MOST_COUNTED {
            true => name,
            false => OTHERS,
        };
        *self.counted.entry((kind, name.to_owned())).or_default() += 1;
    }

    /// Records which files are as declared.
    pub(super) fn are_right(&mut self, files: impl Iterator<Item = PathBuf>) {
        self.right.extend(files);
    }

    /// Something else is declared now: what does not match that is no drift.
    pub(super) fn declared_anew(&mut self) {
        self.right.clear();
    }

    /// The log, newest first; what is still open comes before what is over. `waiting` says of one why it is not
    /// mended at once.
    pub(super) fn entries(
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

    /// What is known of whoever last changed a file.
    pub(super) fn author(&self, path: &Path) -> Option<String> {
        let open = self.open.values().map(|open| &open.entry);
        let closed = self.closed.iter().map(AsRef::as_ref);
        let mut entries = open.chain(closed).filter(|entry| entry.path == path);
        entries.find_map(|entry| entry.by.clone())
    }

    /// Drifts by kind and file name.
    pub(super) fn counted(&self) -> &BTreeMap<(DriftKind, String), u64> {
        &self.counted
    }
}

fn tell(entry: &DriftRecord) {
    let path = entry.path.display();
    match &entry.outcome {
        Outcome::Healed { how, took } => {
            tracing::info!(%path, kind = entry.kind.as_str(), ?took, "healed: {how}");
        }
        Outcome::Gone { .. } => tracing::info!(%path, kind = entry.kind.as_str(), "drift is gone"),
        Outcome::Open { .. } => {}
    }
}

/// What was done about a fault; `None` if nothing was.
fn how(deeds: &AppliedSteps, fault: &FileDrift) -> Option<&'static str> {
    let is = |name: &FileName| fault.kind == DriftKind::DirMissing || *name.as_str() == *fault.name;
    deeds
        .steps
        .iter()
        .find_map(|step| match (step, fault.place) {
            (Step::Place { plugin, .. }, ManagedDir::Bin) if is(plugin.file()) => {
                Some(match deeds.downloaded {
                    true => "placed after a download",
                    false => "placed from the store",
                })
            }
            (Step::FixPlugin { plugin, .. }, ManagedDir::Bin) if is(plugin.file()) => {
                Some("mode and owner set")
            }
            (Step::WriteConflist { name, .. }, ManagedDir::Conf) if is(name) => Some("written"),
            (Step::FixConflist { name, .. }, ManagedDir::Conf) if is(name) => {
                Some("mode and owner set")
            }
            (Step::SetAside { name }, ManagedDir::Conf) if is(name) => Some("set aside"),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Difference;

    fn fault() -> FileDrift {
        FileDrift {
            place: ManagedDir::Conf,
            name: "10-pods.conflist".to_owned(),
            path: "/etc/cni/net.d/10-pods.conflist".into(),
            kind: DriftKind::Missing,
            what: "is missing".to_owned(),
            before: "absent".to_owned(),
            wanted: None,
            by: None,
            origin: DriftCause::Changed,
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

    fn timing() -> Timing {
        Timing {
            since: Instant::now(),
            now: Instant::now(),
            at: Timestamp(std::time::SystemTime::now()),
        }
    }

    fn states(log: &Log) -> Vec<(u32, &'static str)> {
        let entries = log.entries(|_| None);
        let state = |entry: &Arc<DriftRecord>| match entry.outcome {
            Outcome::Open { .. } => (entry.times, "open"),
            Outcome::Healed { .. } => (entry.times, "healed"),
            Outcome::Gone { .. } => (entry.times, "gone"),
        };
        entries.iter().map(state).collect()
    }

    /// FileDrift 29: whoever is quick enough to undo a repair before the pass has looked again must not get the next one
    /// at once.
    #[test]
    fn a_repair_that_is_undone_at_once_is_a_repair() {
        let mut log = Log::default();
        let deeds = written(vec![fault()]);
        let repairs = log.record(&deeds, &[fault()], timing(), |_| 4);
        assert_eq!(repairs.len(), 1);
        log.found(&[fault()], timing(), |_| 5);
        assert_eq!(states(&log), [(6, "open"), (5, "healed")]);
        assert_eq!(log.counted().values().sum::<u64>(), 2);
    }

    /// A directory full of foreign files neither floods the log nor hides what is wrong with ours.
    #[test]
    fn there_is_an_end_to_foreign_files_and_none_to_ours() {
        let mut log = Log::default();
        let rival = |number: usize| FileDrift {
            name: format!("{number}.conf"),
            path: format!("/etc/cni/net.d/{number}.conf").into(),
            kind: DriftKind::Shadowed,
            ..fault()
        };
        let faults: Vec<FileDrift> = (0..2 * LONGEST).map(rival).chain([fault()]).collect();
        for _ in 0..2 {
            log.found(&faults, timing(), |_| 0);
        }
        assert_eq!(log.counted().values().sum::<u64>(), LONGEST as u64 + 1);
        let entries = log.entries(|_| None);
        assert_eq!(
            (entries.len(), entries[0].kind),
            (LONGEST + 1, DriftKind::Missing)
        );
    }

    #[test]
    fn what_was_not_repaired_stays_open() {
        let mut log = Log::default();
        let nothing = AppliedSteps {
            before: vec![fault()],
            ..AppliedSteps::default()
        };
        for _ in 0..2 {
            assert!(log.record(&nothing, &[fault()], timing(), |_| 0).is_empty());
            assert_eq!(states(&log), [(1, "open")]);
        }
        assert!(log.record(&nothing, &[], timing(), |_| 0).is_empty());
        assert_eq!(states(&log), [(1, "gone")]);
    }
}
