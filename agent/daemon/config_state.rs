//! How the configuration file relates to the declaration in force.

use crate::model::{Check, CheckName};

/// The configuration file as of its last reading.
#[derive(Debug, Default)]
pub(super) struct ConfigState {
    file: FileVerdict,
    /// The change that takes effect only after a restart of the agent.
    needs_restart: Option<String>,
}

/// Whether the configuration file is used.
#[derive(Debug, Default, PartialEq, Eq)]
enum FileVerdict {
    /// It is the declaration in force.
    #[default]
    InForce,
    /// It has these mistakes, so the declaration that was in force before stays.
    Refused(Vec<String>),
}

impl ConfigState {
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.file, FileVerdict::Refused(_))
    }

    /// The file has mistakes. They are logged if they are new.
    pub(super) fn refuse(&mut self, mistakes: Vec<String>) {
        let verdict = FileVerdict::Refused(mistakes);
        if let FileVerdict::Refused(mistakes) = &verdict
            && self.file != verdict
        {
            for mistake in mistakes {
                tracing::error!("the new configuration is not used: {mistake}");
            }
        }
        self.file = verdict;
    }

    /// The file has the content that is in force.
    pub(super) fn keep(&mut self) {
        if self.is_refused() {
            tracing::info!("the configuration file is valid again and has not changed");
            self.file = FileVerdict::InForce;
        }
    }

    /// The file has a new declaration. It is in force now, except for `needs_restart`.
    pub(super) fn accept(&mut self, needs_restart: Option<String>) {
        tracing::info!("the configuration has changed");
        self.file = FileVerdict::InForce;
        self.needs_restart = needs_restart;
    }

    /// The check `config`.
    pub(super) fn check(&self) -> Check {
        let mut check = Check::new(CheckName::Config);
        if let FileVerdict::Refused(mistakes) = &self.file {
            check.failures.clone_from(mistakes);
        }
        check.warnings.extend(self.needs_restart.clone());
        check
    }
}
