//! What the operator wants done about drift and about foreign conflists.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether drift is fixed or only reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriftPolicy {
    /// Fix it.
    Heal,
    /// Observe and report, write nothing.
    Report,
}

/// What to do about a foreign conflist that the runtime would take instead of the declared one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForeignConflists {
    /// Report it and leave it.
    Report,
    /// Rename it to a name that no runtime reads. Uninstall restores the name.
    Disable,
}

impl DriftPolicy {
    /// Every policy.
    pub const ALL: [Self; 2] = [Self::Heal, Self::Report];

    /// The one spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heal => "heal",
            Self::Report => "report",
        }
    }
}

impl ForeignConflists {
    /// Every policy.
    pub const ALL: [Self; 2] = [Self::Report, Self::Disable];

    /// The one spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Disable => "disable",
        }
    }
}

impl fmt::Display for DriftPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ForeignConflists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
