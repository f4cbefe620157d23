//! The findings of one conflist while it is validated.

use super::finding::{ConflistSummary, Finding, Severity, ValidationReport};

/// The findings so far.
#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn error(&mut self, at: &str, problem: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding::error(at, problem, fix));
    }

    pub(super) fn warning(&mut self, at: &str, problem: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding {
            severity: Severity::Warning,
            ..Finding::error(at, problem, fix)
        });
    }

    /// A value of the wrong JSON type; `got` and `want` have an article.
    pub(super) fn wrong_type(&mut self, got: &str, at: &str, want: &str) {
        self.error(at, format!("it is {got}"), format!("write {want}"));
    }

    pub(super) fn has_errors(&self) -> bool {
        self.0.iter().any(|found| found.severity == Severity::Error)
    }

    pub(super) fn into_report(mut self, summary: Option<ConflistSummary>) -> ValidationReport {
        self.0.sort_by_key(|found| found.severity);
        ValidationReport {
            findings: self.0,
            summary,
        }
    }
}
