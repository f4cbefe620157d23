//! What can stop a pass.

use crate::cni::{Finding, RenderError};
use crate::fetch::{ArchiveError, FetchError};
use crate::host::HostError;
use crate::model::{FailureKind, SourceFailure};
use crate::store::{ManagedDirs, StoreError};

/// What stopped a pass before the node was as declared. What was right before still is.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The file system refused.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The state directory refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No source gave the pinned bytes.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The bytes are the pinned ones, and not what they should be.
    #[error("{artifact}: {source}")]
    Archive {
        /// The artifact, by the operator's name.
        artifact: String,
        /// What is wrong with it.
        #[source]
        source: ArchiveError,
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
    /// The conflist asks for facts that are not known.
    #[error("network.conflist: {0}")]
    Render(#[from] RenderError),
    /// A runtime would not take the conflist, or no pod would get a network from it.
    #[error("network.conflist has {} mistakes", .0.len())]
    Conflist(Vec<Finding>),
    /// Something has to be fetched and the network is not to be used.
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
    /// A thread of ours ended without its result.
    #[error("internal: a worker ended early: {0}")]
    Worker(#[from] tokio::task::JoinError),
    /// SIGTERM or SIGINT came.
    #[error("stopped by a signal; what is in place is whole, run it again to go on")]
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

    /// What came of asking each source, where no source was the failure.
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
        match self {
            Self::Host(error) | Self::Store(StoreError::Host(error)) => error.is_held(),
            _ => false,
        }
    }

    /// Whether there was no room for it on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Host(error) | Self::Store(StoreError::Host(error)) => error.is_full(),
            _ => false,
        }
    }

    /// Whether it was a read-only file system that refused.
    pub(super) fn is_read_only(&self) -> bool {
        match self {
            Self::Host(error) | Self::Store(StoreError::Host(error)) => error.is_read_only(),
            _ => false,
        }
    }
}

/// Runs work that may block on a thread where it may.
///
/// # Errors
/// Those of the work.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReconcileError> + Send + 'static,
) -> Result<T, ReconcileError> {
    tokio::task::spawn_blocking(work).await?
}
