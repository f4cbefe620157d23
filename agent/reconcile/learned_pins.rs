//! Digests that come from a signed list or a checksum file. Each is asked for once, and remembered while the same
//! artifact is declared with the same source of its digest.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::ReconcileError;
use crate::host::Host;
use crate::model::{Artifact, Pin};
use crate::store::{LearnedPin, read_saved_pins};
use crate::trust::{DeclaredPin, DigestSource, PinDeclaration};

/// The digests that lists and checksum files gave. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct LearnedPins(Arc<Mutex<Vec<LearnedPin>>>);

impl LearnedPins {
    pub(super) fn find(&self, artifact: &Artifact<DeclaredPin>) -> Option<Pin> {
        let declared = PinDeclaration::of(artifact);
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.iter().find(|answer| answer.declared == declared);
        answer.map(|answer| answer.pin)
    }

    /// Adds digests. If one is known for the same declaration, the known one stays.
    pub(super) fn learn(&self, news: impl IntoIterator<Item = LearnedPin>) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for new in news {
            if !answers.iter().any(|answer| answer.declared == new.declared) {
                answers.push(new);
            }
        }
    }

    pub(super) fn forget(&self, artifact: &Artifact<DeclaredPin>) {
        let declared = PinDeclaration::of(artifact);
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|answer| answer.declared != declared);
    }

    /// Adds the digests that an earlier run saved. Blocks.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn restore_saved(&self, host: &Host, state: &Path) -> Result<(), ReconcileError> {
        self.learn(read_saved_pins(host, state)?);
        Ok(())
    }

    pub(super) fn all(&self) -> Vec<LearnedPin> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.clone()
    }
}

/// Says what is not known about the pin of an artifact, and how the agent will learn it.
pub(super) fn describe_unknown_pin(artifact: &Artifact<DeclaredPin>) -> String {
    let Artifact { name, version, .. } = artifact;
    match &artifact.pin.source {
        DigestSource::Configuration(_) => {
            format!("the signature of {name} {version} is not verified yet: it has to be fetched")
        }
        DigestSource::List(list) => format!(
            "the digest of {name} {version} is not known yet: the signed list has to be asked (key {})",
            list.key.id()
        ),
        DigestSource::ChecksumFile(_) => format!(
            "the digest of {name} {version} is not known yet: its checksum file has to be asked"
        ),
    }
}
