//! Digests that the configuration leaves to others: asked for once, and remembered for as long as the same is declared.

use std::sync::{Arc, Mutex, PoisonError};

use super::session::StateLock;
use super::{Context, ReconcileError, supply};
use crate::fetch;
use crate::model::{Artifact, Pin, SourceFailure};
use crate::store::{LearnedPin, remembered_pins};
use crate::trust::{DeclaredPin, DigestSource, PinDeclaration};

/// What lists and checksum files said. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct LearnedPins(Arc<Mutex<Vec<LearnedPin>>>);

impl LearnedPins {
    fn find(&self, artifact: &Artifact<DeclaredPin>) -> Option<Pin> {
        let declared = PinDeclaration::of(artifact);
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.iter().find(|answer| answer.declared == declared);
        answer.map(|answer| answer.pin)
    }

    /// Takes in answers; what was said first stays.
    fn learn(&self, news: impl IntoIterator<Item = LearnedPin>) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for new in news {
            if !answers.iter().any(|answer| answer.declared == new.declared) {
                answers.push(new);
            }
        }
    }

    fn forget(&self, artifact: &Artifact<DeclaredPin>) {
        let declared = PinDeclaration::of(artifact);
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|answer| answer.declared != declared);
    }

    fn all(&self) -> Vec<LearnedPin> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.clone()
    }
}

/// An artifact that may be downloaded.
pub(super) struct ResolvedArtifact {
    pub(super) artifact: Artifact,
    /// Whether anybody had to be asked.
    pub(super) asked: bool,
    /// Who was asked in vain before.
    pub(super) tried: Vec<SourceFailure>,
}

impl Context {
    /// The digest of a declared artifact, as far as it is known and, where it has to be, signed.
    #[must_use]
    pub fn pin_of(&self, artifact: &Artifact<DeclaredPin>) -> Option<Pin> {
        let at_hand = artifact.pin.known_pin();
        at_hand.or_else(|| self.pins.find(artifact))
    }

    /// The same with its artifact.
    pub(super) fn pinned(&self, artifact: &Artifact<DeclaredPin>) -> Option<Artifact> {
        self.pin_of(artifact).map(|pin| artifact.with_pin(pin))
    }

    /// What is still to be asked of somebody about artifacts of these names, a sentence each.
    #[must_use]
    pub fn unknown_pins<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        let names: Vec<&str> = names.collect();
        let artifacts = self.settings.artifacts.iter();
        let open = artifacts.filter(|artifact| {
            names.contains(&artifact.name.as_str()) && self.pin_of(artifact).is_none()
        });
        open.map(describe_unknown_pin).collect()
    }

    /// Takes in what was once written down, where something is not known. Blocks.
    ///
    /// # Errors
    /// When what was written down cannot be read.
    pub(super) fn restore_saved_pins(&self) -> Result<(), ReconcileError> {
        let mut artifacts = self.settings.artifacts.iter();
        if artifacts.any(|artifact| self.pin_of(artifact).is_none()) {
            let state = &self.settings.paths.state_dir;
            self.pins.learn(remembered_pins(&self.host, state)?);
        }
        Ok(())
    }
}

impl StateLock {
    /// The artifact with its digest: known, or asked for now and written down.
    ///
    /// # Errors
    /// When nobody says it whom the declaration trusts, or it cannot be written down.
    pub(super) async fn resolve_pin(
        self: &Arc<Self>,
        artifact: &Artifact<DeclaredPin>,
        offline: bool,
    ) -> Result<ResolvedArtifact, ReconcileError> {
        if let Some(artifact) = self.keeper.pinned(artifact) {
            return Ok(ResolvedArtifact {
                artifact,
                asked: false,
                tried: Vec::new(),
            });
        }
        let means = supply::means(&self.keeper, offline, &());
        let (pin, tried) = fetch::resolve_pin(artifact, &means).await?;
        tracing::info!(
            artifact = artifact.name,
            version = artifact.version,
            %pin,
            by = artifact.pin.describe_source(),
            "the digest is known now"
        );
        self.keeper.pins.learn([LearnedPin {
            declared: PinDeclaration::of(artifact),
            pin,
        }]);
        let session = Arc::clone(self);
        super::converge::run_blocking(move || session.save_pins()).await?;
        Ok(ResolvedArtifact {
            artifact: artifact.with_pin(pin),
            asked: true,
            tried,
        })
    }

    /// Forgets what others said of a digest that came from nowhere, now or before: whoever said it may have been mistaken
    /// and have mended it, and is asked again. What once came with it stays. Blocks.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn forget_wrong_pin(
        &self,
        artifact: &Artifact<DeclaredPin>,
    ) -> Result<(), ReconcileError> {
        let is_said_here = matches!(artifact.pin.source, DigestSource::Configuration(_));
        let pins = &self.keeper.pins;
        let Some(pin) = pins.find(artifact).filter(|_| !is_said_here) else {
            return Ok(());
        };
        if self.store.load_ledger()?.measured_members(&pin).is_some() {
            return Ok(());
        }
        pins.forget(artifact);
        match pins.all().is_empty() {
            true => Ok(self.store.forget_pins()?),
            false => self.save_pins(),
        }
    }

    /// Writes down what was said of what is declared now, so that the next start needs nobody, and of what is in place,
    /// so that going back from an upgrade that failed does not either. Blocks.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn save_pins(&self) -> Result<(), ReconcileError> {
        let declared: Vec<_> = self
            .keeper
            .settings
            .artifacts
            .iter()
            .map(PinDeclaration::of)
            .collect();
        let mut answers = self.keeper.pins.all();
        let in_place = self.keeper.needed(&self.store.load_ledger()?).pins;
        answers.retain(|answer| {
            declared.contains(&answer.declared) || in_place.contains(&answer.pin.to_string())
        });
        if !answers.is_empty() {
            self.store.remember_pins(&answers)?;
        }
        Ok(())
    }
}

/// What is not known of an artifact, and who tells it.
fn describe_unknown_pin(artifact: &Artifact<DeclaredPin>) -> String {
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
