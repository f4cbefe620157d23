//! The host as a whole: its root, and the owner that files get.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{AccessFlags, access, getegid, geteuid};

use super::observe::{FileReader, HashedFile};
use super::resolve::{HostRoot, MissingDirs};
use super::{Dir, HostError};
use crate::model::{FileName, FileState, Owner};

/// The host's file system under one root.
///
/// Every path given to it counts from that root, and so does every symbolic link met on the way: under
/// `--host-root /host` a link to `/data/cni` means `/host/data/cni`, as it does for the runtime on the host.
#[derive(Debug, Clone)]
pub struct Host {
    root: Arc<HostRoot>,
    owner: Owner,
}

/// The machine's host name; `None` where it is not UTF-8.
#[must_use]
pub fn machine_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

/// Checks that the kernel would run this file: its mode, and whether it is mounted noexec. `path` is a real one, from
/// [`Dir::path_of`] or [`Host::resolve_path`].
///
/// # Errors
/// The kernel's answer.
pub fn check_executable(path: &Path) -> io::Result<()> {
    Ok(access(path, AccessFlags::X_OK)?)
}

impl Host {
    /// Opens the root: `/`, or the directory of `--host-root`.
    ///
    /// # Errors
    /// When it is absent, not a directory, or cannot be accessed.
    pub fn open(root: &Path) -> Result<Self, HostError> {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        // Root enforces root:root whatever its own group is: that is what the runtime's files have.
        let owner = match uid {
            0 => Owner { uid: 0, gid: 0 },
            _ => Owner { uid, gid },
        };
        Ok(Self {
            root: Arc::new(HostRoot::open(root)?),
            owner,
        })
    }

    /// The owner that is enforced: 0:0 as root, else whoever runs this (a sandbox).
    #[must_use]
    pub const fn owner(&self) -> Owner {
        self.owner
    }

    /// Whether the enforced owner is root, as it is on every real node.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.owner.uid == 0
    }

    /// Whether the root is `/`, so that a program that cannot be run from here cannot be run at all.
    #[must_use]
    pub fn is_the_machine(&self) -> bool {
        self.root.display_path(Path::new("/")) == Path::new("/")
    }

    /// A path with the host root in front, for messages only: links are not resolved.
    #[must_use]
    pub fn display_path(&self, path: &Path) -> PathBuf {
        self.root.display_path(path)
    }

    /// Opens a directory that is there.
    ///
    /// # Errors
    /// When it is absent ([`HostError::is_absent`]), not a directory, or cannot be accessed.
    pub fn open_dir(&self, path: &Path) -> Result<Dir, HostError> {
        Dir::open_resolved(&self.root, &self.root.resolve(path, None)?)
    }

    /// Opens a directory, making it and its parents where they are missing.
    ///
    /// A directory that is made gets `mode`, and its missing parents get 0755, because others use them too. One that
    /// exists keeps its mode (containerd makes `/etc/cni` with 0700). Each new directory is durable before this
    /// returns. Where a link led to a directory before, none is made ([`HostError::missing_link`]).
    ///
    /// # Errors
    /// When a part cannot be made, or is there and not a directory.
    pub fn ensure_dir(&self, path: &Path, mode: u32) -> Result<Dir, HostError> {
        let parents = true;
        Dir::open_resolved(
            &self.root,
            &self
                .root
                .resolve(path, Some(MissingDirs { mode, parents }))?,
        )
    }

    /// The same for a directory inside one of ours. The parent is not made: its absence must not go unnoticed.
    ///
    /// # Errors
    /// As [`Host::ensure_dir`], and when a parent is missing ([`HostError::is_absent`]).
    pub fn ensure_subdir(&self, path: &Path, mode: u32) -> Result<Dir, HostError> {
        let parents = false;
        Dir::open_resolved(
            &self.root,
            &self
                .root
                .resolve(path, Some(MissingDirs { mode, parents }))?,
        )
    }

    /// Reads a small file whole, through links.
    ///
    /// # Errors
    /// When it is absent, not a regular file, larger than `cap` bytes, or cannot be accessed.
    pub fn read_file(&self, path: &Path, cap: u64) -> Result<Vec<u8>, HostError> {
        self.open_file(path)?.read_to_vec(cap)
    }

    /// Opens a file for reading from its start, through links. It is for content that must not be read into memory as
    /// a whole.
    ///
    /// # Errors
    /// When it is absent, not a regular file, or cannot be accessed.
    pub fn open_file(&self, path: &Path) -> Result<FileReader, HostError> {
        FileReader::open_resolved(&self.root.resolve(path, None)?)
    }

    /// The real path, with every link resolved inside the root, for calls that would follow links out of it (`connect`,
    /// `exec`).
    ///
    /// # Errors
    /// When nothing is there ([`HostError::is_absent`]), or a part of the path cannot be accessed.
    pub fn resolve_path(&self, path: &Path) -> Result<PathBuf, HostError> {
        Ok(self.root.resolve(path, None)?.path())
    }

    /// The state of the file to which a path leads, through links, as [`Dir::observe_file_again`] gives it.
    ///
    /// # Errors
    /// When nothing is there ([`HostError::is_absent`]), or a part of the path cannot be accessed.
    pub fn observe_linked(
        &self,
        path: &Path,
        largest: u64,
        seen: &mut Option<HashedFile>,
    ) -> Result<FileState, HostError> {
        let resolved = self.root.resolve(path, None)?;
        let target = Path::new("/").join(resolved.path_in_root());
        let name = target.file_name().and_then(|name| name.to_str());
        let name: Option<FileName> = name.and_then(|name| name.parse().ok());
        match target.parent().zip(name) {
            Some((parent, name)) => {
                let dir = self.open_dir(parent)?;
                Ok(dir.observe_file_again(&name, largest, seen))
            }
            None => Ok(FileState::Unreadable("its name cannot be used".to_owned())),
        }
    }

    /// Whether the path exists. Links are followed. A dangling link counts as absent.
    ///
    /// # Errors
    /// When a part of the path cannot be accessed, or is not a directory.
    pub fn exists(&self, path: &Path) -> Result<bool, HostError> {
        match self.resolve_path(path) {
            Ok(_) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
