//! What can go wrong with the agent's own state.

use std::path::PathBuf;

use crate::host::HostError;
use crate::model::Sha256;

/// A failure of the ledger or the content store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Somebody else may write to the state directory, and so decide what plugins must be.
    #[error(
        "{} belongs to uid {uid} and has mode {mode:04o}, so that others can change what is known of the plugins; \
         look at what is in it, then chown it to {owner} and chmod it to 0700",
        path.display()
    )]
    Exposed {
        /// The state directory.
        path: PathBuf,
        /// Who owns it.
        uid: u32,
        /// Its mode bits.
        mode: u32,
        /// Who should own it.
        owner: u32,
    },
    /// The ledger is there and is not one.
    #[error(
        "{} is damaged ({source}); move it away and run again: files placed before are then no longer known as ours",
        path.display()
    )]
    Damaged {
        /// The ledger.
        path: PathBuf,
        /// Where it stops making sense.
        #[source]
        source: serde_json::Error,
    },
    /// The ledger was written by a later version.
    #[error(
        "{} has schema {schema}, this cni-keeper knows schema {known}; use the version that wrote it, or move it away: files placed before are then no longer known as ours",
        path.display()
    )]
    Newer {
        /// The ledger.
        path: PathBuf,
        /// The schema that it says it has.
        schema: u64,
        /// The schema known here.
        known: u64,
    },
    /// A blob that is not in the store.
    #[error("{} is not in the store; fetch its artifact again", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// A file that does not hold the content expected of it.
    #[error("{} holds {actual} instead of {expected}; fetch its artifact again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The digest it should have.
        expected: Sha256,
        /// The digest it has.
        actual: Sha256,
    },
}
