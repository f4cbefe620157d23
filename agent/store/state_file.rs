//! Replaces a file of the state directory.

use std::ffi::OsStr;
use std::io::Write as _;

use crate::host::{Dir, HostError};
use crate::model::{FileMode, FileName, Owner};

/// A file of the state directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct StateFile {
    pub(super) name: &'static str,
    /// The largest size that is read, in bytes.
    pub(super) largest: u64,
}

/// Replaces a file of the state directory atomically and durably, with mode 0600. Nothing is written if its content has
/// not changed.
pub(super) fn replace_state_file(
    state: &Dir,
    owner: Owner,
    file: StateFile,
    text: &[u8],
) -> Result<(), HostError> {
    let there = state.read_file(OsStr::new(file.name), file.largest);
    if there.is_ok_and(|there| there == text) {
        return Ok(());
    }
    let mut temp = state.create_temp()?;
    temp.write_all(text)
        .map_err(|error| HostError::new("write", state.path().join(file.name), error))?;
    let name = FileName::fixed(file.name);
    temp.publish(state, &name, FileMode::PRIVATE, owner)?;
    state.sync()
}
