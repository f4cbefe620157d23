//! The checks, and what can be done about those that fail.

use super::text::display_safe;
use super::tone::Tone;
use crate::model::{Check, CheckName, DriftPolicy, Status};

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRow {
    /// The check.
    pub name: CheckName,
    /// How it stands.
    pub tone: Tone,
    /// The same in a word: `ok`, `odd` or `failed`.
    pub word: &'static str,
    /// Why it fails.
    pub failures: Vec<String>,
    /// What is odd but works.
    pub warnings: Vec<String>,
    /// The advice that fits every failure of this check. Commands and settings in it stand in backquotes.
    pub advice: Option<&'static str>,
}

pub(super) fn check_rows(status: &Status) -> Vec<CheckRow> {
    let policy = status.declared.policy;
    let checks = status.snapshot.checks.iter();
    checks.map(|check| check_row(check, policy)).collect()
}

fn check_row(check: &Check, policy: DriftPolicy) -> CheckRow {
    let (word, tone) = match (check.failures.is_empty(), check.warnings.is_empty()) {
        (true, true) => ("ok", Tone::Good),
        (true, false) => ("odd", Tone::Odd),
        (false, _) => ("failed", Tone::Bad),
    };
    CheckRow {
        name: check.name,
        tone,
        word,
        failures: check.failures.iter().map(display_safe).collect(),
        warnings: check.warnings.iter().map(display_safe).collect(),
        advice: advise_on(check.name, policy),
    }
}

/// Advice for the check as a whole. A failure's own line says how to fix that failure.
const fn advise_on(check: CheckName, policy: DriftPolicy) -> Option<&'static str> {
    match (check, policy) {
        (CheckName::Binaries | CheckName::Conflist, DriftPolicy::Report) => Some(
            "The policy is report, so nothing is written. `cni-keeper install` fixes it once, \
             `drift.policy: heal` from then on.",
        ),
        (CheckName::Binaries | CheckName::Conflist, DriftPolicy::Heal) => Some(
            "The agent fixes it without your help as soon as that is possible; the drift log says what it waits for.",
        ),
        (CheckName::Config, _) => Some(
            "The last good configuration stays in force. The agent reads the file again when it changes; \
             `cni-keeper validate` says beforehand whether it is good.",
        ),
        (CheckName::Precedence, _) => Some("Until then, new pods get another network or none."),
        (CheckName::Plugins, _) => {
            Some("Until then, pods can neither be set up nor taken down cleanly.")
        }
        (CheckName::Gates, _) => Some(
            "The conflist is written as soon as this holds. Check what should provide it, usually a network daemon.",
        ),
        (CheckName::Conflict, _) => Some(
            "Another program undoes the repairs. Find it and stop it, or stop declaring the file here: \
             the two cannot work together.",
        ),
        (CheckName::Runtime, _) => {
            Some("Right files are not enough: pods need the runtime to have loaded them.")
        }
        (
            CheckName::Watch
            | CheckName::Endpoint
            | CheckName::Look
            | CheckName::Loop
            | CheckName::Unknown,
            _,
        ) => None,
    }
}
