//! How long to leave the API server alone after a failure. Pure: time and chance are handed in.

use std::time::{Duration, Instant};

/// The pause after the first failure; it doubles.
const FIRST: Duration = Duration::from_secs(1);
/// What the doubling stops at.
const LONGEST: Duration = Duration::from_secs(300);

/// Failures in a row, and until when they have us wait.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pause {
    failures: u32,
    until: Option<Instant>,
}

impl Pause {
    /// Takes in how a request ended. `random` (0 to 1) takes up to half of the pause off, so that a cluster's nodes do
    /// not come back together.
    pub(super) fn ended(&mut self, worked: bool, now: Instant, random: f64) {
        if worked {
            *self = Self::default();
            return;
        }
        let pause = FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST);
        self.failures += 1;
        self.until = Some(now + pause.mul_f64(0.5 + random / 2.0));
    }

    /// The time given, or the end of the pause if that is later.
    pub(super) fn not_before(&self, at: Instant) -> Instant {
        self.until.map_or(at, |until| until.max(at))
    }
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
            pause.ended(false, now, 1.0);
            pauses.push((pause.not_before(now) - now).as_secs());
        }
        assert_eq!(pauses[..4], [1, 2, 4, 8]);
        assert_eq!(pauses[11], LONGEST.as_secs());
        pause.ended(false, now, 0.0);
        assert_eq!(pause.not_before(now) - now, LONGEST / 2);
        pause.ended(true, now, 0.0);
        assert_eq!(pause.not_before(now), now);
    }
}
