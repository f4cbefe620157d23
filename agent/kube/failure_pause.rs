//! How long to wait before the next request after a failure. Pure: time and randomness are arguments.

use std::time::{Duration, Instant};

use crate::retry::{Backoff, Jitter, take_share};

/// The pauses after failures.
const REQUEST_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));

/// The failures in a row, and until when to wait because of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FailurePause {
    failures: u32,
    until: Option<Instant>,
}

impl FailurePause {
    /// Records how a request ended. `random` shortens the pause by up to half, so that the nodes of a cluster do not
    /// all come back at the same moment.
    pub(super) fn record_outcome(&mut self, worked: bool, now: Instant, random: u64) {
        if worked {
            *self = Self::default();
            return;
        }
        let pause = REQUEST_BACKOFF.pause(self.failures, Jitter::UpperHalf(random));
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
    }

    /// The time given, or the end of the pause if that is later.
    pub(super) fn delay_until_allowed(&self, at: Instant) -> Instant {
        self.until.map_or(at, |until| until.max(at))
    }
}

/// A period between 90 % and 110 % of `period`, so that the nodes of a cluster do not act at the same moment.
pub(super) fn spread_period(period: Duration, random: u64) -> Duration {
    period * 9 / 10 + take_share(period / 5, random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_double_the_pause_up_to_five_minutes() {
        let now = Instant::now();
        let mut pause = FailurePause::default();
        assert_eq!(pause.delay_until_allowed(now), now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pause.record_outcome(false, now, u64::MAX);
            pauses.push((pause.delay_until_allowed(now) - now).as_secs());
        }
        assert_eq!(pauses[..4], [1, 2, 4, 8]);
        assert_eq!(pauses[11], REQUEST_BACKOFF.max.as_secs());
        pause.record_outcome(false, now, 0);
        assert_eq!(
            pause.delay_until_allowed(now) - now,
            REQUEST_BACKOFF.max / 2
        );
        pause.record_outcome(true, now, 0);
        assert_eq!(pause.delay_until_allowed(now), now);
    }
}
