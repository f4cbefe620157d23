//! Path resolution inside a root: what `chroot` would see, without being in one.
//!
//! The kernel has this as `openat2(RESOLVE_IN_ROOT)` since 5.6. Nodes with older kernels are in
//! service (RHEL 8 has 4.18) and old seccomp profiles refuse the call, so the walk would be needed
//! anyway; it is therefore the only way here. It is as tight: each step opens one component relative
//! to the one before without following links, and `..` goes back to a directory already passed.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};

use super::HostError;
use super::link_memory::{LinkMemory, MissingLink};
use super::syscalls::{FileKind, FileMetadata, mount_id, open_at};
use crate::model::FileType;

/// As many links as the kernel follows in one path (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;

/// The directory that is `/` for every path of the host.
#[derive(Debug)]
pub(super) struct HostRoot {
    fd: OwnedFd,
    path: PathBuf,
    links: LinkMemory,
}

/// A resolved path: its components with every link resolved. The last one is the file or directory itself.
#[derive(Debug)]
pub(super) struct ResolvedPath<'r> {
    root: &'r HostRoot,
    steps: Vec<OwnedFd>,
    path_in_root: PathBuf,
    /// The links that were followed, each by its path inside the root, with what it contains.
    followed: Vec<(PathBuf, PathBuf)>,
}

/// The mode of parent directories, which others use as well.
const PARENT_MODE: u32 = 0o755;

/// How to make missing directories.
#[derive(Debug, Clone, Copy)]
pub(super) struct MissingDirs {
    /// The mode of the last one.
    pub(super) mode: u32,
    /// Whether its parents are made as well.
    pub(super) parents: bool,
}

impl HostRoot {
    pub(super) fn open(path: &Path) -> Result<Self, HostError> {
        let fail = |error| HostError::new("open the host root", path, error);
        let path = std::path::absolute(path).map_err(fail)?;
        // Anything that is not a directory is refused without being opened: opening a FIFO waits for its writer.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match open(&path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self {
                fd,
                path,
                links: LinkMemory::default(),
            }),
            Err(error) => Err(fail(error.into())),
        }
    }

    pub(super) fn display_path(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn start(&self) -> ResolvedPath<'_> {
        ResolvedPath {
            root: self,
            steps: Vec::new(),
            path_in_root: PathBuf::new(),
            followed: Vec::new(),
        }
    }

    /// Follows `path`, which counts from this root whether it begins with `/` or not. With `make`,
    /// directories that are missing are made, each durable before the next, but none where a link was before. A mount whose directory was removed is an
    /// error of its own, and so is the root if it was removed: its descriptor stays open.
    pub(super) fn resolve(
        &self,
        path: &Path,
        make: Option<MissingDirs>,
    ) -> Result<ResolvedPath<'_>, HostError> {
        let root = fstat(&self.fd).map_err(|error| HostError::new("inspect", &self.path, error))?;
        if FileMetadata::from(&root).is_removed_dir() {
            return Err(HostError::removed_mount(&self.path));
        }
        let mut resolved = self.start();
        let mut links = 0;
        let mut ahead: VecDeque<OsString> = split_components(path);
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                resolved.pop_component();
                continue;
            }
            let inside = resolved.path_in_root.join(&name);
            let here = self.path.join(&inside);
            let fail = |error| HostError::new("find", &here, error);
            let next = match resolved.open_component(&name) {
                Err(Errno::ENOENT) if let Some(target) = self.links.find_target(&inside) => {
                    let link = MissingLink { path: here, target };
                    let missing = io::Error::new(io::ErrorKind::NotFound, link.clone());
                    return Err(HostError::new("find", link.path, missing));
                }
                Err(Errno::ENOENT) => match make.and_then(|make| make.mode_of(ahead.is_empty())) {
                    Some(mode) => resolved.make_dir(&name, mode)?,
                    None => return Err(fail(Errno::ENOENT)),
                },
                result => result.map_err(fail)?,
            };
            let found = FileMetadata::from(&fstat(&next).map_err(fail)?);
            if found.kind == FileKind::Other(FileType::Symlink) {
                links += 1;
                if links > MAX_LINKS {
                    return Err(fail(Errno::ELOOP));
                }
                let target = PathBuf::from(readlinkat(&next, "").map_err(fail)?);
                if target.is_absolute() {
                    resolved.steps.clear();
                    resolved.path_in_root.clear();
                }
                resolved.followed.push((inside, target.clone()));
                let mut through = split_components(&target);
                through.append(&mut ahead);
                ahead = through;
            } else {
                if found.is_removed_dir() && resolved.is_mounted_here(&next) {
                    return Err(HostError::removed_mount(here));
                }
                self.links.forget(&inside);
                resolved.steps.push(next);
                resolved.path_in_root = inside;
            }
        }
        Ok(resolved)
    }
}

impl MissingDirs {
    /// The mode for a missing directory; `None` if it must not be made.
    const fn mode_of(self, is_last: bool) -> Option<u32> {
        match (is_last, self.parents) {
            (true, _) => Some(self.mode),
            (false, true) => Some(PARENT_MODE),
            (false, false) => None,
        }
    }
}

/// The components that matter: names and `..`, as text.
fn split_components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

impl ResolvedPath<'_> {
    /// The path with every link resolved, the host root included.
    pub(super) fn path(&self) -> PathBuf {
        self.root.path.join(&self.path_in_root)
    }

    /// The same path as seen from inside the root.
    pub(super) fn path_in_root(&self) -> &Path {
        &self.path_in_root
    }

    /// Keeps the links in mind that led here, because this is a directory that is used.
    pub(super) fn remember_links(&self) {
        self.root.links.remember(&self.followed);
    }

    /// The file or directory itself, opened with `O_PATH`.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.steps.last().unwrap_or(&self.root.fd).as_fd()
    }

    /// The directory that contains it; the root is its own parent.
    pub(super) fn parent_fd(&self) -> BorrowedFd<'_> {
        let before = self.steps.len().saturating_sub(1);
        self.steps[..before].last().unwrap_or(&self.root.fd).as_fd()
    }

    pub(super) fn file_kind(&self) -> nix::Result<FileKind> {
        fstat(self.fd()).map(|stat| FileKind::of(&stat))
    }

    fn open_component(&self, name: &OsString) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        open_at(self.fd(), name.as_os_str(), flags, Mode::empty())
    }

    /// Whether a directory that was found here is on another mount. A directory that has no links and is on the same one
    /// was removed at this moment: the next walk does not find it.
    fn is_mounted_here(&self, found: &OwnedFd) -> bool {
        let here = self.steps.last().unwrap_or(&self.root.fd);
        mount_id(here) != mount_id(found)
    }

    /// One component back; at the root it stays there.
    fn pop_component(&mut self) {
        self.steps.pop();
        self.path_in_root.pop();
    }

    fn make_dir(&self, name: &OsString, mode: u32) -> Result<OwnedFd, HostError> {
        let path = self.path().join(name);
        let fail = |error| HostError::new("make the directory", &path, error);
        let mode = Mode::from_bits_truncate(mode);
        match mkdirat(self.fd(), name.as_os_str(), mode) {
            // Another process made it in the meantime: its mode is not ours to change.
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(fail(error)),
            Ok(()) => {
                let directory = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
                let made =
                    open_at(self.fd(), name.as_os_str(), directory, Mode::empty()).map_err(fail)?;
                // mkdir applies the umask of the process.
                fchmod(&made, mode).map_err(fail)?;
                let parent = open_at(self.fd(), ".", directory, Mode::empty()).map_err(fail)?;
                File::from(parent).sync_all().map_err(|error| {
                    HostError::new(super::error::SYNC_ACTION, self.path(), error)
                })?;
            }
        }
        self.open_component(name).map_err(fail)
    }
}
