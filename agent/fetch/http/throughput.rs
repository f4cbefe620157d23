//! The least throughput: a source that drips must not hold a node for hours.

use std::time::Duration;

/// Measures the throughput over windows of time spent waiting for the network.
///
/// Only waiting for the network counts: a slow disk is not the source's fault.
#[derive(Debug)]
pub(in crate::fetch) struct ThroughputMeter {
    window: Duration,
    min_rate: u64,
    waited: Duration,
    bytes: u64,
}

impl ThroughputMeter {
    /// `min_rate` is in bytes a second; 0 turns the check off.
    pub(in crate::fetch) const fn new(window: Duration, min_rate: u64) -> Self {
        Self {
            window,
            min_rate,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Adds `bytes` that came after `waited`.
    ///
    /// # Errors
    /// At the end of a window that was too slow: its rate in bytes a second.
    pub(in crate::fetch) fn record_wait(
        &mut self,
        waited: Duration,
        bytes: u64,
    ) -> Result<(), u64> {
        self.waited = self.waited.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.min_rate == 0 || self.waited < self.window || self.waited.is_zero() {
            return Ok(());
        }
        let rate = u128::from(self.bytes) * 1_000_000_000 / self.waited.as_nanos();
        self.waited = Duration::ZERO;
        self.bytes = 0;
        match u64::try_from(rate) {
            Ok(rate) if rate < self.min_rate => Err(rate),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Fault 39: a drip is caught at the end of its first full window, not before.
    #[test]
    fn fault_39_a_drip_is_caught_at_the_end_of_a_window() {
        let mut meter = ThroughputMeter::new(3 * SECOND, 100);
        assert_eq!(meter.record_wait(SECOND, 50), Ok(()));
        assert_eq!(meter.record_wait(SECOND, 50), Ok(()));
        assert_eq!(meter.record_wait(SECOND, 50), Err(50));
    }

    #[test]
    fn a_slow_moment_in_a_fast_window_is_forgiven_and_windows_are_apart() {
        let mut meter = ThroughputMeter::new(2 * SECOND, 100);
        assert_eq!(meter.record_wait(SECOND, 1), Ok(()));
        assert_eq!(meter.record_wait(SECOND, 199), Ok(()), "exactly the least");
        assert_eq!(meter.record_wait(2 * SECOND, 199), Err(99));
    }

    #[test]
    fn bytes_without_waiting_and_a_least_of_zero_never_fail() {
        let mut instant = ThroughputMeter::new(Duration::ZERO, u64::MAX);
        assert_eq!(instant.record_wait(Duration::ZERO, 1), Ok(()));
        let mut off = ThroughputMeter::new(SECOND, 0);
        assert_eq!(off.record_wait(Duration::MAX, 0), Ok(()));
    }
}
