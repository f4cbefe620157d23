//! How long a file waits before its next repair: if another program keeps undoing the repairs, or if they fail. Pure:
//! time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::reconcile::RepairPause;
use crate::retry::{Backoff, Jitter};

/// The pauses between repairs of one file that are undone soon.
const FIGHT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(60));
/// The longest of these pauses for a file without which new pods get no network.
const URGENT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// The pauses between repairs of one file that fail. They hold whoever asks for a pass.
const FAILED_REPAIR_BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
/// A repair counts as accepted once it has lasted this long, plus twice the pause after it.
const ACCEPTED_AFTER: Duration = Duration::from_secs(10);
/// After how many repairs in a row that were undone the two programs are in conflict.
const CONFLICT_REPAIRS: u32 = 5;

/// The recent repairs of each file.
#[derive(Debug)]
pub(super) struct RepairBackoff<K> {
    files: BTreeMap<K, RecentRepairs>,
    failed: BTreeMap<K, FailedRepairs>,
}

/// Repairs of one file that failed, in a row.
#[derive(Debug, Clone)]
struct FailedRepairs {
    count: u32,
    last: Instant,
    reason: String,
}

/// A file that is not repaired now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WaitingFile<'a, K> {
    pub(super) file: &'a K,
    pub(super) pause: RepairPause,
    /// How long it waits, and how long if it is urgent.
    pub(super) left: Duration,
    pub(super) left_if_urgent: Duration,
}

/// Repairs of one file that closely followed each other.
#[derive(Debug, Clone, Copy)]
struct RecentRepairs {
    count: u32,
    last: Instant,
}

impl RecentRepairs {
    /// How long the next repair has to wait after the last one.
    fn pause(&self) -> Duration {
        FIGHT_BACKOFF.pause(self.count.saturating_sub(1), Jitter::None)
    }

    /// When the last repair counts as accepted if it is not undone until then.
    fn accepted_at(&self) -> Instant {
        self.last + ACCEPTED_AFTER + 2 * self.pause()
    }
}

impl<K: Ord + Clone> RepairBackoff<K> {
    pub(super) const fn new() -> Self {
        Self {
            files: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Records a repair; `true` if it turns the repairs of this file into a conflict.
    pub(super) fn record_repair(&mut self, file: K, now: Instant) -> bool {
        let recent = self.files.entry(file).or_insert(RecentRepairs {
            count: 0,
            last: now,
        });
        recent.count += 1;
        recent.last = now;
        recent.count == CONFLICT_REPAIRS
    }

    /// Records a repair that failed.
    pub(super) fn record_failure(&mut self, file: K, reason: String, now: Instant) {
        let count = self.failed.get(&file).map_or(0, |failed| failed.count);
        let failed = FailedRepairs {
            count: count.saturating_add(1),
            last: now,
            reason,
        };
        self.failed.insert(file, failed);
    }

    /// Forgets the failed repairs of files that are right now.
    pub(super) fn retain_failed(&mut self, is_wrong: impl Fn(&K) -> bool) {
        self.failed.retain(|file, _| is_wrong(file));
    }

    /// Forgets what is known of files that are in another directory now: nobody has undone the repairs there.
    pub(super) fn forget_files(&mut self, is_elsewhere: impl Fn(&K) -> bool) {
        self.files.retain(|file, _| !is_elsewhere(file));
        self.failed.retain(|file, _| !is_elsewhere(file));
    }

    /// The files whose last repair failed, and why.
    pub(super) fn failed_repairs(&self) -> impl Iterator<Item = (&K, &str)> {
        let failed = self.failed.iter();
        failed.map(|(file, failed)| (file, failed.reason.as_str()))
    }

    /// Every file that must not be repaired yet.
    pub(super) fn waiting_files(&self, now: Instant) -> impl Iterator<Item = WaitingFile<'_, K>> {
        let fought = self.files_in_backoff(now).map(move |(file, left)| {
            let last = self.files.get(file).map_or(now, |recent| recent.last);
            let left_if_urgent = (last + URGENT_PAUSE_MAX).saturating_duration_since(now);
            WaitingFile {
                file,
                pause: match left_if_urgent.is_zero() {
                    true => RepairPause::WhileNetworkWorks,
                    false => RepairPause::Always,
                },
                left,
                left_if_urgent: left_if_urgent.min(left),
            }
        });
        let failed = self.failed.iter().filter_map(move |(file, failed)| {
            let pause = FAILED_REPAIR_BACKOFF.pause(failed.count - 1, Jitter::None);
            let left = (failed.last + pause).saturating_duration_since(now);
            (!left.is_zero()).then_some(WaitingFile {
                file,
                pause: RepairPause::Always,
                left,
                left_if_urgent: left,
            })
        });
        fought.chain(failed)
    }

    /// Forgets every file whose last repair counts as accepted.
    pub(super) fn forget_accepted(&mut self, now: Instant) {
        self.files.retain(|_, recent| now < recent.accepted_at());
    }

    /// The files that must not be repaired yet, each with the time left to wait.
    pub(super) fn files_in_backoff(&self, now: Instant) -> impl Iterator<Item = (&K, Duration)> {
        self.files.iter().filter_map(move |(file, recent)| {
            let due = recent.last + recent.pause();
            let left = due.checked_duration_since(now)?;
            (!left.is_zero()).then_some((file, left))
        })
    }

    /// How many repairs of a file have closely followed each other.
    pub(super) fn recent_repairs(&self, file: &K) -> u32 {
        self.files.get(file).map_or(0, |recent| recent.count)
    }

    /// The files whose repairs another writer keeps undoing.
    pub(super) fn files_in_conflict(&self) -> impl Iterator<Item = &K> {
        let files = self.files.iter();
        files.filter_map(|(file, recent)| (recent.count >= CONFLICT_REPAIRS).then_some(file))
    }

    /// When the first conflict ends if nothing happens until then; `None` if there is no conflict.
    pub(super) fn next_conflict_end(&self) -> Option<Instant> {
        let fought = self
            .files
            .values()
            .filter(|it| it.count >= CONFLICT_REPAIRS);
        fought.map(RecentRepairs::accepted_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Repairs a file as soon as that is allowed, as long as it is undone at once; returns the times.
    fn fight(backoff: &mut RepairBackoff<&str>, from: Instant, until: Duration) -> Vec<Duration> {
        let (mut now, mut repairs) = (from, Vec::new());
        while now - from < until {
            backoff.record_repair("bridge", now);
            repairs.push(now - from);
            now += backoff
                .files_in_backoff(now)
                .next()
                .map_or(Duration::ZERO, |(_, left)| left);
        }
        repairs
    }

    #[test]
    fn the_first_repair_waits_for_nothing() {
        let backoff = RepairBackoff::<&str>::new();
        assert_eq!(backoff.files_in_backoff(Instant::now()).count(), 0);
    }

    #[test]
    fn a_fight_costs_less_and_less() {
        let mut backoff = RepairBackoff::new();
        let day = Duration::from_secs(24 * 3600);
        let repairs = fight(&mut backoff, Instant::now(), day);
        assert!(repairs.len() < 24 * 60 + 20, "{} repairs", repairs.len());
        assert_eq!(repairs[1] - repairs[0], FIGHT_BACKOFF.first);
        assert_eq!(repairs[2] - repairs[1], 2 * FIGHT_BACKOFF.first);
        let last = repairs.len() - 1;
        assert_eq!(repairs[last] - repairs[last - 1], FIGHT_BACKOFF.max);
    }

    #[test]
    fn a_fight_is_a_conflict_until_it_has_been_quiet_for_a_while() {
        let (mut backoff, start) = (RepairBackoff::new(), Instant::now());
        for repair in 1..CONFLICT_REPAIRS {
            assert!(!backoff.record_repair("bridge", start), "repair {repair}");
        }
        assert_eq!(backoff.files_in_conflict().count(), 0);
        assert!(backoff.record_repair("bridge", start));
        assert!(!backoff.record_repair("bridge", start), "reported once");
        assert_eq!(backoff.files_in_conflict().collect::<Vec<_>>(), [&"bridge"]);
        let conflict_end = backoff.next_conflict_end().unwrap();
        backoff.forget_accepted(conflict_end - Duration::from_millis(1));
        assert_eq!(backoff.files_in_conflict().count(), 1);
        backoff.forget_accepted(conflict_end);
        assert_eq!(backoff.files_in_conflict().count(), 0);
        assert_eq!(backoff.files_in_backoff(conflict_end).count(), 0);
        assert_eq!(backoff.recent_repairs(&"bridge"), 0);
    }

    /// The pause after a fight is for two writers who both leave a file that works.
    #[test]
    fn a_file_without_which_there_is_no_network_waits_for_a_second_at_most() {
        let (mut backoff, start) = (RepairBackoff::new(), Instant::now());
        for _ in 0..20 {
            backoff.record_repair("10-x.conflist", start);
        }
        let at = |seconds| start + Duration::from_millis(seconds);
        let waiting = |now| backoff.waiting_files(now).next().unwrap();
        assert_eq!(waiting(at(400)).pause, RepairPause::Always);
        assert_eq!(waiting(at(400)).left_if_urgent, Duration::from_millis(600));
        assert_eq!(waiting(at(1000)).pause, RepairPause::WhileNetworkWorks);
        assert_eq!(
            waiting(at(1000)).left,
            FIGHT_BACKOFF.max - Duration::from_secs(1)
        );
    }

    /// Whoever asks, a repair that fails is not tried more often, and one that works again is forgotten.
    #[test]
    fn a_repair_that_fails_is_tried_less_and_less_often() {
        let (mut backoff, start) = (RepairBackoff::new(), Instant::now());
        let (mut now, mut tries) = (start, 0);
        while now - start < Duration::from_secs(600) {
            if backoff.waiting_files(now).next().is_none() {
                backoff.record_failure("bridge", "it is immutable".to_owned(), now);
                tries += 1;
            }
            now += Duration::from_millis(100);
        }
        assert!((40..50).contains(&tries), "{tries} tries in ten minutes");
        let reasons: Vec<_> = backoff.failed_repairs().collect();
        assert_eq!(reasons, [(&"bridge", "it is immutable")]);
        backoff.retain_failed(|_| false);
        assert_eq!(backoff.failed_repairs().count(), 0);
    }

    #[test]
    fn one_file_does_not_wait_for_another() {
        let (mut backoff, now) = (RepairBackoff::new(), Instant::now());
        backoff.record_repair("bridge", now);
        let files: Vec<_> = backoff
            .files_in_backoff(now)
            .map(|(file, _)| *file)
            .collect();
        assert_eq!(files, ["bridge"]);
        assert_eq!(
            backoff.files_in_backoff(now + FIGHT_BACKOFF.first).count(),
            0
        );
    }
}
