//! How long to wait before a file is mended again that somebody keeps undoing. Pure: the time is handed in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::retry::{Backoff, Jitter};

/// The pauses between repairs of one file that are undone soon.
const FIGHT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(60));
/// How long a repair must last, beyond twice the pause after it, to count as accepted.
const QUIET: Duration = Duration::from_secs(10);
/// So many repairs in a row that were undone are a conflict.
const CONFLICT: u32 = 5;

/// The repairs of each file, as far as they still matter.
#[derive(Debug)]
pub(super) struct Patience<K> {
    files: BTreeMap<K, Streak>,
}

/// Repairs of one file that followed each other closely.
#[derive(Debug, Clone, Copy)]
struct Streak {
    repairs: u32,
    last: Instant,
}

impl Streak {
    /// How long the next repair has to wait after the last one.
    fn pause(&self) -> Duration {
        FIGHT_BACKOFF.pause(self.repairs.saturating_sub(1), Jitter::None)
    }

    /// When the last repair counts as accepted, if nothing happens until then.
    fn over(&self) -> Instant {
        self.last + QUIET + 2 * self.pause()
    }
}

impl<K: Ord + Clone> Patience<K> {
    pub(super) const fn new() -> Self {
        Self {
            files: BTreeMap::new(),
        }
    }

    /// Records a repair; `true` if by this one it has become a conflict.
    pub(super) fn repaired(&mut self, file: K, now: Instant) -> bool {
        let streak = self.files.entry(file).or_insert(Streak {
            repairs: 0,
            last: now,
        });
        streak.repairs += 1;
        streak.last = now;
        streak.repairs == CONFLICT
    }

    /// Forgets every file whose last repair has been accepted.
    pub(super) fn settle(&mut self, now: Instant) {
        self.files.retain(|_, streak| now < streak.over());
    }

    /// The files that are not to be mended yet, with the time that each has to wait for.
    pub(super) fn held(&self, now: Instant) -> impl Iterator<Item = (&K, Duration)> {
        self.files.iter().filter_map(move |(file, streak)| {
            let due = streak.last + streak.pause();
            let left = due.checked_duration_since(now)?;
            (!left.is_zero()).then_some((file, left))
        })
    }

    /// How many repairs of a file have followed each other closely.
    pub(super) fn repairs(&self, file: &K) -> u32 {
        self.files.get(file).map_or(0, |streak| streak.repairs)
    }

    /// The files that another writer keeps undoing.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = &K> {
        let files = self.files.iter();
        files.filter_map(|(file, streak)| (streak.repairs >= CONFLICT).then_some(file))
    }

    /// When a conflict ends if nothing happens until then; `None` where there is none.
    pub(super) fn next_peace(&self) -> Option<Instant> {
        let fought = self.files.values().filter(|it| it.repairs >= CONFLICT);
        fought.map(Streak::over).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Repairs a file as soon as that is allowed, as long as it is undone at once; returns the times.
    fn fight(patience: &mut Patience<&str>, from: Instant, until: Duration) -> Vec<Duration> {
        let (mut now, mut repairs) = (from, Vec::new());
        while now - from < until {
            patience.repaired("bridge", now);
            repairs.push(now - from);
            now += patience
                .held(now)
                .next()
                .map_or(Duration::ZERO, |(_, left)| left);
        }
        repairs
    }

    #[test]
    fn the_first_repair_waits_for_nothing() {
        let patience = Patience::<&str>::new();
        assert_eq!(patience.held(Instant::now()).count(), 0);
    }

    #[test]
    fn a_fight_costs_less_and_less() {
        let mut patience = Patience::new();
        let day = Duration::from_secs(24 * 3600);
        let repairs = fight(&mut patience, Instant::now(), day);
        assert!(repairs.len() < 24 * 60 + 20, "{} repairs", repairs.len());
        assert_eq!(repairs[1] - repairs[0], FIGHT_BACKOFF.first);
        assert_eq!(repairs[2] - repairs[1], 2 * FIGHT_BACKOFF.first);
        let last = repairs.len() - 1;
        assert_eq!(repairs[last] - repairs[last - 1], FIGHT_BACKOFF.max);
    }

    #[test]
    fn a_fight_is_a_conflict_until_it_has_been_quiet_for_a_while() {
        let (mut patience, start) = (Patience::new(), Instant::now());
        for repair in 1..CONFLICT {
            assert!(!patience.repaired("bridge", start), "repair {repair}");
        }
        assert_eq!(patience.conflicts().count(), 0);
        assert!(patience.repaired("bridge", start));
        assert!(!patience.repaired("bridge", start), "told once");
        assert_eq!(patience.conflicts().collect::<Vec<_>>(), [&"bridge"]);
        let peace = patience.next_peace().unwrap();
        patience.settle(peace - Duration::from_millis(1));
        assert_eq!(patience.conflicts().count(), 1);
        patience.settle(peace);
        assert_eq!(patience.conflicts().count(), 0);
        assert_eq!(patience.held(peace).count(), 0);
        assert_eq!(patience.repairs(&"bridge"), 0);
    }

    #[test]
    fn one_file_does_not_wait_for_another() {
        let (mut patience, now) = (Patience::new(), Instant::now());
        patience.repaired("bridge", now);
        let held: Vec<_> = patience.held(now).map(|(file, _)| *file).collect();
        assert_eq!(held, ["bridge"]);
        assert_eq!(patience.held(now + FIGHT_BACKOFF.first).count(), 0);
    }
}
