//! What lists and checksum files said of digests, so that nobody has to be asked twice.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::notes::{StateFile, read_state_file};
use super::{Store, StoreError};
use crate::host::{Host, HostError};
use crate::model::Pin;
use crate::trust::PinDeclaration;

/// Some hundred bytes an artifact.
const NOTE: StateFile = StateFile {
    file: "pins.json",
    largest: 1 << 20,
};

/// One answer, and what it is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedPin {
    /// What was declared when it was given.
    pub declared: PinDeclaration,
    /// The digest.
    pub pin: Pin,
}

impl Store {
    /// Writes down what was said; the same again costs no write.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save_pins(&self, answers: &[LearnedPin]) -> Result<(), StoreError> {
        self.write_state_file(NOTE, &answers)
    }

    /// Removes what was written down, if anything was.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget_pins(&self) -> Result<(), HostError> {
        self.remove_state_file(NOTE)
    }
}

/// What was last written down; nothing where nothing of use is there.
///
/// # Errors
/// When it is there and cannot be read, or others could have written it.
pub fn read_saved_pins(host: &Host, state: &Path) -> Result<Vec<LearnedPin>, StoreError> {
    Ok(read_state_file(host, state, NOTE)?.unwrap_or_default())
}
