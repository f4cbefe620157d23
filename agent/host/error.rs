//! One error for every call to the kernel: what was tried, on what, and how to fix it.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::advice::{PlaceFacts, advise};
use super::circumstances::{read_place, read_process};
use super::link_memory::MissingLink;

/// A failed directory fsync: the names are right now, but may not be after a power loss.
pub(super) const SYNC_ACTION: &str = "sync (durability uncertain)";

/// A system call on the host's file system that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {}{}", path.display(), kernel_reason(source), advice)]
pub struct HostError {
    /// What was tried, as in "cannot *write* /opt/cni/bin/bridge".
    pub action: &'static str,
    /// The path on the host, `--host-root` included.
    pub path: PathBuf,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
    /// What an operator can do about it, as the end of a sentence; empty if no advice is known.
    advice: String,
}

/// Why nothing can be done in a directory that a path still leads to.
#[derive(Debug, thiserror::Error)]
#[error(
    "it was removed on the host while it is mounted here, so nothing can be placed there any more; start cni-keeper \
     again, and mount its parent directory, in which a new one is seen"
)]
struct RemovedMount;

impl HostError {
    /// The error of a mount whose directory was removed.
    pub(super) fn removed_mount(path: impl AsRef<Path>) -> Self {
        Self::new("use", path, io::Error::other(RemovedMount))
    }

    /// Whether the path leads to a mount whose directory was removed on the host. That lasts until the mount is made
    /// anew, which is beyond this process.
    #[must_use]
    pub fn is_removed_mount(&self) -> bool {
        let source = self.source.get_ref();
        source
            .and_then(|it| it.downcast_ref::<RemovedMount>())
            .is_some()
    }

    /// The link whose absence is the reason, if that is so. It counts as absent.
    #[must_use]
    pub fn missing_link(&self) -> Option<&MissingLink> {
        self.source.get_ref()?.downcast_ref()
    }

    /// The error of one attempt: what was tried, on which path, and the kernel's answer.
    pub fn new(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.as_ref(), source.into());
        Self {
            action,
            path: path.to_owned(),
            advice: find_advice(&source, path).map_or_else(String::new, |it| format!("; {it}")),
            source,
        }
    }

    /// The kernel's error number, if the error came from the kernel.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        self.source.raw_os_error().map(Errno::from_raw)
    }

    /// Whether the path does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether a rename was refused because the two directories lie on different file systems or
    /// mounts; copying works then. Two bind mounts of one file system count as different (`rename(2)`).
    #[must_use]
    pub fn crosses_file_systems(&self) -> bool {
        self.errno() == Some(Errno::EXDEV)
    }

    /// Whether the file system takes no changes at all.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.errno() == Some(Errno::EROFS)
    }

    /// Whether the file system has no room left, or this user may not use it, or it is kept in memory and the memory
    /// limit leaves none.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self.source.kind(), StorageFull | QuotaExceeded)
    }

    /// Whether the machine itself lacks a resource or fails, so that every other path would fail too.
    #[must_use]
    pub fn is_the_machines(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EIO)
        )
    }

    /// Whether another process holds the lock.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.source.kind() == io::ErrorKind::WouldBlock
    }
}

/// The message of an error, without the "(os error N)" that Rust appends to the kernel's.
#[must_use]
pub fn kernel_reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// What an operator can do about it. The disk is asked only where the answer depends on it.
fn find_advice(error: &io::Error, path: &Path) -> Option<String> {
    let errno = Errno::from_raw(error.raw_os_error()?);
    let place = match errno {
        Errno::EACCES | Errno::EPERM | Errno::EROFS => read_place(path),
        Errno::ENOENT => return None,
        _ => PlaceFacts::default(),
    };
    advise(errno, &read_process(), &place)
}
