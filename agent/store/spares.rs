//! Spares: a second copy of each plugin, proven and durable, that one rename puts in place.
//!
//! A plugin that was deleted is repaired by a rename, whatever its size. The blob stays in the store, and the next
//! spare is made from it. So a writer that keeps undoing repairs can use up the spare, but never the last copy.

use super::blobs::list_digests;
use super::records::clear_name;
use super::{Store, StoreError};
use crate::host::{Dir, FileFingerprint, HostError};
use crate::model::{FileAttributes, FileMode, FileName, FileState, LARGEST_PLUGIN, Sha256};

/// The progress of a spare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpareState {
    /// It was read and is durable. While it has this fingerprint, it need not be read again.
    Proven(FileFingerprint),
    /// It was made or changed just now. It is read when its times have settled, and is proven then.
    Made,
    /// It was made so recently that another change would not show in its times.
    Unsettled,
}

impl Store {
    /// Whether spares are made:
    /// - A spare is placed by a rename, so the store and `bin` must be on one mount.
    /// - In a file system that is kept in memory every copy counts against the agent's memory limit, for good. There a
    ///   plugin is repaired from a copy of its blob, which takes longer.
    #[must_use]
    pub fn has_use_for_spares(&self, bin: &Dir) -> bool {
        self.can_rename_into(bin) && !self.spares.is_in_memory()
    }

    /// Makes the spare of a blob, or proves an existing one by reading it. A spare that was just made is not proven
    /// yet: until its fingerprint is taken, another process could write to it, and the fingerprint would be that of the
    /// changed file.
    ///
    /// The blob is durable before its spare has a name. After a power loss nothing reads a blob that has a spare, so an
    /// empty one would stay.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the blob has another digest (it is removed then), or a failure of the file system.
    pub fn advance_spare(&self, digest: &Sha256) -> Result<SpareState, StoreError> {
        let name = FileName::from(digest);
        let mut seen = None;
        match self
            .spares
            .observe_file_again(&name, LARGEST_PLUGIN, &mut seen)
        {
            FileState::Regular(there) if there.sha256 == *digest => {
                let none = FileAttributes::default();
                if (there.mode, there.owner, there.attributes)
                    == (FileMode::PLUGIN.bits(), self.owner, none)
                {
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
                clear_name(&self.spares, &name)?;
                let temp = self.copy_blob(digest, &self.temps)?;
                self.make_durable(&name)?;
                self.sync_names()?;
                temp.publish(&self.spares, &name, FileMode::PLUGIN, self.owner)?;
            }
        }
        Ok(SpareState::Made)
    }

    /// Removes every spare whose blob exists, to make room for a download. Returns `true` if there was one.
    ///
    /// # Errors
    /// When the spares cannot be listed or one cannot be removed.
    pub fn drop_spares(&self) -> Result<bool, HostError> {
        let mut dropped = false;
        for digest in list_digests(&self.spares)? {
            dropped |=
                self.has_blob(&digest)? && self.spares.remove_file(&FileName::from(&digest))?;
        }
        Ok(dropped)
    }

    /// Makes a lost blob again from its spare; `false` if there is no such spare.
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
        let found = self.spares.fingerprint(&FileName::from(digest))?;
        Ok(found.as_ref() == Some(proven))
    }

    /// Renames a proven spare into place. Returns `false` if it is not the spare that was proven, or is on another
    /// mount. The caller syncs `bin`.
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
