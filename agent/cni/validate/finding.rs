//! What validation finds.

use std::fmt;

use crate::model::label_enum;

label_enum! {
    /// How bad a finding is.
    pub enum Severity {
        /// The conflist is not written.
        Error = "error",
        /// It works, but is probably a mistake.
        Warning = "warning",
    }
}

/// One mistake, or probable mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether the conflist may still be written.
    pub severity: Severity,
    /// Where, as in `plugins[1].ipam.type`; empty for the whole document.
    pub at: String,
    /// What is wrong, without a full stop.
    pub problem: String,
    /// How to fix it, as an imperative.
    pub fix: String,
}

/// The fields of a conflist that the runtimes read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflistSummary {
    /// The network's name.
    pub name: String,
    /// The CNI version that libcni ≥ 1.2 selects; empty means 0.1.0.
    pub version: String,
    /// The CNI version for libcni 1.1 (containerd 1.7), which does not read `cniVersions`; empty means 0.1.0.
    pub version_without_list: String,
    /// The `type` of every plugin, in call order.
    pub chain: Vec<String>,
    /// The `ipam.type` of each plugin that has one, in call order.
    pub ipam: Vec<String>,
    /// The capabilities that any plugin switches on, sorted.
    pub capabilities: Vec<String>,
    /// `loadOnlyInlinedPlugins`: whether libcni ≥ 1.3 ignores drop-ins.
    pub only_inlined: bool,
}

/// The result of validating one conflist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationReport {
    /// Everything found, errors first.
    pub findings: Vec<Finding>,
    /// Its main fields; `None` if the newest libcni would not load it.
    pub summary: Option<ConflistSummary>,
}

impl ValidationReport {
    /// Whether the conflist may be written.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.errors().next().is_none()
    }

    /// The findings for which it must not be written.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.of(Severity::Error)
    }

    /// The findings that work but are probably mistakes.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.of(Severity::Warning)
    }

    fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        let findings = self.findings.iter();
        findings.filter(move |finding| finding.severity == severity)
    }
}

impl Finding {
    /// The problem and its fix, as one line.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{}; {}", self.problem, self.fix)
    }

    /// Whether the conflist must not be written.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    pub(crate) fn error(
        at: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            at: at.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity)?;
        if !self.at.is_empty() {
            write!(f, "{}: ", self.at)?;
        }
        f.write_str(&self.describe())
    }
}
