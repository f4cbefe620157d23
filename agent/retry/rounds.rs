//! Which of several sources to ask next, and when.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::backoff::{Backoff, Jitter};
use super::retry_after::RETRY_AFTER_MAX;
use super::verdict::{Verdict, verdict_on};
use crate::model::FailureKind;

/// How often a source is asked again at once, before it counts as failed.
const MAX_RESUMES: u32 = 3;

/// How long to pause between rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundsPolicy {
    /// The pauses between two rounds, each with full jitter.
    pub backoff: Backoff,
    /// The longest `Retry-After` that is waited for, so that a server cannot stop a node for an hour.
    pub retry_after_max: Duration,
}

impl Default for RoundsPolicy {
    /// Pauses from 1 s, doubled up to 30 s, and at most a minute if a server asks for more.
    fn default() -> Self {
        Self {
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
            retry_after_max: RETRY_AFTER_MAX,
        }
    }
}

impl RoundsPolicy {
    /// How much of a server's `Retry-After` is waited for.
    #[must_use]
    pub fn honoured_wait(&self, retry_after: Duration) -> Duration {
        retry_after.min(self.retry_after_max)
    }
}

/// Rounds over an ordered list of sources until one of them gives the file.
///
/// Each round asks every source once, in order. Between two rounds there is a pause with jitter. A source whose failure
/// lasts is left out of later rounds.
#[derive(Debug)]
pub struct Rounds {
    sources: Vec<SourceTurn>,
    policy: RoundsPolicy,
    attempts: u32,
    round: u32,
    /// Where this round goes on.
    cursor: usize,
    /// The source that is asked again at once, and how often it was.
    resumed: Option<usize>,
    resumes: u32,
}

/// What a download does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask the source with this index.
    Ask(usize),
    /// Ask no source for this long, then call [`Rounds::next_step`] again.
    Wait(Duration),
    /// No source is worth another try.
    Over,
}

/// When a source may be asked.
#[derive(Debug, Clone, Copy)]
enum SourceTurn {
    /// Not before this moment; `None`: at any time.
    After(Option<Instant>),
    /// Not again.
    Spent,
}

impl SourceTurn {
    fn is_due(self, now: Instant) -> bool {
        match self {
            Self::After(moment) => moment.is_none_or(|moment| moment <= now),
            Self::Spent => false,
        }
    }
}

impl Rounds {
    /// At most `attempts` rounds over this number of sources.
    #[must_use]
    pub fn new(sources: usize, attempts: NonZeroU32, policy: RoundsPolicy) -> Self {
        Self {
            sources: vec![SourceTurn::After(None); sources],
            policy,
            attempts: attempts.get(),
            round: 0,
            cursor: 0,
            resumed: None,
            resumes: 0,
        }
    }

    /// What to do next. `random` decides the length of a pause.
    pub fn next_step(&mut self, now: Instant, random: u64) -> Next {
        if let Some(index) = self.resumed.take() {
            return Next::Ask(index);
        }
        self.resumes = 0;
        let due = |state: &SourceTurn| state.is_due(now);
        if let Some(ahead) = self.sources[self.cursor..].iter().position(due) {
            let index = self.cursor + ahead;
            self.cursor = index + 1;
            return Next::Ask(index);
        }
        self.round += 1;
        self.cursor = 0;
        match self.first_due(now) {
            Some(wait) if self.round < self.attempts => {
                let backoff = self.policy.backoff;
                Next::Wait(wait.max(backoff.pause(self.round - 1, Jitter::Full(random))))
            }
            _ => Next::Over,
        }
    }

    /// Has the source `index`, which was asked last, asked again at once: its body broke off, and the rest is wanted.
    /// Returns `false` if that was done often enough; it counts as failed then.
    pub const fn resume(&mut self, index: usize) -> bool {
        if self.resumes == MAX_RESUMES {
            return false;
        }
        self.resumes += 1;
        self.resumed = Some(index);
        true
    }

    /// Records that the source `index` failed in this way. `retry_after` is the wait that its answer asked for.
    pub fn record_failure(
        &mut self,
        index: usize,
        kind: FailureKind,
        retry_after: Option<Duration>,
        now: Instant,
    ) {
        let state = match verdict_on(kind, retry_after) {
            Verdict::Retry { after } => {
                let honoured = after.map(|after| self.policy.honoured_wait(after));
                SourceTurn::After(honoured.and_then(|after| now.checked_add(after)))
            }
            Verdict::NextSource => SourceTurn::Spent,
        };
        if let Some(source) = self.sources.get_mut(index) {
            *source = state;
        }
    }

    /// How long until the first source may be asked again; `None` if none ever may.
    fn first_due(&self, now: Instant) -> Option<Duration> {
        let waits = self.sources.iter().filter_map(|state| match state {
            SourceTurn::After(None) => Some(Duration::ZERO),
            SourceTurn::After(Some(moment)) => Some(moment.saturating_duration_since(now)),
            SourceTurn::Spent => None,
        });
        waits.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RoundsPolicy = RoundsPolicy {
        backoff: Backoff::new(Duration::from_secs(2), Duration::from_secs(8)),
        retry_after_max: Duration::from_secs(60),
    };
    /// The randomness that asks for half of the longest pause.
    const HALF: u64 = 1 << 63;

    fn rounds(sources: usize, attempts: u32) -> Rounds {
        Rounds::new(sources, NonZeroU32::new(attempts).unwrap(), POLICY)
    }

    #[test]
    fn every_source_is_asked_in_order_then_again_after_a_pause() {
        let (mut rounds, now) = (rounds(2, 2), Instant::now());
        for index in [0, 1] {
            assert_eq!(rounds.next_step(now, 0), Next::Ask(index));
            rounds.record_failure(index, FailureKind::Connect, None, now);
        }
        assert_eq!(
            rounds.next_step(now, HALF),
            Next::Wait(Duration::from_secs(1))
        );
        let now = now + Duration::from_secs(2);
        for index in [0, 1] {
            assert_eq!(rounds.next_step(now, 0), Next::Ask(index));
            rounds.record_failure(index, FailureKind::Connect, None, now);
        }
        assert_eq!(rounds.next_step(now, HALF), Next::Over);
    }

    #[test]
    fn what_lasts_is_not_asked_again_and_nothing_left_is_the_end() {
        let (mut rounds, now) = (rounds(2, 5), Instant::now());
        rounds.next_step(now, 0);
        rounds.record_failure(0, FailureKind::Digest, None, now);
        rounds.next_step(now, 0);
        rounds.record_failure(1, FailureKind::Dns, None, now);
        assert_eq!(rounds.next_step(now, 0), Next::Wait(Duration::ZERO));
        assert_eq!(rounds.next_step(now, 0), Next::Ask(1));
        rounds.record_failure(1, FailureKind::Status(404), None, now);
        assert_eq!(rounds.next_step(now, 0), Next::Over);
    }

    /// Fault 45: a server's wish is waited for, and nobody else is kept waiting by it.
    #[test]
    fn fault_45_a_source_that_asked_for_time_gets_it() {
        let (mut rounds, now) = (rounds(2, 5), Instant::now());
        let minute = Some(Duration::from_secs(3600));
        rounds.next_step(now, 0);
        rounds.record_failure(0, FailureKind::Status(503), minute, now);
        rounds.next_step(now, 0);
        rounds.record_failure(1, FailureKind::Reset, None, now);
        assert_eq!(rounds.next_step(now, 0), Next::Wait(Duration::ZERO));
        assert_eq!(
            rounds.next_step(now, 0),
            Next::Ask(1),
            "the first one rests"
        );
        rounds.record_failure(1, FailureKind::Status(404), None, now);
        let capped = POLICY.retry_after_max;
        assert_eq!(rounds.next_step(now, HALF), Next::Wait(capped));
        assert_eq!(rounds.next_step(now + capped, 0), Next::Ask(0));
    }

    #[test]
    fn a_body_that_breaks_off_is_resumed_at_once_and_not_for_ever() {
        let (mut rounds, now) = (rounds(2, 1), Instant::now());
        assert_eq!(rounds.next_step(now, 0), Next::Ask(0));
        for _ in 0..MAX_RESUMES {
            assert!(rounds.resume(0));
            assert_eq!(rounds.next_step(now, 0), Next::Ask(0));
        }
        assert!(!rounds.resume(0));
        rounds.record_failure(0, FailureKind::Truncated, None, now);
        assert_eq!(rounds.next_step(now, 0), Next::Ask(1));
        assert!(rounds.resume(1), "each source has resumes of its own");
        assert_eq!(rounds.next_step(now, 0), Next::Ask(1));
        assert_eq!(rounds.next_step(now, 0), Next::Over);
    }

    #[test]
    fn without_sources_there_is_nothing_to_do() {
        assert_eq!(rounds(0, 5).next_step(Instant::now(), 0), Next::Over);
    }

    /// Fault 45: `Retry-After` is capped.
    #[test]
    fn fault_45_a_server_cannot_stop_a_node_for_an_hour() {
        let policy = RoundsPolicy::default();
        assert_eq!(
            policy.honoured_wait(Duration::from_secs(u64::MAX)),
            policy.retry_after_max
        );
        assert_eq!(
            policy.honoured_wait(Duration::from_secs(3)),
            Duration::from_secs(3)
        );
    }
}
