//! Digests that were learned from lists and checksum files, saved so that they are not requested twice.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::records::RecordFile;
use super::{Store, StoreError};
use crate::host::{Host, HostError};
use crate::model::Pin;
use crate::trust::PinDeclaration;

/// An artifact needs some hundred bytes.
pub(super) const PINS_FILE: RecordFile = RecordFile {
    name: "pins.json",
    largest: 1 << 20,
};

/// A digest that was learned, and the declaration that it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedPin {
    /// The declaration at that time.
    pub declared: PinDeclaration,
    /// The digest.
    pub pin: Pin,
}

impl Store {
    /// Saves the digests. Nothing is written if they have not changed.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn save_pins(&self, answers: &[LearnedPin]) -> Result<(), StoreError> {
        PINS_FILE.replace_value(&self.state, self.owner, &answers)
    }

    /// Removes the saved digests, if there are any.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn forget_pins(&self) -> Result<(), HostError> {
        PINS_FILE.remove(&self.state)
    }
}

/// The digests that were last saved; none if there is nothing usable.
///
/// # Errors
/// When the state directory cannot be read, or other users can write to it.
pub fn read_saved_pins(host: &Host, state: &Path) -> Result<Vec<LearnedPin>, StoreError> {
    Ok(PINS_FILE.read_value(host, state)?.unwrap_or_default())
}
