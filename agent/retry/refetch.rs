//! What an agent that stays downloads next, and when.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Backoff, Jitter, share};

/// The pause after all that is wanted was asked for and something of it failed. The download itself has tried every
/// source several times by then.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(300));

/// The order of downloads: each artifact that is wanted once, so that one that cannot be had does not keep the others
/// waiting; then, after a pause, each of them again.
#[derive(Debug, Default)]
pub struct Refetch {
    /// What the nodes of a cluster are spread over, when they start and when they come back after an outage.
    window: Duration,
    /// When the first download may begin, and how long after the start that is.
    first: Option<(Instant, Duration)>,
    /// What was asked for since the last pause.
    tried: BTreeSet<String>,
    /// How many times in a row something failed between two pauses, and whether that is so since the last one.
    failures: u32,
    failed: bool,
    pause_ends: Option<Instant>,
}

impl Refetch {
    /// For an agent that starts now, or takes up another declaration; `delay` is what it waits before its first
    /// download of `window`, over which the cluster's nodes are spread.
    #[must_use]
    pub fn starting(now: Instant, delay: Duration, window: Duration) -> Self {
        Self {
            window,
            first: now.checked_add(delay).map(|at| (at, delay)),
            ..Self::default()
        }
    }

    /// The one of `wanted` to download now.
    pub fn next<'a>(
        &self,
        mut wanted: impl Iterator<Item = &'a str> + Clone,
        now: Instant,
    ) -> Option<&'a str> {
        if self.waits_to_start(now).is_some() {
            return None;
        }
        let is_new = |name: &&str| !self.tried.contains(*name);
        if let Some(name) = wanted.clone().find(is_new) {
            return Some(name);
        }
        let paused = self.pause_ends.is_some_and(|end| now < end);
        wanted.next().filter(|_| !paused)
    }

    /// The download of this one begins.
    pub fn began(&mut self, name: &str) {
        if !self.tried.insert(name.to_owned()) {
            self.tried = BTreeSet::from([name.to_owned()]);
            self.failed = false;
        }
    }

    /// Whether this one was downloaded, or tried to be, since the last pause.
    #[must_use]
    pub fn has_tried(&self, name: &str) -> bool {
        self.tried.contains(name)
    }

    /// A download failed, or was in vain. `random` spreads the next one over half of the pause, or over the window
    /// where that is longer, so that a cluster's nodes do not come back together.
    pub fn failed(&mut self, now: Instant, random: u64) {
        // Once for all that fails between two pauses: ten artifacts on one dead mirror are one outage.
        if !self.failed {
            self.failed = true;
            self.failures = self.failures.saturating_add(1);
        }
        let half = BACKOFF.pause(self.failures - 1, Jitter::None) / 2;
        let pause = half + share(half.max(self.window), random);
        self.pause_ends = now.checked_add(pause);
    }

    /// Nothing is wanted any more. What is wanted later is so for a reason of its own, and does not wait.
    pub fn settled(&mut self) {
        *self = Self {
            window: self.window,
            ..Self::default()
        };
    }

    /// What the first download waits for since the start, as long as it does.
    #[must_use]
    pub fn waits_to_start(&self, now: Instant) -> Option<Duration> {
        self.first
            .filter(|(at, _)| now < *at)
            .map(|(_, delay)| delay)
    }

    /// When there may be something to download again; `None` if that does not depend on time.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let first = self.first.map(|(at, _)| at);
        let later = [first, self.pause_ends].into_iter().flatten();
        later.filter(|at| now < *at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const ALL: [&str; 2] = ["plugins", "flannel"];

    /// What it downloads now, one after the other.
    fn downloads<'a>(refetch: &mut Refetch, wanted: &[&'a str], now: Instant) -> Vec<&'a str> {
        let mut begun = Vec::new();
        while let Some(name) = refetch.next(wanted.iter().copied(), now)
            && begun.len() < 10
        {
            refetch.began(name);
            refetch.failed(now, u64::MAX);
            begun.push(name);
        }
        begun
    }

    #[test]
    fn each_is_asked_for_once_then_again_after_a_pause() {
        let now = Instant::now();
        let mut refetch = Refetch::starting(now, Duration::ZERO, Duration::ZERO);
        assert_eq!(downloads(&mut refetch, &ALL, now), ALL);
        assert!(ALL.iter().all(|name| refetch.has_tried(name)));
        let later = refetch.due(now).unwrap();
        assert_eq!(downloads(&mut refetch, &ALL, later), ALL);
        // One that turns up meanwhile does not wait for the others' pause.
        let more = ["plugins", "weave"];
        assert_eq!(downloads(&mut refetch, &more, later), ["weave"]);
    }

    #[test]
    fn the_pause_doubles_once_however_many_fail() {
        let mut now = Instant::now();
        let mut refetch = Refetch::starting(now, Duration::ZERO, Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            downloads(&mut refetch, &ALL, now);
            let due = refetch.due(now).unwrap();
            pauses.push((due - now).as_secs_f64().round());
            now = due;
        }
        assert_eq!(pauses[..3], [5.0, 10.0, 20.0]);
        assert_eq!(pauses[8], BACKOFF.max.as_secs_f64());
        refetch.settled();
        assert_eq!(refetch.due(now), None);
        downloads(&mut refetch, &ALL, now);
        assert_eq!((refetch.due(now).unwrap() - now).as_secs_f64().round(), 5.0);
    }

    #[test]
    fn a_pause_is_spread_over_its_second_half_or_over_the_window() {
        let now = Instant::now();
        let pause = |window: Duration, random: u64| {
            let mut refetch = Refetch::starting(now, Duration::ZERO, window);
            refetch.failed(now, random);
            refetch.due(now).unwrap() - now
        };
        assert_eq!(pause(Duration::ZERO, 0), BACKOFF.first / 2);
        assert_eq!(pause(Duration::ZERO, 1 << 63), BACKOFF.first * 3 / 4);
        assert_eq!(pause(60 * SECOND, 0), BACKOFF.first / 2);
        assert_eq!(pause(60 * SECOND, 1 << 63), BACKOFF.first / 2 + 30 * SECOND);
    }

    #[test]
    fn the_start_is_waited_for_unless_nothing_was_wanted_then() {
        let now = Instant::now();
        let mut refetch = Refetch::starting(now, 7 * SECOND, 60 * SECOND);
        assert_eq!(downloads(&mut refetch, &ALL, now), [""; 0]);
        // The same sentence as long as it is true.
        assert_eq!(refetch.waits_to_start(now), Some(7 * SECOND));
        assert_eq!(refetch.waits_to_start(now + SECOND), Some(7 * SECOND));
        assert_eq!(refetch.due(now), Some(now + 7 * SECOND));
        let later = now + 7 * SECOND;
        assert_eq!(refetch.waits_to_start(later), None);
        assert_eq!(refetch.next(ALL.into_iter(), later), Some(ALL[0]));
        refetch.settled();
        assert_eq!(refetch.next(ALL.into_iter(), now), Some(ALL[0]));
    }
}
