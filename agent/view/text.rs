//! Texts and times in the form in which people may see them.

use std::fmt::Display;
use std::time::SystemTime;

use crate::model::{Timestamp, escape_controls};
use crate::redact::redact_text;

/// A point in time, as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownTime {
    /// RFC 3339 in UTC, with milliseconds.
    pub exact: String,
    /// `3 min ago`. `None` if the time has not come yet, because the clock was set back.
    pub age: Option<String>,
}

impl ShownTime {
    pub(super) fn new(at: Timestamp, now: SystemTime) -> Self {
        Self {
            exact: at.to_string(),
            age: at.format_age(now),
        }
    }

    /// The age, or the time itself if it has none.
    #[must_use]
    pub fn age_or_exact(&self) -> &str {
        self.age.as_deref().unwrap_or(&self.exact)
    }
}

/// A text from anywhere, without secrets and on one line. File names, reasons, foreign conflists and the output of
/// plugins are hostile: whatever the agent did not write itself goes through here.
#[must_use]
pub fn display_safe(text: impl Display) -> String {
    escape_controls(&redact_text(&text.to_string())).into_owned()
}

/// `1 file`, `3 files`.
#[must_use]
pub fn count_of(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_text_breaks_a_line_or_controls_a_terminal() {
        assert_eq!(display_safe("a\nb\0\x1b[2J"), r"a\nb\u{0}\u{1b}[2J");
        assert_eq!(display_safe("conf\u{202e}tsilf"), r"conf\u{202e}tsilf");
        assert_eq!(display_safe("Überlänge 网络"), "Überlänge 网络");
    }

    /// Fault 58: neither page nor terminal shows secrets.
    #[test]
    fn no_text_holds_a_secret() {
        let shown = display_safe("https://user:HUSH@mirror/p.tgz?sig=HUSH: <no> answer");
        assert!(!shown.contains("HUSH"), "{shown}");
        assert!(shown.contains("mirror/p.tgz"), "{shown}");
        assert!(shown.ends_with("<no> answer"), "{shown}");
    }

    #[test]
    fn a_time_that_has_not_come_has_no_age() {
        let at = Timestamp(SystemTime::UNIX_EPOCH);
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(180);
        let shown = ShownTime::new(at, later);
        assert_eq!(shown.age_or_exact(), "3 min ago");
        let shown = ShownTime::new(Timestamp(later), at.0);
        assert_eq!(shown.age_or_exact(), "1970-01-01T00:03:00.000Z");
    }
}
