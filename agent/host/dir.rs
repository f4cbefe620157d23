//! An open directory, and the operations on the names in it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, fchown, unlinkat};

use super::HostError;
use super::attributes;
use super::error::SYNC_ACTION;
use super::resolve::{HostRoot, ResolvedPath};
use super::syscalls::{self, FileKind, FileMetadata, open_at};
use crate::model::{FileAttributes, FileMode, FileName, FileType, Owner};

/// The type of a ramfs (`linux/magic.h`).
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// An open directory. Names in it are reached through its descriptor, so they are in *this* directory even if another
/// one takes its path. Cloning shares the descriptor.
#[derive(Debug, Clone)]
pub struct Dir(Arc<OpenDir>);

#[derive(Debug)]
struct OpenDir {
    fd: OwnedFd,
    path: PathBuf,
    root: Arc<HostRoot>,
    path_in_root: PathBuf,
}

/// One name in a directory, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// The name; any bytes.
    pub name: OsString,
    /// What it is; links are not followed.
    pub kind: FileKind,
}

impl Dir {
    pub(super) fn open_resolved(
        root: &Arc<HostRoot>,
        resolved: &ResolvedPath<'_>,
    ) -> Result<Self, HostError> {
        let path = resolved.path();
        // O_PATH, because opening for reading is an event for every watch on the directory: each observation would
        // wake our own watch many times, and CRI-O's.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match open_at(resolved.fd(), ".", flags, Mode::empty()) {
            Ok(fd) => {
                resolved.remember_links();
                Ok(Self(Arc::new(OpenDir {
                    fd,
                    path_in_root: resolved.path_in_root().to_owned(),
                    root: Arc::clone(root),
                    path,
                })))
            }
            Err(error) => Err(HostError::new("open the directory", path, error)),
        }
    }

    /// Its path, the host root included and links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The path of a name in it: for messages, and for executing it.
    #[must_use]
    pub fn path_of(&self, name: &FileName) -> PathBuf {
        self.0.path.join(name.as_str())
    }

    /// Whether the directory was removed while it was open. A package upgrade deletes and re-creates `/opt/cni/bin`. A
    /// process that still has the old one open sees an empty directory in which no file can be made.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn is_removed(&self) -> Result<bool, HostError> {
        match fstat(&self.0.fd) {
            Ok(stat) => Ok(stat.st_nlink == 0),
            Err(error) => Err(self.host_error("inspect", error)),
        }
    }

    /// Whether both are the same directory.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn is_same_dir(&self, other: &Self) -> Result<bool, HostError> {
        match (fstat(&self.0.fd), fstat(&other.0.fd)) {
            (Ok(this), Ok(that)) => Ok((this.st_dev, this.st_ino) == (that.st_dev, that.st_ino)),
            (Err(error), _) | (_, Err(error)) => Err(self.host_error("inspect", error)),
        }
    }

    /// Whether both are on one mount, so that a file can be renamed from one to the other. Device numbers do not show
    /// that: two mounts of one file system share theirs. Where the kernel does not say, it is assumed.
    #[must_use]
    pub fn is_on_the_mount_of(&self, other: &Self) -> bool {
        let (ours, theirs) = (
            syscalls::mount_id(&self.0.fd),
            syscalls::mount_id(&other.0.fd),
        );
        ours == theirs || ours.is_none() || theirs.is_none()
    }

    /// Whether its files are kept in memory, where they count against the memory limit of whoever writes them: a tmpfs
    /// or ramfs. Where the kernel does not say, it is assumed that they are on a disk.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        let kind = fstatfs(&self.0.fd).map(|found| found.filesystem_type());
        matches!(kind, Ok(TMPFS_MAGIC | RAMFS_MAGIC))
    }

    /// The directory's own mode and owner.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn dir_metadata(&self) -> Result<FileMetadata, HostError> {
        match fstat(&self.0.fd) {
            Ok(stat) => Ok(FileMetadata::from(&stat)),
            Err(error) => Err(self.host_error("inspect", error)),
        }
    }

    /// Everything in it but `.` and `..`, sorted by the bytes of the name, which is the order of Go's
    /// `ReadDir` and so of every runtime.
    ///
    /// # Errors
    /// When the listing fails.
    pub fn list_entries(&self) -> Result<Vec<ListedEntry>, HostError> {
        let fail = |error| self.host_error("list", error);
        let fd = self.open_to_read().map_err(fail)?;
        let mut entries = Vec::new();
        for item in nix::dir::Dir::from_fd(fd).map_err(fail)? {
            let item = item.map_err(fail)?;
            let name = OsStr::from_bytes(item.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            // Some file systems leave the type out of the listing; a name gone since is no entry.
            let kind = match item.file_type().and_then(kind_of_listed) {
                Some(kind) => Some(kind),
                None => self.stat_name(name)?.map(|metadata| metadata.kind),
            };
            entries.extend(kind.map(|kind| ListedEntry {
                name: name.to_owned(),
                kind,
            }));
        }
        entries.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        Ok(entries)
    }

    /// What the kernel knows of a name, without reading the file or following a link; `None` if nothing is there.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn file_metadata(&self, name: &FileName) -> Result<Option<FileMetadata>, HostError> {
        self.stat_name(OsStr::new(name.as_str()))
    }

    /// Gives a regular file exactly this mode and owner, through a descriptor that follows no link;
    /// set-uid, set-gid and sticky bits, file capabilities, flags and an ACL that lets others write are cleared. A file that has other names as well (hard links) may be somebody
    /// else's under these: it keeps its mode there, and this name gets a copy. Durable when it returns.
    ///
    /// # Errors
    /// When it is not a regular file, cannot be read, or the change is refused.
    pub fn set_mode_owner(
        &self,
        name: &FileName,
        mode: FileMode,
        owner: Owner,
    ) -> Result<(), HostError> {
        let change = || {
            let (file, found) = self.open_regular(name)?;
            if found.links > 1 {
                return Ok(Some(file.take(found.size)));
            }
            syscalls::set_owner_and_mode(&file, owner, mode)?;
            file.sync_all()?;
            Ok(None)
        };
        let fail =
            |error| HostError::new("change the mode and owner of", self.path_of(name), error);
        if let Some(mut linked) = change().map_err(fail)? {
            let mut copy = self.create_temp()?;
            copy.fill_from(&mut linked).map_err(fail)?;
            copy.publish(self, name, mode, owner)?;
            self.sync()?;
        }
        Ok(())
    }

    /// Gives the directory itself exactly this mode and owner.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_dir_mode_owner(&self, mode: u32, owner: Owner) -> Result<(), HostError> {
        let change = || {
            let dir = self.open_to_read()?;
            fchown(&dir, Some(owner.uid.into()), Some(owner.gid.into()))?;
            fchmod(&dir, Mode::from_bits_truncate(mode))
        };
        change().map_err(|error| self.host_error("change the mode and owner of", error))
    }

    /// Makes a regular file's content durable.
    ///
    /// # Errors
    /// When it is not a regular file, or the disk refuses: what the kernel could not write is lost then,
    /// although reading it still shows it, so the file must not be used.
    pub fn make_durable(&self, name: &FileName) -> Result<(), HostError> {
        self.open_regular(name)
            .and_then(|(file, _)| file.sync_all())
            .map_err(|error| HostError::new("make durable", self.path_of(name), error))
    }

    /// Renames a file of this directory into another one, over whatever file or link is there: at
    /// each instant the name is the old file or the new one. The caller syncs `to` afterwards, once for many renames.
    ///
    /// # Errors
    /// [`HostError::crosses_file_systems`] when the two directories lie on different file systems *or
    /// different mounts* of the same one; a directory in the way is refused by the kernel (`EISDIR`).
    pub fn rename_into(
        &self,
        from: &FileName,
        to: &Self,
        name: &FileName,
    ) -> Result<(), HostError> {
        to.despite_locks(name, || {
            Ok(renameat(self.fd(), from.as_str(), to.fd(), name.as_str())?)
        })
        .map_err(|error| HostError::new("publish", to.path_of(name), error))
    }

    /// Does something with a name. Where the kernel forbids that because the file there is immutable or append-only, these
    /// flags are removed and it is tried again.
    fn despite_locks(
        &self,
        name: &FileName,
        mut attempt: impl FnMut() -> io::Result<()>,
    ) -> io::Result<()> {
        match attempt() {
            Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
                match self.open_regular(name) {
                    Ok((file, _)) if attributes::read_attributes(&file).is_locked => {
                        attributes::unlock(&file)?;
                        attempt()
                    }
                    _ => Err(error),
                }
            }
            result => result,
        }
    }

    /// What a regular file has beside content, mode and owner.
    ///
    /// # Errors
    /// When it is not a regular file, or cannot be opened.
    pub fn read_attributes(&self, name: &FileName) -> Result<FileAttributes, HostError> {
        match self.open_regular(name) {
            Ok((file, _)) => Ok(attributes::read_attributes(&file)),
            Err(error) => Err(HostError::new("inspect", self.path_of(name), error)),
        }
    }

    /// Removes a file or a link (never its target, never a directory), also an immutable one; `false` if nothing was there.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn remove_file(&self, name: &FileName) -> Result<bool, HostError> {
        let mut was_there = false;
        self.despite_locks(name, || {
            was_there = match unlinkat(self.fd(), name.as_str(), UnlinkatFlags::NoRemoveDir) {
                Err(Errno::ENOENT) => false,
                result => result.map(|()| true)?,
            };
            Ok(())
        })
        .map_err(|error| HostError::new("remove", self.path_of(name), error))?;
        Ok(was_there)
    }

    /// Makes the names in the directory durable.
    ///
    /// # Errors
    /// When the disk refuses: what was published is visible, and may not survive a power loss
    /// ("durability uncertain"). Trying again proves nothing, the kernel reports such an error once.
    pub fn sync(&self) -> Result<(), HostError> {
        let sync = || File::from(self.open_to_read()?).sync_all();
        sync().map_err(|error| self.host_error(SYNC_ACTION, error))
    }

    pub(super) fn open_to_read(&self) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        open_at(&self.0.fd, ".", flags, Mode::empty())
    }

    pub(super) fn unlink_name(&self, name: &str) -> Result<bool, HostError> {
        match unlinkat(self.fd(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(HostError::new("remove", self.0.path.join(name), error)),
        }
    }

    pub(super) fn stat_name(&self, name: &OsStr) -> Result<Option<FileMetadata>, HostError> {
        match fstatat(self.fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileMetadata::from(&stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(HostError::new("inspect", self.0.path.join(name), error)),
        }
    }

    /// Checks the type before opening: opening a device can already use it (a watchdog starts to count down).
    pub(super) fn must_be_regular(&self, name: &FileName) -> io::Result<()> {
        let stat = fstatat(self.fd(), name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        FileKind::of(&stat).must_be_regular()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    pub(super) fn root(&self) -> &HostRoot {
        &self.0.root
    }

    /// The path of a name as seen from inside the root.
    pub(super) fn path_in_root(&self, name: &OsStr) -> PathBuf {
        self.0.path_in_root.join(name)
    }

    fn host_error(&self, action: &'static str, source: impl Into<io::Error>) -> HostError {
        HostError::new(action, &self.0.path, source)
    }
}

/// The kind that a listing gives; `None` where the kernel has to be asked.
const fn kind_of_listed(entry: nix::dir::Type) -> Option<FileKind> {
    use nix::dir::Type;
    Some(match entry {
        Type::File => FileKind::Regular,
        Type::Directory => FileKind::Other(FileType::Directory),
        Type::Symlink => FileKind::Other(FileType::Symlink),
        Type::Fifo | Type::CharacterDevice | Type::BlockDevice | Type::Socket => {
            FileKind::Other(FileType::Special)
        }
    })
}
