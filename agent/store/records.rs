//! The records of the state directory: small files that the agent writes, and reads after a restart.
//!
//! A record that cannot be used never stops the agent. Whoever holds the lock sets it aside, under a name that says what
//! happened, and writes a new one from what is known otherwise.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;

use super::error::{DamagedRecord, StoreError};
use crate::host::{Dir, FileKind, FileMetadata, Host, HostError};
use crate::model::{FileMode, FileName, FileType, Owner, quote_error};

/// How many files are kept of those that were set aside from one name: the first ones, and the last one.
const KEPT: u32 = 3;

/// A record of the state directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordFile {
    pub(super) name: &'static str,
    /// The largest size that is written and read, in bytes.
    pub(super) largest: u64,
}

impl RecordFile {
    fn file_name(self) -> FileName {
        FileName::fixed(self.name)
    }

    /// The content; `None` if there is no such record.
    ///
    /// # Errors
    /// - [`StoreError::Damaged`] when the record is there and cannot be read, is not a file, or can be written by others;
    /// - [`StoreError::Host`] when the machine lacks something, so that nothing is known about the record.
    pub(super) fn read(self, state: &Dir, owner: Owner) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(found) = state.file_metadata(&self.file_name())? else {
            return Ok(None);
        };
        if let Some(problem) = self.find_problem(state, found, owner)? {
            return Err(self.damage(state, problem).into());
        }
        match state.read_file(OsStr::new(self.name), self.largest) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) if error.is_the_machines() => Err(error.into()),
            Err(error) => Err(self.damage(state, quote_error(&error.source)).into()),
        }
    }

    /// Why a record must not be read, as far as this shows without reading it.
    fn find_problem(
        self,
        state: &Dir,
        found: FileMetadata,
        owner: Owner,
    ) -> Result<Option<String>, HostError> {
        if let FileKind::Other(kind) = found.kind {
            return Ok(Some(format!("it is {kind}")));
        }
        if found.size > self.largest {
            let (size, largest) = (found.size, self.largest);
            return Ok(Some(format!(
                "it has {size} bytes, and the agent never writes more than {largest}"
            )));
        }
        // In a directory that others cannot enter, nobody else has written it, whatever its mode says.
        let is_open = state.dir_metadata()?.mode & 0o011 != 0;
        let is_exposed = !is_private(found, owner);
        Ok((is_open && is_exposed).then(|| {
            format!(
                "it belongs to uid {} and has mode {:04o}, so that other users can have changed it",
                found.owner.uid, found.mode
            )
        }))
    }

    pub(super) fn damage(self, state: &Dir, problem: impl Into<String>) -> DamagedRecord {
        DamagedRecord {
            path: state.path().join(self.name),
            problem: problem.into(),
            newer_schema: None,
        }
    }

    /// Replaces the record atomically and durably, with mode 0600. Nothing is written if its content has not changed.
    ///
    /// # Errors
    /// When it would be larger than what is read, or a step of the writing fails.
    pub(super) fn replace(self, state: &Dir, owner: Owner, text: &[u8]) -> Result<(), HostError> {
        let path = || state.path().join(self.name);
        if text.len() as u64 > self.largest {
            return Err(HostError::new(
                "write",
                path(),
                std::io::ErrorKind::FileTooLarge,
            ));
        }
        if let Ok(Some(there)) = self.read(state, owner)
            && there == text
        {
            return Ok(());
        }
        let mut temp = state.create_temp()?;
        temp.write_all(text)
            .map_err(|error| HostError::new("write", path(), error))?;
        clear_name(state, &self.file_name())?;
        temp.publish(state, &self.file_name(), FileMode::PRIVATE, owner)?;
        state.sync()
    }

    /// Replaces the record by a value, as [`Self::replace`] does.
    pub(super) fn replace_value(
        self,
        state: &Dir,
        owner: Owner,
        value: &impl serde::Serialize,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_vec(value)
            .map_err(|error| HostError::new("write", state.path().join(self.name), error))?;
        Ok(self.replace(state, owner, &text)?)
    }

    /// The value in a record; `None` if it is absent or damaged. Whoever takes the lock next sets a damaged one aside.
    pub(super) fn read_value<T: serde::de::DeserializeOwned>(
        self,
        host: &Host,
        state: &Path,
    ) -> Result<Option<T>, StoreError> {
        let state = match host.open_dir(state) {
            Ok(state) => state,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        must_be_private(&state, host.owner())?;
        match self.parse(&state, host.owner()) {
            Err(StoreError::Damaged(_)) => Ok(None),
            parsed => parsed,
        }
    }

    /// The value in a record; `None` if there is none.
    ///
    /// # Errors
    /// As [`Self::read`], and [`StoreError::Damaged`] when it holds something else.
    pub(super) fn parse<T: serde::de::DeserializeOwned>(
        self,
        state: &Dir,
        owner: Owner,
    ) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.read(state, owner)? else {
            return Ok(None);
        };
        let value = serde_json::from_slice(&bytes);
        Ok(Some(value.map_err(|error| {
            self.damage(state, quote_error(&error))
        })?))
    }

    /// Removes the record, if it exists.
    pub(super) fn remove(self, state: &Dir) -> Result<(), HostError> {
        let name = self.file_name();
        clear_name(state, &name)?;
        match state.file_metadata(&name)? {
            Some(_) => state.remove_file(&name).map(drop),
            None => Ok(()),
        }
    }

    /// Gives the record its mode and its owner, if it has others.
    pub(super) fn fix_mode_and_owner(self, state: &Dir, owner: Owner) -> Result<(), HostError> {
        let name = self.file_name();
        match state.file_metadata(&name)? {
            Some(found)
                if found.kind == FileKind::Regular
                    && (found.mode, found.owner) != (FileMode::PRIVATE.bits(), owner) =>
            {
                state.set_mode_owner(&name, FileMode::PRIVATE, owner)
            }
            _ => Ok(()),
        }
    }

    /// Sets a damaged record aside. Returns a sentence that says what is wrong and where it is now.
    ///
    /// # Errors
    /// When the rename fails.
    pub(super) fn set_aside(
        self,
        state: &Dir,
        damage: &DamagedRecord,
    ) -> Result<String, HostError> {
        let now = match damage.newer_schema {
            // It is kept whole for the version that wrote it, and what that version wrote last is what counts.
            Some(schema) => {
                let now: FileName = FileName::fixed(&format!("{}.schema-{schema}", self.name));
                clear_name(state, &now)?;
                state.rename_into(&self.file_name(), state, &now)?;
                now
            }
            None => set_aside(state, &self.file_name())?,
        };
        Ok(format!("{damage}; it is kept as {now}"))
    }
}

/// Refuses a state directory that other users may write to. The ledger says what a pinned artifact's plugins are, so
/// whoever can write it decides what is placed.
pub(super) fn must_be_private(state: &Dir, owner: Owner) -> Result<(), StoreError> {
    let found = state.dir_metadata()?;
    if is_private(found, owner) {
        return Ok(());
    }
    Err(StoreError::Exposed {
        path: state.path().to_owned(),
        uid: found.owner.uid,
        mode: found.mode,
        owner: owner.uid,
    })
}

/// Whether only the agent and root can write a file or directory.
pub(super) const fn is_private(found: FileMetadata, owner: Owner) -> bool {
    (found.owner.uid == 0 || found.owner.uid == owner.uid) && found.mode & 0o022 == 0
}

/// Sets aside what stands in the way of a file that is going to have this name: a directory, which cannot be replaced.
///
/// # Errors
/// When the rename fails.
pub(super) fn clear_name(dir: &Dir, name: &FileName) -> Result<(), HostError> {
    let found = dir.file_metadata(name)?;
    if found.is_some_and(|found| found.kind == FileKind::Other(FileType::Directory)) {
        let now = set_aside(dir, name)?;
        tracing::warn!(
            "{} is a directory and should be a file; it is kept as {now}",
            dir.path_of(name).display()
        );
    }
    Ok(())
}

/// Renames what has this name to `NAME.damaged-1`, or to the next number that is free. Of files, only [`KEPT`] are kept:
/// after that, the last one is replaced. A directory is never removed.
///
/// # Errors
/// When the rename fails.
pub(super) fn set_aside(dir: &Dir, name: &FileName) -> Result<FileName, HostError> {
    let mut number = 1;
    loop {
        let aside = FileName::fixed(&format!("{name}.damaged-{number}"));
        let found = dir.file_metadata(&aside)?.map(|found| found.kind);
        let is_file = found.is_some_and(|kind| kind != FileKind::Other(FileType::Directory));
        if number >= KEPT && is_file {
            dir.remove_file(&aside)?;
        } else if found.is_some() {
            number += 1;
            continue;
        }
        dir.rename_into(name, dir, &aside)?;
        dir.sync()?;
        return Ok(aside);
    }
}
