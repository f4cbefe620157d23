//! Which directory a path leads to, so that a new one under the same path is recognised.

use std::path::Path;

use nix::errno::Errno;
use nix::libc::{dev_t, ino_t};
use nix::sys::stat::lstat;

use super::HostError;
use super::syscalls::FileKind;
use crate::model::FileType;

/// A directory of the machine, by the numbers of its device and inode.
///
/// Most file systems give the number of a removed directory to the next one that is made: equal numbers mean
/// the same directory only where it is known not to have been removed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirIdentity {
    device: dev_t,
    inode: ino_t,
}

impl DirIdentity {
    /// The directory at a path of the machine; `None` where there is no directory, or a link.
    ///
    /// # Errors
    /// When a part of the path cannot be accessed.
    pub fn of_path(path: &Path) -> Result<Option<Self>, HostError> {
        match lstat(path) {
            Ok(stat) if FileKind::of(&stat) == FileKind::Other(FileType::Directory) => {
                Ok(Some(Self {
                    device: stat.st_dev,
                    inode: stat.st_ino,
                }))
            }
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(error) => Err(HostError::new("inspect", path, error)),
        }
    }
}
