//! What the running agent downloads next, and when.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::backoff::{Backoff, Jitter};
use super::spread::take_share;

/// The pauses after every wanted artifact was tried and one of them failed. Each download has tried every source
/// several times by then.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(300));

/// The order of downloads. Each wanted artifact is tried once, so that one that is not available does not delay the
/// others; after a pause, each of them is tried again.
#[derive(Debug, Default)]
pub struct Refetch {
    /// The time over which the nodes of a cluster spread their downloads, at their start and after an outage.
    window: Duration,
    /// When the first download may begin, and how long after the start that is.
    first: Option<(Instant, Duration)>,
    /// What was tried since the last pause.
    tried: BTreeSet<String>,
    /// How many rounds in a row had a failure, and whether this round had one.
    failures: u32,
    failed: bool,
    pause_ends: Option<Instant>,
}

impl Refetch {
    /// For an agent that starts now, or that gets another configuration. `delay` is this node's part of `window`: how long
    /// it waits before its first download.
    #[must_use]
    pub fn with_delay(now: Instant, delay: Duration, window: Duration) -> Self {
        Self {
            window,
            first: now.checked_add(delay).map(|at| (at, delay)),
            ..Self::default()
        }
    }

    /// Which of the wanted artifacts to download now.
    pub fn next_download<'a>(
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

    /// The download of this artifact begins.
    pub fn record_start(&mut self, name: &str) {
        if !self.tried.insert(name.to_owned()) {
            self.tried = BTreeSet::from([name.to_owned()]);
            self.failed = false;
        }
    }

    /// Whether a download of this artifact was tried since the last pause.
    #[must_use]
    pub fn has_tried(&self, name: &str) -> bool {
        self.tried.contains(name)
    }

    /// A download failed, or its result could not be used. `random` spreads the next one over half of the pause, or
    /// over the window if that is longer, so that the nodes of a cluster do not all come back at the same moment.
    pub fn record_failure(&mut self, now: Instant, random: u64) {
        // All failures between two pauses count once: ten artifacts on one dead mirror are one outage.
        if !self.failed {
            self.failed = true;
            self.failures = self.failures.saturating_add(1);
        }
        let half = BACKOFF.pause(self.failures - 1, Jitter::None) / 2;
        let pause = half + take_share(half.max(self.window), random);
        self.pause_ends = now.checked_add(pause);
    }

    /// Nothing is wanted any more. A later download has another reason and does not wait.
    pub fn reset(&mut self) {
        *self = Self {
            window: self.window,
            ..Self::default()
        };
    }

    /// The delay of the first download, until it has passed.
    #[must_use]
    pub fn waits_to_start(&self, now: Instant) -> Option<Duration> {
        self.first
            .filter(|(at, _)| now < *at)
            .map(|(_, delay)| delay)
    }

    /// When the next download may begin; `None` if none waits for a time.
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
        while let Some(name) = refetch.next_download(wanted.iter().copied(), now)
            && begun.len() < 10
        {
            refetch.record_start(name);
            refetch.record_failure(now, u64::MAX);
            begun.push(name);
        }
        begun
    }

    #[test]
    fn each_is_asked_for_once_then_again_after_a_pause() {
        let now = Instant::now();
        let mut refetch = Refetch::with_delay(now, Duration::ZERO, Duration::ZERO);
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
        let mut refetch = Refetch::with_delay(now, Duration::ZERO, Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            downloads(&mut refetch, &ALL, now);
            let due = refetch.due(now).unwrap();
            pauses.push((due - now).as_secs_f64().round());
            now = due;
        }
        assert_eq!(pauses[..3], [5.0, 10.0, 20.0]);
        assert_eq!(pauses[8], BACKOFF.max.as_secs_f64());
        refetch.reset();
        assert_eq!(refetch.due(now), None);
        downloads(&mut refetch, &ALL, now);
        assert_eq!((refetch.due(now).unwrap() - now).as_secs_f64().round(), 5.0);
    }

    #[test]
    fn a_pause_is_spread_over_its_second_half_or_over_the_window() {
        let now = Instant::now();
        let pause = |window: Duration, random: u64| {
            let mut refetch = Refetch::with_delay(now, Duration::ZERO, window);
            refetch.record_failure(now, random);
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
        let mut refetch = Refetch::with_delay(now, 7 * SECOND, 60 * SECOND);
        assert_eq!(downloads(&mut refetch, &ALL, now), [""; 0]);
        // The same sentence as long as it is true.
        assert_eq!(refetch.waits_to_start(now), Some(7 * SECOND));
        assert_eq!(refetch.waits_to_start(now + SECOND), Some(7 * SECOND));
        assert_eq!(refetch.due(now), Some(now + 7 * SECOND));
        let later = now + 7 * SECOND;
        assert_eq!(refetch.waits_to_start(later), None);
        assert_eq!(refetch.next_download(ALL.into_iter(), later), Some(ALL[0]));
        refetch.reset();
        assert_eq!(refetch.next_download(ALL.into_iter(), now), Some(ALL[0]));
    }
}
