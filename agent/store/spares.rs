//! Spares: a second copy of each plugin, proven and durable, that takes its place by one rename.
//!
//! Whoever deletes a plugin gets it back for the price of a rename, whatever its size; the blob that the next spare
//! is made from never leaves the store. So a writer that undoes one repair right after the other can use up the
//! spare, and never the last copy.

use super::blobs::list_digests;
use super::{Store, StoreError};
use crate::host::{Dir, FileFingerprint, HostError};
use crate::model::{FileMode, FileName, FileState, Sha256};

/// How far a spare has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpareState {
    /// It was read and is durable: as long as it has this print, it need not be proven again.
    Proven(FileFingerprint),
    /// It was made or changed just now, and is to be proven by reading it once its times have settled.
    Made,
    /// It was made so short a while ago that another change would not show in its times.
    Unsettled,
}

impl Store {
    /// Brings the spare of a blob one step further: makes it, or proves it by reading it. What is made here is not
    /// proven by that: until its print is taken, anybody could write to it, and the print would be that of what they
    /// wrote.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the blob is not what its name says, which is removed then; or a failure of the
    /// file system.
    pub fn advance_spare(&self, digest: &Sha256) -> Result<SpareState, StoreError> {
        let name = FileName::from(digest);
        let mut seen = None;
        match self.spares.observe_file_again(&name, &mut seen) {
            FileState::Regular(there) if there.sha256 == *digest => {
                if (there.mode, there.owner) == (FileMode::PLUGIN.bits(), self.owner) {
                    let Some(seen) = seen else {
                        return Ok(SpareState::Unsettled);
                    };
                    self.spares.make_durable(&name)?;
                    self.spares.sync()?;
                    return Ok(SpareState::Proven(seen.fingerprint()));
                }
                self.spares
                    .set_mode_owner(&name, FileMode::PLUGIN, self.owner)?;
            }
            _ => {
                let temp = self.copy_blob(digest, &self.temps)?;
                temp.publish(&self.spares, &name, FileMode::PLUGIN, self.owner)?;
            }
        }
        Ok(SpareState::Made)
    }

    /// Removes every spare whose blob is there: what a download needs is needed more. `true` if there was one.
    ///
    /// # Errors
    /// When the spares cannot be listed or one not be removed.
    pub fn drop_spares(&self) -> Result<bool, HostError> {
        let mut dropped = false;
        for digest in list_digests(&self.spares)? {
            dropped |=
                self.has_blob(&digest)? && self.spares.remove_file(&FileName::from(&digest))?;
        }
        Ok(dropped)
    }

    /// Makes a blob of a spare again, where the blob is lost; `false` if there is no such spare.
    ///
    /// # Errors
    /// When the kernel refuses the rename.
    pub fn restore_blob_from_spare(&self, digest: &Sha256) -> Result<bool, HostError> {
        let name = FileName::from(digest);
        match self.spares.rename_into(&name, &self.blobs, &name) {
            Ok(()) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a spare is still the one that was proven.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn is_proven(&self, digest: &Sha256, proven: &FileFingerprint) -> Result<bool, HostError> {
        let print = self.spares.fingerprint(&FileName::from(digest))?;
        Ok(print.as_ref() == Some(proven))
    }

    /// Renames a proven spare into place; `false` if it is not the one that was proven, or lies on another mount.
    /// The caller syncs `bin`.
    ///
    /// # Errors
    /// When the kernel refuses the rename.
    pub fn place_spare(
        &self,
        digest: &Sha256,
        proven: &FileFingerprint,
        bin: &Dir,
        name: &FileName,
    ) -> Result<bool, HostError> {
        if !self.is_proven(digest, proven)? {
            return Ok(false);
        }
        match self.spares.rename_into(&FileName::from(digest), bin, name) {
            Ok(()) => Ok(true),
            Err(error) if error.crosses_file_systems() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
