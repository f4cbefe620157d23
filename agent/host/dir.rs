//! An open directory, and what is done to the names in it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::error::SYNC;
use super::sys::{self, Kind, Metadata, open_at};
use super::temp::is_own_temp;
use super::walk::{Root, Trail};
use super::{HostError, Spool, Temp};
use crate::model::{FileMode, FileName, FileType, Owner};

/// An open directory. Names in it are reached through its descriptor, so they stay in *this* directory
/// whatever happens to the path meanwhile. Cloning shares the descriptor.
#[derive(Debug, Clone)]
pub struct Dir(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    path: PathBuf,
    root: Arc<Root>,
    inside: PathBuf,
}

/// One name in a directory, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name; any bytes.
    pub name: OsString,
    /// What it is; links are not followed.
    pub kind: Kind,
}

impl Dir {
    pub(super) fn at(root: &Arc<Root>, trail: &Trail<'_>) -> Result<Self, HostError> {
        let path = trail.path();
        // Opened for nothing but to be named: opening to read is an event to whoever watches the directory, and so
        // every look would wake our own watch many times, and CRI-O's.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match open_at(trail.end(), ".", flags, Mode::empty()) {
            Ok(fd) => Ok(Self(Arc::new(Inner {
                fd,
                inside: trail.inner().to_owned(),
                root: Arc::clone(root),
                path,
            }))),
            Err(error) => Err(HostError::new("open the directory", path, error)),
        }
    }

    /// Where it lies, the host root in front and links followed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Where a name in it lies: for messages, and for executing it.
    #[must_use]
    pub fn file(&self, name: &FileName) -> PathBuf {
        self.0.path.join(name.as_str())
    }

    /// Whether the directory was removed while it was open. A package upgrade deletes and re-creates
    /// `/opt/cni/bin`; what still holds the old one sees an empty directory that takes no file.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn is_dead(&self) -> Result<bool, HostError> {
        match fstat(&self.0.fd) {
            Ok(stat) => Ok(stat.st_nlink == 0),
            Err(error) => Err(self.fail("inspect", error)),
        }
    }

    /// Whether both are one directory, however they were opened.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn is(&self, other: &Self) -> Result<bool, HostError> {
        match (fstat(&self.0.fd), fstat(&other.0.fd)) {
            (Ok(this), Ok(that)) => Ok((this.st_dev, this.st_ino) == (that.st_dev, that.st_ino)),
            (Err(error), _) | (_, Err(error)) => Err(self.fail("inspect", error)),
        }
    }

    /// Whether both lie on one mount, so that a rename leads from one to the other. Device numbers do not
    /// tell: two mounts of one file system share theirs. Where the kernel does not say, it is assumed.
    #[must_use]
    pub fn is_on_the_mount_of(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.mount(), other.mount());
        ours == theirs || ours.is_none() || theirs.is_none()
    }

    /// The number of the mount that the descriptor is on (`mnt_id` in proc_pid_fdinfo(5)).
    fn mount(&self) -> Option<String> {
        let number = self.0.fd.as_raw_fd();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let line = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
        Some(line.trim().to_owned())
    }

    /// The directory's own mode and owner.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn own_metadata(&self) -> Result<Metadata, HostError> {
        match fstat(&self.0.fd) {
            Ok(stat) => Ok(Metadata::from(&stat)),
            Err(error) => Err(self.fail("inspect", error)),
        }
    }

    /// Everything in it but `.` and `..`, sorted by the bytes of the name, which is the order of Go's
    /// `ReadDir` and so of every runtime.
    ///
    /// # Errors
    /// When the listing fails.
    pub fn entries(&self) -> Result<Vec<Entry>, HostError> {
        let fail = |error| self.fail("list", error);
        let fd = self.open_to_read().map_err(fail)?;
        let mut entries = Vec::new();
        for item in nix::dir::Dir::from_fd(fd).map_err(fail)? {
            let item = item.map_err(fail)?;
            let name = OsStr::from_bytes(item.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            // Some file systems leave the type out of the listing; a name gone since is no entry.
            let kind = match item.file_type().and_then(listed) {
                Some(kind) => Some(kind),
                None => self.stat(name)?.map(|metadata| metadata.kind),
            };
            entries.extend(kind.map(|kind| Entry {
                name: name.to_owned(),
                kind,
            }));
        }
        entries.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        Ok(entries)
    }

    /// What stands under a name, without reading it and without following a link; `None` if nothing does.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn metadata(&self, name: &FileName) -> Result<Option<Metadata>, HostError> {
        self.stat(OsStr::new(name.as_str()))
    }

    /// Makes a new, private, empty file under a name of our own pattern: `.cni-keeper-<16 hex>.tmp`.
    ///
    /// The extension is none of `.conf`, `.conflist` and `.json`: containerd loads hidden files too.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create_temp(&self) -> Result<Temp, HostError> {
        Temp::create(self)
    }

    /// Makes a file without a name, for bytes that must not outlive the process: a kill leaves nothing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn spool(&self) -> Result<Spool, HostError> {
        Temp::create(self)?.into_spool()
    }

    /// Removes the temps that a killed run left: regular files whose name has our own pattern, and
    /// nothing else. To be called with the lock held, so that none of them is in use. Returns their names.
    ///
    /// # Errors
    /// When the directory cannot be listed or a temp not be removed.
    pub fn sweep(&self) -> Result<Vec<String>, HostError> {
        let mut swept = Vec::new();
        for Entry { name, kind } in self.entries()? {
            let Some(name) = name.to_str().filter(|name| is_own_temp(name)) else {
                continue;
            };
            if kind == Kind::Regular && self.unlink(name)? {
                swept.push(name.to_owned());
            }
        }
        Ok(swept)
    }

    /// Gives a regular file exactly this mode and owner, through a descriptor that follows no link;
    /// set-uid, set-gid and sticky bits are cleared. Durable when it returns.
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
            self.must_be_regular(name)?;
            let (file, _) = sys::open_regular(self.fd(), name.as_str())?;
            sys::set_owner_and_mode(&file, owner, mode)?;
            file.sync_all()
        };
        change()
            .map_err(|error| HostError::new("change the mode and owner of", self.file(name), error))
    }

    /// Makes a regular file's content durable.
    ///
    /// # Errors
    /// When it is not a regular file, or the disk refuses: what the kernel could not write is lost then,
    /// although reading it still shows it, so the file must not be used.
    pub fn make_durable(&self, name: &FileName) -> Result<(), HostError> {
        self.open_regular(name)
            .and_then(|(file, _)| file.sync_all())
            .map_err(|error| HostError::new("make durable", self.file(name), error))
    }

    /// Renames a file of this directory into another one, over whatever file or link is there: one
    /// instant it is the old, the next the new. The caller syncs `to` afterwards, once for many renames.
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
        self.rename(from.as_str(), to, name)
    }

    /// Removes a file or a link (never its target, never a directory); `false` if there was none.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn remove(&self, name: &FileName) -> Result<bool, HostError> {
        self.unlink(name.as_str())
    }

    /// Makes the names in the directory durable.
    ///
    /// # Errors
    /// When the disk refuses: what was published is visible, and may not survive a power loss
    /// ("durability uncertain"). Trying again proves nothing, the kernel reports such an error once.
    pub fn sync(&self) -> Result<(), HostError> {
        let sync = || File::from(self.open_to_read()?).sync_all();
        sync().map_err(|error| self.fail(SYNC, error))
    }

    fn open_to_read(&self) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        open_at(&self.0.fd, ".", flags, Mode::empty())
    }

    pub(super) fn rename(&self, from: &str, to: &Self, name: &FileName) -> Result<(), HostError> {
        renameat(self.fd(), from, to.fd(), name.as_str())
            .map_err(|error| HostError::new("publish", to.file(name), error))
    }

    pub(super) fn unlink(&self, name: &str) -> Result<bool, HostError> {
        match unlinkat(self.fd(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(HostError::new("remove", self.0.path.join(name), error)),
        }
    }

    pub(super) fn stat(&self, name: &OsStr) -> Result<Option<Metadata>, HostError> {
        match fstatat(self.fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Metadata::from(&stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(HostError::new("inspect", self.0.path.join(name), error)),
        }
    }

    /// Looks before opening: to open a device can be to use it (a watchdog starts ticking).
    pub(super) fn must_be_regular(&self, name: &FileName) -> std::io::Result<()> {
        let stat = fstatat(self.fd(), name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Kind::of(&stat).must_be_regular()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    pub(super) fn root(&self) -> &Root {
        &self.0.root
    }

    /// The path of a name as seen from inside the root.
    pub(super) fn inside(&self, name: &OsStr) -> PathBuf {
        self.0.inside.join(name)
    }

    fn fail(&self, action: &'static str, source: impl Into<std::io::Error>) -> HostError {
        HostError::new(action, &self.0.path, source)
    }
}

/// The kind that a listing gives; `None` for one to ask the kernel about.
const fn listed(entry: nix::dir::Type) -> Option<Kind> {
    use nix::dir::Type;
    Some(match entry {
        Type::File => Kind::Regular,
        Type::Directory => Kind::Other(FileType::Directory),
        Type::Symlink => Kind::Other(FileType::Symlink),
        Type::Fifo | Type::CharacterDevice | Type::BlockDevice | Type::Socket => {
            Kind::Other(FileType::Special)
        }
    })
}
