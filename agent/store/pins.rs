//! Digests that were learned from lists and checksum files, saved so that they are not requested twice.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::answers::read_state_file;
use super::state_file::StateFile;
use super::{Store, StoreError};
use crate::host::{Host, HostError};
use crate::model::Pin;
use crate::trust::PinDeclaration;

/// An artifact needs some hundred bytes.
const PINS_FILE: StateFile = StateFile {
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
        self.write_state_file(PINS_FILE, &answers)
    }

    /// Removes the saved digests, if there are any.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn forget_pins(&self) -> Result<(), HostError> {
        self.remove_state_file(PINS_FILE)
    }
}

/// The digests that were last saved; none if there is nothing usable.
///
/// # Errors
/// When the file exists and cannot be read, or other users could have written it.
pub fn read_saved_pins(host: &Host, state: &Path) -> Result<Vec<LearnedPin>, StoreError> {
    Ok(read_state_file(host, state, PINS_FILE)?.unwrap_or_default())
}
