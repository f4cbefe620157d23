//! Durations as people write them.

use std::time::Duration;

/// A duration with a precision that is useful to a reader: `0.4 ms`, `32 ms`, `4.2 s`, `12 min`, `3 h 12 min`, `5 d 4
/// h`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    let minutes = duration.as_secs() / 60;
    // A value that rounds up to the next unit is shown in that unit: never `1000 ms`.
    match millis {
        ..9.95 => format!("{} ms", format_tenths(millis)),
        ..999.5 => format!("{millis:.0} ms"),
        ..9_950.0 => format!("{} s", format_tenths(millis / 1e3)),
        ..60_000.0 => format!("{} s", duration.as_secs()),
        _ => match (minutes / 60, minutes % 60) {
            (0, minutes) => format!("{minutes} min"),
            (hours @ 1..24, 0) => format!("{hours} h"),
            (hours @ 1..24, minutes) => format!("{hours} h {minutes} min"),
            (hours, _) => match (hours / 24, hours % 24) {
                (days, 0) => format!("{days} d"),
                (days, hours) => format!("{days} d {hours} h"),
            },
        },
    }
}

/// A number with one decimal, unless that is zero.
fn format_tenths(number: f64) -> String {
    let number = format!("{number:.1}");
    number
        .strip_suffix(".0")
        .map_or(number.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_the_precision_that_a_reader_can_use() {
        let of = |micros| format_duration(Duration::from_micros(micros));
        assert_eq!(of(0), "0 ms");
        assert_eq!(of(420), "0.4 ms");
        assert_eq!(of(9_960), "10 ms");
        assert_eq!(of(31_700), "32 ms");
        assert_eq!(of(999_600), "1 s");
        assert_eq!(of(4_230_000), "4.2 s");
        assert_eq!(of(59_999_000), "59 s");
        let of = |seconds| format_duration(Duration::from_secs(seconds));
        assert_eq!(of(60), "1 min");
        assert_eq!(of(3_600), "1 h");
        assert_eq!(of(11_520), "3 h 12 min");
        assert_eq!(of(86_400), "1 d");
        assert_eq!(of(5 * 86_400 + 4 * 3_600 + 59), "5 d 4 h");
    }
}
