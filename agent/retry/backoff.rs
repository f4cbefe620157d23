//! The pause that doubles with each failure in a row.

use std::time::Duration;

use super::spread::take_share;

/// How long to wait before the next try: twice as long after each failure, up to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failure.
    pub first: Duration,
    /// The longest pause.
    pub max: Duration,
}

/// Which part of a pause is random, so that the nodes of a cluster do not all come back at the same moment. The number
/// is the random value: each value of 64 bits must be equally likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// No part. The pause is exactly the doubled one.
    None,
    /// One half. The pause is between half of the doubled one and all of it.
    UpperHalf(u64),
    /// All of it. The pause is between zero and the doubled one. This spreads a whole cluster best after an outage.
    Full(u64),
}

impl Backoff {
    /// Doubles from `first` to `max`.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// The pause after a failure. `earlier` is the number of failures in a row before it, 0 for the first.
    #[must_use]
    pub fn pause(&self, earlier: u32, jitter: Jitter) -> Duration {
        let factor = 1_u32.checked_shl(earlier).unwrap_or(u32::MAX);
        let pause = self.first.saturating_mul(factor).min(self.max);
        match jitter {
            Jitter::None => pause,
            Jitter::UpperHalf(random) => pause / 2 + take_share(pause / 2, random),
            Jitter::Full(random) => take_share(pause, random),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));

    #[test]
    fn the_pause_doubles_up_to_the_limit() {
        for (earlier, seconds) in [
            (0, 1),
            (1, 2),
            (2, 4),
            (3, 5),
            (31, 5),
            (32, 5),
            (u32::MAX, 5),
        ] {
            let pause = Duration::from_secs(seconds);
            assert_eq!(BACKOFF.pause(earlier, Jitter::None), pause, "{earlier}");
        }
    }

    #[test]
    fn jitter_spreads_the_pause_over_half_or_all_of_it() {
        let second = Duration::from_secs(1);
        for (jitter, pause) in [
            (Jitter::UpperHalf(0), second / 2),
            (Jitter::UpperHalf(1 << 63), second * 3 / 4),
            (Jitter::UpperHalf(u64::MAX), second),
            (Jitter::Full(0), Duration::ZERO),
            (Jitter::Full(1 << 63), second / 2),
            (Jitter::Full(u64::MAX), second),
        ] {
            assert_eq!(BACKOFF.pause(0, jitter), pause, "{jitter:?}");
        }
    }

    #[test]
    fn no_pause_at_all_is_possible() {
        let none = Backoff::new(Duration::ZERO, Duration::MAX);
        assert_eq!(none.pause(9, Jitter::Full(u64::MAX)), Duration::ZERO);
    }
}
