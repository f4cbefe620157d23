//! Why the kernel does not tell of changes.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use notify::ErrorKind;

use crate::host::HostError;

/// A directory is not watched. Its changes are still seen by looking at it again and again.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// There is no inotify instance. Root's are shared by every agent of the node, 128 by default.
    #[error(
        "cannot watch for changes: no inotify instance ({}); raise fs.inotify.max_user_instances (sysctl), \
         or the limit on open files (ulimit -n)",
        reason(source)
    )]
    Instances {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The limit on watches is reached. The kernel's own words for it are those for a full disk (`ENOSPC`).
    #[error(
        "cannot watch {}: the limit on inotify watches is reached; raise fs.inotify.max_user_watches (sysctl)",
        path.display()
    )]
    Watches {
        /// The directory.
        path: PathBuf,
    },
    /// There is no thread to read the events.
    #[error(
        "cannot watch for changes: no thread can be started ({}); raise the limit on processes (pids.max, ulimit -u)",
        reason(source)
    )]
    Thread {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The directory cannot be inspected, or is closed to us.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl WatchError {
    pub(super) fn no_instance(error: notify::Error) -> Self {
        Self::Instances {
            source: kernels(error),
        }
    }

    /// What was refused of this directory; `None` where it is merely gone.
    pub(super) fn refused(path: PathBuf, error: notify::Error) -> Option<Self> {
        match error.kind {
            ErrorKind::PathNotFound => None,
            ErrorKind::MaxFilesWatch => Some(Self::Watches { path }),
            _ => {
                let error = HostError::new("watch", path, kernels(error));
                (!error.is_absent()).then(|| error.into())
            }
        }
    }
}

/// The kernel's answer without the library's wrapping.
fn kernels(error: notify::Error) -> io::Error {
    match error.kind {
        ErrorKind::Io(source) => source,
        _ => io::Error::other(error),
    }
}

/// The kernel's sentence without Rust's "(os error N)".
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}
