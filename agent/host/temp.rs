//! New files. They are written under a private name, made durable, and then renamed into place.
//!
//! A plugin that is in the store already is renamed into place from there: see `Store::place_blob` and
//! [`Dir::rename_into`].

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};
use sha2::Digest;

use super::memory::MemoryGuard;
use super::syscalls::{self, FileMetadata, open_at};
use super::{Dir, FileKind, HostError, ListedEntry};
use crate::model::{FileMode, FileName, Owner, Sha256};

const PREFIX: &str = ".cni-keeper-";
const SUFFIX: &str = ".tmp";
const DIGITS: usize = 16;

/// Whether a name has exactly the pattern of our own temps.
fn is_temp_name(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_suffix(SUFFIX))
        .is_some_and(|middle| {
            middle.len() == DIGITS
                && middle
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
}

/// A file being written; hashed on the way. Removed when dropped.
#[derive(Debug)]
pub struct Temp {
    temp_name: TempName,
    file: File,
    hasher: sha2::Sha256,
    written: u64,
    memory: MemoryGuard,
}

/// A file that is complete and durable under its temporary name, and closed: a file that is open for
/// writing anywhere cannot be executed (`ETXTBSY`). Removed when dropped.
#[derive(Debug)]
pub struct Sealed {
    temp_name: TempName,
    sha256: Sha256,
    size: u64,
}

/// A file without a name, which the kernel frees when the process ends.
#[derive(Debug)]
pub struct SpoolFile {
    file: File,
    memory: MemoryGuard,
}

/// The name of a temp. The file is removed when this is dropped, unless it was renamed or removed before.
#[derive(Debug)]
struct TempName {
    dir: Dir,
    name: FileName,
    gone: bool,
}

impl Dir {
    /// Makes a new, private, empty file under a name of our own pattern: `.cni-keeper-<16 hex>.tmp`.
    ///
    /// The extension is none of `.conf`, `.conflist` and `.json`, because containerd loads hidden files too.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create_temp(&self) -> Result<Temp, HostError> {
        Temp::create(self)
    }

    /// Makes a file without a name, for bytes that must not outlive the process: a kill leaves nothing behind.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create_spool(&self) -> Result<SpoolFile, HostError> {
        Temp::create(self)?.into_spool()
    }

    /// Removes the temps that a killed run left behind: regular files whose name has our own pattern, and nothing
    /// else. Call it with the lock held, so that none of them is in use. Returns their names.
    ///
    /// # Errors
    /// When the directory cannot be listed, or a temp cannot be removed.
    pub fn remove_stale_temps(&self) -> Result<Vec<String>, HostError> {
        let mut removed = Vec::new();
        for ListedEntry { name, kind } in self.list_entries()? {
            let Some(name) = name.to_str().filter(|name| is_temp_name(name)) else {
                continue;
            };
            if kind == FileKind::Regular && self.unlink_name(name)? {
                removed.push(name.to_owned());
            }
        }
        Ok(removed)
    }
}

impl Temp {
    fn create(dir: &Dir) -> Result<Self, HostError> {
        remove_leftovers(dir)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        loop {
            let name = format!("{PREFIX}{:0DIGITS$x}{SUFFIX}", fastrand::u64(..));
            match open_at(
                dir.fd(),
                name.as_str(),
                flags,
                Mode::from_bits_truncate(0o600),
            ) {
                Ok(fd) => {
                    return Ok(Self {
                        temp_name: TempName {
                            dir: dir.clone(),
                            name: FileName::fixed(&name),
                            gone: false,
                        },
                        file: fd.into(),
                        hasher: sha2::Sha256::new(),
                        written: 0,
                        memory: MemoryGuard::of(dir),
                    });
                }
                Err(Errno::EEXIST) => {}
                Err(error) => {
                    return Err(HostError::new(
                        "make a temporary file in",
                        dir.path(),
                        error,
                    ));
                }
            }
        }
    }

    /// Its path, for messages.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.temp_name.path()
    }

    /// The digest of what was written so far.
    #[must_use]
    pub fn sha256(&self) -> Sha256 {
        syscalls::finish_digest(self.hasher.clone())
    }

    /// The hash of what was written so far.
    #[must_use]
    pub const fn hasher(&self) -> &sha2::Sha256 {
        &self.hasher
    }

    /// How many bytes were written to it.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.written
    }

    /// Fills it, while it is empty, with the rest of a file, and hashes what it then holds. Where the file system can share
    /// blocks between files (btrfs, xfs), `copy_file_range(2)` does that, and nothing is written twice.
    pub(super) fn fill_from(&mut self, source: &mut io::Take<File>) -> io::Result<()> {
        self.memory.require(source.limit())?;
        self.written += io::copy(source, &mut self.file)?;
        self.file.seek(SeekFrom::Start(0))?;
        syscalls::each_chunk(&self.file, |chunk| {
            self.hasher.update(chunk);
            Ok(())
        })
    }

    /// Gives it its owner and mode, makes it durable and closes it. Renaming is left to
    /// [`Sealed::publish`], so that a whole set can be sealed before the first of it becomes visible.
    ///
    /// # Errors
    /// When a step fails; the temp is then gone. A failed fsync is never tried again on the same file:
    /// the kernel drops the pages that it could not write and reports it once, so a second call would
    /// succeed over lost data.
    pub fn seal(self, mode: FileMode, owner: Owner) -> Result<Sealed, HostError> {
        let Self {
            temp_name,
            file,
            hasher,
            written,
            ..
        } = self;
        let finish = || {
            syscalls::set_owner_and_mode(&file, owner, mode)?;
            file.sync_all()?;
            let size = FileMetadata::from(&fstat(&file)?).size;
            if size != written {
                return Err(io::Error::other(format!(
                    "{written} bytes were written and it has {size}; something else writes to it"
                )));
            }
            Ok(())
        };
        match finish() {
            Ok(()) => Ok(Sealed {
                temp_name,
                sha256: syscalls::finish_digest(hasher),
                size: written,
            }),
            Err(error) => Err(HostError::new("complete", temp_name.path(), error)),
        }
    }

    /// Seals and publishes in one step, for a single file.
    ///
    /// # Errors
    /// As [`Temp::seal`] and [`Sealed::publish`].
    pub fn publish(
        self,
        into: &Dir,
        name: &FileName,
        mode: FileMode,
        owner: Owner,
    ) -> Result<(), HostError> {
        self.seal(mode, owner)?.publish(into, name)
    }

    /// Fills it with a copy of a regular file, and gives it its name, mode and owner, without waiting for the disk.
    /// Only for a file whose content is verified and made durable before it is used: after a power loss it may contain
    /// anything.
    ///
    /// # Errors
    /// When the source is not a regular file, or a step fails; the temp is then gone.
    pub fn publish_unsynced_copy(
        mut self,
        from: (&Dir, &FileName),
        into: (&Dir, &FileName),
        mode: FileMode,
        owner: Owner,
    ) -> Result<(), HostError> {
        let (dir, name) = from;
        let mut copy = || {
            let mut source = dir.open_to_copy(name)?;
            self.memory.require(source.limit())?;
            io::copy(&mut source, &mut self.file)?;
            syscalls::set_owner_and_mode(&self.file, owner, mode)
        };
        copy().map_err(|error| HostError::new("copy", dir.path_of(name), error))?;
        let (dir, name) = into;
        let from = &self.temp_name;
        from.dir.rename_into(&from.name, dir, name)?;
        self.temp_name.gone = true;
        Ok(())
    }

    fn into_spool(self) -> Result<SpoolFile, HostError> {
        self.temp_name.dir.remove_file(&self.temp_name.name)?;
        let Self {
            mut temp_name,
            file,
            memory,
            ..
        } = self;
        temp_name.gone = true;
        Ok(SpoolFile { file, memory })
    }
}

impl Write for Temp {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.memory.require(bytes.len() as u64)?;
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sealed {
    /// The digest of what was written.
    #[must_use]
    pub const fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// How many bytes were written.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Renames it to where it belongs, over a file or a link that is there (a link's target is left
    /// alone). The caller syncs the directory, once for a whole set.
    ///
    /// # Errors
    /// When the rename fails: a directory is in the way (`EISDIR`), the directory lies on another file
    /// system ([`HostError::crosses_file_systems`]), or the kernel refuses. The temp is then gone.
    pub fn publish(mut self, into: &Dir, name: &FileName) -> Result<(), HostError> {
        let from = &self.temp_name;
        from.dir.rename_into(&from.name, into, name)?;
        self.temp_name.gone = true;
        Ok(())
    }
}

impl SpoolFile {
    /// Cuts or extends it to this many bytes; the position stays.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }
}

impl Read for SpoolFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Write for SpoolFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.memory.require(bytes.len() as u64)?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for SpoolFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Temps that could not be removed, as in a directory that is append-only. There are few: no second temp is made in a
/// directory that has one.
static LEFTOVERS: Mutex<Vec<(Dir, FileName)>> = Mutex::new(Vec::new());

fn lock_leftovers() -> MutexGuard<'static, Vec<(Dir, FileName)>> {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what an earlier temp has left in a directory.
fn remove_leftovers(dir: &Dir) -> Result<(), HostError> {
    let mut leftovers = lock_leftovers();
    let mut kept = Vec::new();
    let mut failure = None;
    for (place, name) in leftovers.drain(..) {
        if place.path() != dir.path() {
            kept.push((place, name));
        } else if let Err(error) = place.remove_file(&name) {
            failure = Some(error);
            kept.push((place, name));
        }
    }
    *leftovers = kept;
    drop(leftovers);
    failure.map_or(Ok(()), Err)
}

impl TempName {
    fn path(&self) -> PathBuf {
        self.dir.path_of(&self.name)
    }
}

impl Drop for TempName {
    fn drop(&mut self) {
        if !self.gone && self.dir.remove_file(&self.name).is_err() {
            let leftover = (self.dir.clone(), self.name.clone());
            lock_leftovers().push(leftover);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_temp_name;

    #[test]
    fn only_the_exact_pattern_is_ours() {
        assert!(is_temp_name(".cni-keeper-0123456789abcdef.tmp"));
        for foreign in [
            ".cni-keeper-0123456789ABCDEF.tmp",
            ".cni-keeper-0123456789abcde.tmp",
            ".cni-keeper-0123456789abcdef0.tmp",
            ".cni-keeper-0123456789abcdef",
            "cni-keeper-0123456789abcdef.tmp",
            ".cni-keeper-0123456789abcdeg.tmp",
            ".cni-keeper-.tmp",
            "bridge.tmp",
        ] {
            assert!(!is_temp_name(foreign), "{foreign}");
        }
    }
}
