//! The content store: plugins by the digest of their content, each ready to be renamed into place.

use std::collections::HashSet;
use std::path::Path;

use super::error::DamagedRecord;
use super::parts::{BLOBS, LOCK, SPARES, STATE_MODE, TEMPS, clear_lock, find_obstacle, open_part};
use super::records::{clear_name, must_be_private};
use super::{Ledger, StoreError};
use crate::host::{Dir, FileKind, FileMetadata, Host, HostError, ListedEntry, Lock, Sealed, Temp};
use crate::model::{
    FileAttributes, FileMode, FileName, FileState, FileType, LARGEST_PLUGIN, Owner, Sha256,
};

/// The state directory, opened.
///
/// A blob has the plugin mode and the enforced owner. If the store and the bin directory are on the same mount, a blob
/// is placed by a rename, whatever its size. The store then lacks the blob until [`Store::refill_blob`] copies it back
/// from the bin directory. Nothing waits for that copy: it is read, hashed and made durable when it is needed. An agent
/// that keeps running also has spares: see [`Store::advance_spare`].
#[derive(Debug)]
pub struct Store {
    pub(super) state: Dir,
    pub(super) blobs: Dir,
    pub(super) spares: Dir,
    pub(super) temps: Dir,
    pub(super) owner: Owner,
    /// What was set aside when it was opened, a sentence each.
    pub(super) recovered: Vec<String>,
}

/// What a state directory holds, for commands that change nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreContents {
    /// The ledger; empty where there is none. Of a damaged one, the entries that can be read.
    pub ledger: Ledger,
    /// What is there and cannot be used. Whoever has the lock recovers it with [`Store::recover_records`].
    pub damaged: Vec<DamagedRecord>,
    /// The blobs and spares in the store, by name: none of them was read.
    pub blobs: HashSet<Sha256>,
}

/// Whether a blob's content still has to be proven before it may become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobProof {
    /// This process wrote it with [`Store::insert_blob`]: it is durable and is not read again.
    Proven,
    /// It was in the store before: it is first read, hashed and made durable.
    Unproven,
}

impl StoreContents {
    /// Reads a state directory and creates nothing. The directory or parts of it may be absent or damaged.
    ///
    /// # Errors
    /// When the state directory itself cannot be read, or other users may write to it.
    pub fn read_from(host: &Host, state: &Path) -> Result<Self, StoreError> {
        let mut contents = Self::default();
        let owner = host.owner();
        let dir = match host.open_dir(state) {
            Ok(dir) => dir,
            Err(error) if error.is_absent() => return Ok(contents),
            Err(error) => return Err(error.into()),
        };
        must_be_private(&dir, owner)?;
        match Ledger::load(&dir, owner) {
            Ok(ledger) => contents.ledger = ledger,
            Err(StoreError::Damaged(damage)) => {
                contents.ledger = Ledger::salvage(&dir, owner);
                contents.damaged.push(damage);
            }
            Err(error) => return Err(error),
        }
        for part in [BLOBS, SPARES] {
            match host.open_dir(&state.join(part)) {
                Ok(dir) => contents.blobs.extend(list_digests(&dir)?),
                Err(error) if error.is_the_machines() => return Err(error.into()),
                Err(error) => contents.damaged.extend(find_obstacle(&dir, part, &error)?),
            }
        }
        Ok(contents)
    }
}

impl Store {
    /// Opens the state directory and creates the parts of it that are missing. What stands in the place of a part and is
    /// no directory is set aside.
    ///
    /// # Errors
    /// When a part of it cannot be created or opened, or other users may write to the state directory.
    pub fn open(host: &Host, state: &Path) -> Result<Self, StoreError> {
        let dir = host.ensure_dir(state, STATE_MODE)?;
        must_be_private(&dir, host.owner())?;
        let mut recovered = clear_lock(&dir)?;
        let mut open_part = |part: &'static str| open_part(host, state, &dir, part, &mut recovered);
        let (blobs, spares, temps) = (open_part(BLOBS)?, open_part(SPARES)?, open_part(TEMPS)?);
        Ok(Self {
            blobs,
            spares,
            temps,
            owner: host.owner(),
            state: dir,
            recovered,
        })
    }

    /// Whether the opened directory is still the one at that path. A package upgrade may remove `/opt/cni` with all its
    /// content. The open directory then accepts no file, and its lock keeps no other agent out.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn is_at(&self, host: &Host, state: &Path) -> Result<bool, HostError> {
        let there = match host.open_dir(state) {
            Ok(there) => there,
            Err(error) if error.is_absent() => return Ok(false),
            Err(error) => return Err(error),
        };
        if !self.state.is_same_dir(&there)? {
            return Ok(false);
        }
        for (part, dir) in [
            (BLOBS, &self.blobs),
            (SPARES, &self.spares),
            (TEMPS, &self.temps),
        ] {
            match host.open_dir(&state.join(part)) {
                Ok(there) if dir.is_same_dir(&there)? && !dir.is_removed()? => {}
                Err(error) if error.is_the_machines() => return Err(error),
                _ => return Ok(false),
            }
        }
        Ok(!self.state.is_removed()?)
    }

    /// Keeps every other agent out until the lock is dropped.
    ///
    /// # Errors
    /// When another agent holds the lock ([`HostError::is_held`]).
    pub fn lock(&self) -> Result<Lock, HostError> {
        self.state.lock_file(&FileName::fixed(LOCK))
    }

    /// Reads the ledger.
    ///
    /// # Errors
    /// As [`Ledger::load`].
    pub fn load_ledger(&self) -> Result<Ledger, StoreError> {
        Ledger::load(&self.state, self.owner)
    }

    /// Writes the ledger.
    ///
    /// # Errors
    /// As [`Ledger::save`].
    pub fn save_ledger(&self, ledger: &Ledger) -> Result<(), StoreError> {
        ledger.save(&self.state, self.owner)
    }

    /// Removes the temps of a run that was killed, and makes durable what that run had written. The caller must hold the
    /// lock. Returns the names of the removed temps.
    ///
    /// # Errors
    /// When a directory cannot be listed, a temp cannot be removed, or a sync fails.
    pub fn sweep_temps(&self) -> Result<Vec<String>, HostError> {
        let mut swept = self.temps.remove_stale_temps()?;
        swept.append(&mut self.state.remove_stale_temps()?);
        // A ledger that has not changed is not written again, so it is made durable here.
        self.state.sync()?;
        Ok(swept)
    }

    /// The directory for files that are being written. It is on the same file system as the store.
    #[must_use]
    pub const fn temp_dir(&self) -> &Dir {
        &self.temps
    }

    /// Makes a blob of a durable temp from [`Store::temp_dir`], which has the plugin mode and the enforced owner. The
    /// caller makes the blob's name durable with [`Store::sync_names`], once for a whole set.
    ///
    /// # Errors
    /// When the temp cannot be renamed. The temp is then removed.
    pub fn insert_blob(&self, sealed: Sealed) -> Result<Sha256, HostError> {
        let digest = sealed.sha256();
        clear_name(&self.blobs, &FileName::from(&digest))?;
        sealed.publish(&self.blobs, &FileName::from(&digest))?;
        Ok(digest)
    }

    /// Makes the names in the store durable.
    ///
    /// # Errors
    /// When the sync fails ("durability uncertain").
    pub fn sync_names(&self) -> Result<(), HostError> {
        self.blobs.sync()
    }

    /// Whether there is a blob of that name. Only [`Store::verify_blob`] reads its content.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn has_blob(&self, digest: &Sha256) -> Result<bool, HostError> {
        let found = self.blobs.file_metadata(&FileName::from(digest))?;
        Ok(found.is_some_and(|metadata| metadata.kind == FileKind::Regular))
    }

    /// Whether there is a blob with that digest. It is read; if its content has another digest, it is removed.
    ///
    /// # Errors
    /// When the blob exists and cannot be read or removed.
    pub fn verify_blob(&self, digest: &Sha256) -> Result<bool, HostError> {
        let name = FileName::from(digest);
        match self.blobs.observe_file(&name, LARGEST_PLUGIN) {
            FileState::Absent => Ok(false),
            FileState::Regular(regular) if regular.sha256 == *digest => Ok(true),
            FileState::Regular(_) | FileState::TooLarge(_) | FileState::Other(_) => {
                clear_name(&self.blobs, &name)?;
                self.blobs.remove_file(&name)?;
                Ok(false)
            }
            FileState::Unreadable(reason) => Err(HostError::new(
                "verify",
                self.blobs.path_of(&name),
                std::io::Error::other(reason),
            )),
        }
    }

    /// Places a blob in the bin directory, with the plugin mode and the enforced owner:
    /// - It is renamed if the kernel allows that. The store no longer has it then.
    /// - Otherwise it is copied, and the copy is hashed.
    ///
    /// The caller syncs `bin`, once for a whole set.
    ///
    /// # Errors
    /// - [`StoreError::Missing`] when the store does not have the blob, or the blob was corrupt and is removed now;
    /// - a failure of the file system.
    ///
    /// The file that had that name before is then still in place.
    pub fn place_blob(
        &self,
        digest: &Sha256,
        bin: &Dir,
        name: &FileName,
        proof: BlobProof,
    ) -> Result<(), StoreError> {
        let blob = FileName::from(digest);
        let usable = match proof {
            BlobProof::Proven => self.has_blob(digest)?,
            BlobProof::Unproven => self.verify_blob(digest)? && self.make_durable(&blob)?,
        };
        if !usable {
            return Err(StoreError::Missing {
                path: self.blobs.path_of(&blob),
            });
        }
        self.fix_blob_metadata(&blob)?;
        match self.blobs.rename_into(&blob, bin, name) {
            Ok(()) => Ok(()),
            Err(error) if error.crosses_file_systems() => {
                let temp = copy_verified(&self.blobs, &blob, bin, digest)?;
                Ok(temp.publish(bin, name, FileMode::PLUGIN, self.owner)?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether blobs can be renamed into `bin`. If not, the caller stages the whole set there first.
    #[must_use]
    pub fn can_rename_into(&self, bin: &Dir) -> bool {
        self.blobs.is_on_the_mount_of(bin)
    }

    /// Copies a blob to a temp in `bin` and hashes it on the way. The temp is then complete and durable. Needed for a
    /// bin directory on another file system.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the blob has another digest (it is removed then), or a failure of the file system.
    pub fn stage_blob(&self, digest: &Sha256, bin: &Dir) -> Result<Sealed, StoreError> {
        let temp = self.copy_blob(digest, bin)?;
        Ok(temp.seal(FileMode::PLUGIN, self.owner)?)
    }

    /// Copies a blob. A blob with another digest, or one that is too large for any, is removed, because otherwise it
    /// would be tried again and again.
    pub(super) fn copy_blob(&self, digest: &Sha256, into: &Dir) -> Result<Temp, StoreError> {
        let name = FileName::from(digest);
        let there = self.blobs.file_metadata(&name)?;
        if there.is_some_and(|there| there.size > LARGEST_PLUGIN) {
            self.blobs.remove_file(&name)?;
            let path = self.blobs.path_of(&name);
            return Err(StoreError::Missing { path });
        }
        let copied = copy_verified(&self.blobs, &name, into, digest);
        if let Err(StoreError::Corrupt { .. }) = &copied {
            self.blobs.remove_file(&name)?;
        }
        copied
    }

    /// Makes a blob durable. If the disk cannot store it, the blob is removed, so that nobody takes it for a good one.
    pub(super) fn make_durable(&self, blob: &FileName) -> Result<bool, HostError> {
        let outcome = self.blobs.make_durable(blob);
        if outcome.is_err() {
            self.blobs.remove_file(blob)?;
        }
        outcome.map(|()| true)
    }

    /// Sets mode and owner of a blob. Both must be right before it is renamed into place.
    fn fix_blob_metadata(&self, blob: &FileName) -> Result<(), HostError> {
        let right = |found: FileMetadata| {
            found.mode == FileMode::PLUGIN.bits() && found.owner == self.owner
        };
        let has_none = |attributes| attributes == FileAttributes::default();
        match self.blobs.file_metadata(blob)? {
            Some(found) if right(found) && has_none(self.blobs.read_attributes(blob)?) => Ok(()),
            _ => self
                .blobs
                .set_mode_owner(blob, FileMode::PLUGIN, self.owner),
        }
    }

    /// Copies a plugin from the bin directory back into the store, if the store lacks it. The copy is neither hashed nor
    /// made durable here, because whoever uses a blob does that first.
    ///
    /// # Errors
    /// When the placed file cannot be read or cannot be copied.
    pub fn refill_blob(
        &self,
        digest: &Sha256,
        from: &Dir,
        name: &FileName,
    ) -> Result<(), HostError> {
        if self.has_blob(digest)? {
            return Ok(());
        }
        let blob = FileName::from(digest);
        clear_name(&self.blobs, &blob)?;
        self.temps.create_temp()?.publish_unsynced_copy(
            (from, name),
            (&self.blobs, &blob),
            FileMode::PLUGIN,
            self.owner,
        )
    }

    /// As [`Store::refill_blob`], but the copy is verified, and durable before it has its name. It may have a spare.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the placed file has another digest, or a failure of the file system.
    pub fn refill_blob_durably(
        &self,
        digest: &Sha256,
        from: &Dir,
        name: &FileName,
    ) -> Result<(), StoreError> {
        let temp = copy_verified(from, name, &self.temps, digest)?;
        let blob = FileName::from(digest);
        Ok(temp.publish(&self.blobs, &blob, FileMode::PLUGIN, self.owner)?)
    }

    /// Removes the blobs and spares that are not in `keep`. Other files are left alone.
    ///
    /// # Errors
    /// When the store cannot be listed or a file in it cannot be removed.
    pub fn prune_blobs(&self, keep: &HashSet<Sha256>) -> Result<(), HostError> {
        for dir in [&self.blobs, &self.spares] {
            for digest in list_digests(dir)?.difference(keep) {
                dir.remove_file(&FileName::from(digest))?;
            }
        }
        Ok(())
    }
}

/// The names in a directory that are digests. A directory with such a name holds no plugin.
pub(super) fn list_digests(dir: &Dir) -> Result<HashSet<Sha256>, HostError> {
    let digest = |entry: ListedEntry| match entry.kind {
        FileKind::Other(FileType::Directory) => None,
        _ => entry.name.to_str()?.parse().ok(),
    };
    Ok(dir.list_entries()?.into_iter().filter_map(digest).collect())
}

/// Copies a file to a temp in another directory. Fails if the copy does not have the expected digest.
pub(super) fn copy_verified(
    from: &Dir,
    name: &FileName,
    into: &Dir,
    expected: &Sha256,
) -> Result<Temp, StoreError> {
    let mut temp = into.create_temp()?;
    from.copy_to(name, &mut temp)?;
    let actual = temp.sha256();
    if actual == *expected {
        return Ok(temp);
    }
    Err(StoreError::Corrupt {
        path: from.path_of(name),
        expected: *expected,
        actual,
    })
}
