//! The directories of the state directory, and what can stand in their place.

use std::path::Path;

use super::StoreError;
use super::error::DamagedRecord;
use super::records::{is_private, set_aside};
use crate::host::{Dir, FileKind, Host, HostError};
use crate::model::{FileName, FileType};

/// Only root may enter the state directory.
pub(super) const STATE_MODE: u32 = 0o700;
pub(super) const BLOBS: &str = "store";
pub(super) const SPARES: &str = "spare";
pub(super) const TEMPS: &str = "tmp";
pub(super) const LOCK: &str = "lock";

/// Opens a part of the state directory, or creates it. What is there and is no directory is set aside first. If other
/// users may enter the part and change it, it gets its mode and owner again: whatever they changed, each copy of a plugin
/// is read and compared before it is used.
pub(super) fn open_part(
    host: &Host,
    state: &Path,
    dir: &Dir,
    part: &'static str,
    recovered: &mut Vec<String>,
) -> Result<Dir, StoreError> {
    if let Err(error) = host.open_dir(&state.join(part))
        && !error.is_the_machines()
    {
        // Two agents that find it must not set aside what the other one makes in its place.
        let _guard = dir.lock_itself()?;
        if let Some(damage) = find_obstacle(dir, part, &error)? {
            let now = set_aside(dir, &FileName::fixed(part))?;
            recovered.push(format!("{damage}; it is kept as {now}"));
        }
    }
    let opened = host.ensure_subdir(&state.join(part), STATE_MODE)?;
    if !is_private(opened.dir_metadata()?, host.owner()) {
        opened.set_dir_mode_owner(STATE_MODE, host.owner())?;
        let path = opened.path().display();
        recovered.push(format!(
            "other users could write to {path}; it has mode 0700 again"
        ));
    }
    Ok(opened)
}

/// Sets aside what stands in the place of the lock's file and is no file, so that nobody can hold it.
pub(super) fn clear_lock(state: &Dir) -> Result<Vec<String>, HostError> {
    let name = FileName::fixed(LOCK);
    let find_other = || match state.file_metadata(&name)?.map(|found| found.kind) {
        Some(FileKind::Other(kind)) => Ok::<_, HostError>(Some(kind)),
        Some(FileKind::Regular) | None => Ok(None),
    };
    if find_other()?.is_none() {
        return Ok(Vec::new());
    }
    // Two agents that find it must not set aside the lock of each other.
    let _guard = state.lock_itself()?;
    let Some(kind) = find_other()? else {
        return Ok(Vec::new());
    };
    let now = set_aside(state, &name)?;
    let path = state.path_of(&name);
    let told = format!(
        "{} cannot be used: it is {kind}; it is kept as {now}",
        path.display()
    );
    Ok(vec![told])
}

/// What stands in the place of a directory that cannot be opened, if anything does.
pub(super) fn find_obstacle(
    state: &Dir,
    part: &'static str,
    error: &HostError,
) -> Result<Option<DamagedRecord>, HostError> {
    let name = FileName::fixed(part);
    let problem = match state.file_metadata(&name)?.map(|found| found.kind) {
        None => return Ok(None),
        Some(FileKind::Other(FileType::Directory)) => error.to_string(),
        Some(FileKind::Regular) => "it is a file and should be a directory".to_owned(),
        Some(FileKind::Other(kind)) => format!("it is {kind} and should be a directory"),
    };
    Ok(Some(DamagedRecord {
        path: state.path_of(&name),
        problem,
        newer_schema: None,
    }))
}
