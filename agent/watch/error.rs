//! Why a directory cannot be watched.

use std::io;
use std::path::PathBuf;

use notify::ErrorKind;

use crate::host::{HostError, kernel_reason};

/// A directory is not watched. The agent polls then.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// No inotify instance is left. Those of root are shared by every agent of the node, 128 by default.
    #[error(
        "cannot watch for changes: no inotify instance ({}); raise fs.inotify.max_user_instances (sysctl), \
         or the limit on open files (ulimit -n)",
        kernel_reason(source)
    )]
    NoInstance {
        #[source]
        source: io::Error,
    },
    /// The limit on watches is reached. The kernel's own error for this is that of a full disk (`ENOSPC`).
    #[error(
        "cannot watch {}: the limit on inotify watches is reached; raise fs.inotify.max_user_watches (sysctl)",
        path.display()
    )]
    WatchLimit { path: PathBuf },
    /// No thread can be started to read the events.
    #[error(
        "cannot watch for changes: no thread can be started ({}); raise the limit on processes (pids.max, ulimit -u)",
        kernel_reason(source)
    )]
    NoThread {
        #[source]
        source: io::Error,
    },
    /// The directory cannot be inspected, or access to it is denied.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl WatchError {
    pub(super) fn from_open_error(error: notify::Error) -> Self {
        Self::NoInstance {
            source: into_io_error(error),
        }
    }

    /// Why this directory cannot be watched; `None` if it no longer exists.
    pub(super) fn from_refusal(path: PathBuf, error: notify::Error) -> Option<Self> {
        match error.kind {
            ErrorKind::PathNotFound => None,
            ErrorKind::MaxFilesWatch => Some(Self::WatchLimit { path }),
            _ => {
                let error = HostError::new("watch", path, into_io_error(error));
                (!error.is_absent()).then(|| error.into())
            }
        }
    }
}

/// The kernel's error without the library's wrapping.
fn into_io_error(error: notify::Error) -> io::Error {
    match error.kind {
        ErrorKind::Io(source) => source,
        _ => io::Error::other(error),
    }
}
