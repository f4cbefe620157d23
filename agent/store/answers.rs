//! Saved answers: small files of the state directory that spare a restart the questions.

use std::ffi::OsStr;
use std::path::Path;

use super::blobs::must_be_private;
use super::state_file::{StateFile, replace_state_file};
use super::{Store, StoreError};
use crate::host::{Host, HostError};
use crate::model::FileName;

impl Store {
    /// Saves a value as JSON, as [`replace_state_file`] does.
    pub(super) fn write_state_file(
        &self,
        file: StateFile,
        value: &impl serde::Serialize,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_vec(value)
            .map_err(|error| HostError::new("write", self.state.path().join(file.name), error))?;
        Ok(replace_state_file(&self.state, self.owner, file, &text)?)
    }

    /// Removes a file, if it exists.
    pub(super) fn remove_state_file(&self, file: StateFile) -> Result<(), HostError> {
        let name = FileName::fixed(file.name);
        match self.state.file_metadata(&name)? {
            Some(_) => self.state.remove_file(&name).map(drop),
            None => Ok(()),
        }
    }
}

/// The content of a file; `None` if the file is absent or damaged. The next answer replaces a damaged file.
pub(super) fn read_state_file<T: serde::de::DeserializeOwned>(
    host: &Host,
    state: &Path,
    file: StateFile,
) -> Result<Option<T>, StoreError> {
    let absent = |error: HostError| match error.is_absent() {
        true => Ok(None),
        false => Err(StoreError::from(error)),
    };
    let dir = match host.open_dir(state) {
        Ok(dir) => dir,
        Err(error) => return absent(error),
    };
    must_be_private(&dir, host.owner())?;
    match dir.read_file(OsStr::new(file.name), file.largest) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) => absent(error),
    }
}
