//! How long to leave the API server alone after a failure. Pure: time and chance are handed in.

use std::time::{Duration, Instant};

use crate::retry::{Backoff, Jitter, share};

/// The pauses after failures.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));

/// Failures in a row, and until when they have us wait.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pause {
    failures: u32,
    until: Option<Instant>,
}

impl Pause {
    /// Takes in how a request ended. `random` takes up to half of the pause off, so that a cluster's nodes do not come
    /// back together.
    pub(super) fn ended(&mut self, worked: bool, now: Instant, random: u64) {
        if worked {
            *self = Self::default();
            return;
        }
        let pause = BACKOFF.pause(self.failures, Jitter::UpperHalf(random));
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
    }

    /// The time given, or the end of the pause if that is later.
    pub(super) fn not_before(&self, at: Instant) -> Instant {
        self.until.map_or(at, |until| until.max(at))
    }
}

/// A tenth less to a tenth more than `period`: what a cluster's nodes do again and again, they do not do together.
pub(super) fn spread_period(period: Duration, random: u64) -> Duration {
    period * 9 / 10 + share(period / 5, random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_double_the_pause_up_to_five_minutes() {
        let now = Instant::now();
        let mut pause = Pause::default();
        assert_eq!(pause.not_before(now), now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pause.ended(false, now, u64::MAX);
            pauses.push((pause.not_before(now) - now).as_secs());
        }
        assert_eq!(pauses[..4], [1, 2, 4, 8]);
        assert_eq!(pauses[11], BACKOFF.max.as_secs());
        pause.ended(false, now, 0);
        assert_eq!(pause.not_before(now) - now, BACKOFF.max / 2);
        pause.ended(true, now, 0);
        assert_eq!(pause.not_before(now), now);
    }
}
