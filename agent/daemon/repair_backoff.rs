//! The back-off of a fight with another program: how long a file waits before its next repair if another program keeps
//! undoing the repairs. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::retry::{Backoff, Jitter};

/// The pauses between repairs of one file that are undone soon.
const FIGHT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(60));
/// A repair counts as accepted once it has lasted this long, plus twice the pause after it.
const ACCEPTED_AFTER: Duration = Duration::from_secs(10);
/// After how many repairs in a row that were undone the two programs are in conflict.
const CONFLICT_REPAIRS: u32 = 5;

/// The recent repairs of each file.
#[derive(Debug)]
pub(super) struct RepairBackoff<K> {
    files: BTreeMap<K, RecentRepairs>,
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
