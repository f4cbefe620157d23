//! How many log lines of one class are written in a minute. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a class waits for new lines after it had as many as it may have.
pub(super) const PERIOD: Duration = Duration::from_secs(60);
/// How many lines of one class are written in a period.
const MOST_LINES: u32 = 60;
/// How many classes are told apart. The others share one.
const MOST_CLASSES: usize = 256;

/// What makes lines alike: the place in the program that writes them, and what their field `kind` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineClass {
    pub(super) place: String,
    pub(super) kind: String,
}

/// Counts the lines of every class.
#[derive(Debug)]
pub(super) struct LineLimit(BTreeMap<LineClass, Window>);

#[derive(Debug)]
struct Window {
    began: Instant,
    written: u32,
    left_out: u64,
    /// The first message that was left out.
    example: String,
}

/// Lines of one class that were not written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) kind: String,
    pub(super) count: u64,
    pub(super) example: String,
}

impl LineLimit {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether a line may be written now. If not, it is counted, and `example` gives the message of the first one.
    pub(super) fn admit(
        &mut self,
        class: LineClass,
        now: Instant,
        example: impl FnOnce() -> String,
    ) -> bool {
        let class = match self.0.contains_key(&class) || self.0.len() < MOST_CLASSES {
            true => class,
            false => LineClass::default(),
        };
        let window = self.0.entry(class).or_insert_with(|| Window {
            began: now,
            written: 0,
            left_out: 0,
            example: String::new(),
        });
        if now.saturating_duration_since(window.began) >= PERIOD {
            window.began = now;
            window.written = 0;
        }
        if window.written < MOST_LINES {
            window.written += 1;
            return true;
        }
        if window.left_out == 0 {
            window.example = example();
        }
        window.left_out += 1;
        false
    }

    /// What was left out since the last call.
    pub(super) fn take_left_out(&mut self) -> Vec<LeftOut> {
        let windows = self.0.iter_mut();
        let windows = windows.filter(|(_, window)| window.left_out > 0);
        windows
            .map(|(class, window)| LeftOut {
                kind: class.kind.clone(),
                count: std::mem::take(&mut window.left_out),
                example: std::mem::take(&mut window.example),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(kind: &str) -> LineClass {
        LineClass {
            place: "here".to_owned(),
            kind: kind.to_owned(),
        }
    }

    #[test]
    fn a_flood_is_cut_and_counted_and_keeps_no_other_class_out() {
        let (mut limit, now) = (LineLimit::new(), Instant::now());
        let flood = |limit: &mut LineLimit, now| {
            let lines = (0..1000)
                .filter(|number| limit.admit(class("shadowed"), now, || format!("line {number}")));
            lines.count()
        };
        assert_eq!(flood(&mut limit, now), MOST_LINES as usize);
        assert!(limit.admit(class("missing"), now, String::new));
        let expected = LeftOut {
            kind: "shadowed".to_owned(),
            count: 1000 - u64::from(MOST_LINES),
            example: format!("line {MOST_LINES}"),
        };
        assert_eq!(limit.take_left_out(), [expected]);
        assert_eq!(limit.take_left_out(), []);
        // Within the period nothing is written, after it as much as before.
        assert_eq!(flood(&mut limit, now + PERIOD / 2), 0);
        assert_eq!(flood(&mut limit, now + PERIOD), MOST_LINES as usize);
        assert_eq!(limit.take_left_out()[0].count, 2000 - u64::from(MOST_LINES));
    }

    #[test]
    fn the_classes_are_bounded() {
        let (mut limit, now) = (LineLimit::new(), Instant::now());
        for number in 0..10_000 {
            limit.admit(class(&number.to_string()), now, String::new);
        }
        assert!(limit.0.len() <= MOST_CLASSES + 1);
    }
}
