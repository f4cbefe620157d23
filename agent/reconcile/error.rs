//! What can stop a pass.

use std::path::PathBuf;

use crate::cni::{Finding, RenderError};
use crate::fetch::{ArchiveError, FetchError};
use crate::host::{HostError, MemoryLimit, MissingLink, describe_size};
use crate::model::{FailureKind, SourceFailure};
use crate::store::{ManagedDirs, StoreError};

/// Why a pass stopped before the node was as declared. Files that were right before still are.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A file operation failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// An operation in the state directory failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No source gave the pinned bytes.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The artifact has the pinned digest, but it cannot be unpacked.
    #[error("{artifact}: {source}")]
    Archive {
        /// The artifact, by the operator's name.
        artifact: String,
        /// What is wrong with it.
        #[source]
        source: ArchiveError,
    },
    /// The plugins would be kept in memory, and the memory limit leaves no room for them.
    #[error(
        "{artifact}: its plugins have {}, and {}, where they are unpacked, is kept in memory (tmpfs); of the memory \
         limit of {} only {} are left; raise it (resources.limits.memory) to {} or more, or keep paths.stateDir on a \
         disk",
        describe_size(*needed), dir.display(), describe_size(limit.limit), describe_size(limit.left()),
        describe_size(*enough)
    )]
    Memory {
        /// The artifact, by the operator's name.
        artifact: String,
        /// How many bytes its plugins have.
        needed: u64,
        /// Where they would be kept, `--host-root` included.
        dir: PathBuf,
        /// What is left of the limit, with what was unpacked so far.
        limit: MemoryLimit,
        /// The limit that would be enough to unpack them, in bytes.
        enough: u64,
    },
    /// The files of the ledger lie in other directories than the declared ones.
    #[error(
        "{state} knows files placed in {} and {}, and other directories are declared now; uninstall with \
         the former paths first, or choose another paths.stateDir",
        was.bin.display(), was.conf.display()
    )]
    Moved {
        /// The state directory, `--host-root` included.
        state: String,
        /// Where the files are.
        was: ManagedDirs,
    },
    /// The conflist uses facts that are not known.
    #[error("network.conflist: {0}")]
    Render(#[from] RenderError),
    /// A runtime would refuse the conflist, or pods would get no network from it.
    #[error("network.conflist has {} mistakes", .0.len())]
    Conflist(Vec<Finding>),
    /// An artifact has to be downloaded, but `--offline` forbids it.
    #[error(
        "{artifact} {version} is neither in place nor in the store, and --offline leaves no source for it; \
         run once without --offline, or name a seed that cni-keeper bundle made (--seed DIR)"
    )]
    Offline {
        /// The artifact, by the operator's name.
        artifact: String,
        /// Its version.
        version: String,
    },
    /// A worker thread ended without a result.
    #[error("internal: a worker ended early: {0}")]
    Worker(#[from] tokio::task::JoinError),
    /// The process received SIGTERM or SIGINT.
    #[error(
        "stopped by a signal; every file in place is complete; run the command again to continue"
    )]
    Stopped,
}

impl ReconcileError {
    /// The kind for metrics.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Fetch(error) => error.kind(),
            Self::Archive { source, .. } => source.kind(),
            _ => FailureKind::Io,
        }
    }

    /// Why each source that was asked failed, if the sources are the cause.
    #[must_use]
    pub fn source_failures(&self) -> Vec<SourceFailure> {
        match self {
            Self::Fetch(FetchError::Sources { tried, .. }) => {
                tried.iter().map(SourceFailure::from).collect()
            }
            Self::Fetch(FetchError::UnresolvedPin { tried, .. }) => tried.clone(),
            _ => Vec::new(),
        }
    }

    /// Whether another agent holds the state directory.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.host_error().is_some_and(HostError::is_held)
    }

    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.host_error().is_some_and(HostError::is_full)
    }

    /// The link whose absence is the reason, if that is so.
    #[must_use]
    pub fn missing_link(&self) -> Option<&MissingLink> {
        self.host_error()?.missing_link()
    }

    /// Whether the running agent tells it elsewhere: a link that is missing, once it has been for long, and a mount that was
    /// removed on the host, when the agent ends.
    #[must_use]
    pub fn is_told_elsewhere(&self) -> bool {
        let tells = |error: &HostError| error.missing_link().is_some() || error.is_removed_mount();
        self.host_error().is_some_and(tells)
    }

    const fn host_error(&self) -> Option<&HostError> {
        match self {
            Self::Host(error) | Self::Store(StoreError::Host(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether the file system is read-only.
    pub(super) fn is_read_only(&self) -> bool {
        self.host_error().is_some_and(HostError::is_read_only)
    }
}

/// Runs blocking work on a thread that is made for it.
///
/// # Errors
/// Those of the work.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReconcileError> + Send + 'static,
) -> Result<T, ReconcileError> {
    tokio::task::spawn_blocking(work).await?
}
