//! The drift of the files, and the failures of the agent's own work.

use std::time::SystemTime;

use super::text::{ShownTime, display_safe};
use super::tone::Tone;
use crate::model::{DriftRecord, Outcome, RecordedError, Status, format_duration};

/// One drift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftRow {
    /// When it was noticed.
    pub at: ShownTime,
    /// The file's name.
    pub name: String,
    /// The file's path.
    pub path: String,
    /// What was found, as a sentence without its subject.
    pub what: String,
    /// The kind of drift.
    pub kind: String,
    /// What was there.
    pub before: String,
    /// What is there since then.
    pub after: Option<String>,
    /// How it ended.
    pub tone: Tone,
    /// The same in words: `open`, `healed in 12 ms`, `gone by itself after 3 s`.
    pub end: String,
    /// How it was fixed, or why not yet.
    pub end_reason: Option<String>,
    /// What else is known: how often it happened, and who did it.
    pub details: Vec<String>,
}

/// One failure of the agent's own work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorRow {
    /// When it last happened.
    pub at: ShownTime,
    /// What happened, and what to do.
    pub what: String,
    /// `4 times in a row`, if it happened more than once.
    pub times: Option<String>,
}

pub(super) fn drift_rows(status: &Status, now: SystemTime) -> Vec<DriftRow> {
    let drifts = status.drift.iter();
    drifts.map(|drift| drift_row(drift, now)).collect()
}

fn drift_row(drift: &DriftRecord, now: SystemTime) -> DriftRow {
    let name = drift.path.file_name().unwrap_or(drift.path.as_os_str());
    let (tone, end, end_reason) = describe_end(&drift.outcome);
    let by = drift.by.as_ref().map(|by| display_safe(format!("by {by}")));
    DriftRow {
        at: ShownTime::new(drift.at, now),
        name: display_safe(name.display()),
        path: display_safe(drift.path.display()),
        what: display_safe(&drift.what),
        kind: display_safe(drift.kind),
        before: display_safe(&drift.before),
        after: drift.after.as_ref().map(display_safe),
        tone,
        end,
        end_reason,
        details: times_in_a_row(drift.times).into_iter().chain(by).collect(),
    }
}

fn describe_end(outcome: &Outcome) -> (Tone, String, Option<String>) {
    match outcome {
        Outcome::Open { waiting } => (
            Tone::Bad,
            "open".to_owned(),
            waiting.as_ref().map(display_safe),
        ),
        Outcome::Healed { how, took } => {
            let end = format!("healed in {}", format_duration(*took));
            (Tone::Good, end, Some(display_safe(how)))
        }
        Outcome::Gone { after } => {
            let end = format!("gone by itself after {}", format_duration(*after));
            (Tone::Odd, end, None)
        }
    }
}

pub(super) fn error_rows(status: &Status, now: SystemTime) -> Vec<ErrorRow> {
    let row = |error: &RecordedError| ErrorRow {
        at: ShownTime::new(error.at, now),
        what: display_safe(&error.what),
        times: times_in_a_row(error.times),
    };
    status.errors.iter().map(row).collect()
}

fn times_in_a_row(times: u32) -> Option<String> {
    (times > 1).then(|| format!("{times} times in a row"))
}
