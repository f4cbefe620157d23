//! Many times of the same thing, and their percentiles.

use std::time::Duration;

/// Times of the same thing.
#[derive(Debug, Default)]
pub(super) struct Sample(Vec<Duration>);

impl Sample {
    /// Adds one.
    pub(super) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Adds many.
    pub(super) fn extend(&mut self, took: Vec<Duration>) {
        self.0.extend(took);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that so many per cent of them do not exceed, in milliseconds.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted
            .get(rank - 1)
            .map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
    }
}

/// A line of the table of times; `to_hold` is the p99 to keep below, in milliseconds.
pub(super) fn line(what: &str, times: &Sample, to_hold: &str) {
    let [p50, p99, worst] = [50, 99, 100].map(|percent| times.percentile(percent));
    println!(
        "{what:<44} {:>5} {p50:>8.2} {p99:>8.2} {worst:>8.2}  {to_hold}",
        times.len()
    );
}

/// The heading of that table.
pub(super) fn heading(what: &str) {
    println!(
        "\n{what:<44} {:>5} {:>8} {:>8} {:>8}  to hold",
        "n", "p50 ms", "p99 ms", "max ms"
    );
}
