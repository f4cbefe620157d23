//! Failures of the state directory.

use std::path::PathBuf;

use crate::host::HostError;
use crate::model::{Sha256, quote_error};

/// A failure of the ledger or the content store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Other users may write to the state directory, and so decide what plugins must be.
    #[error(
        "{} belongs to uid {uid} and has mode {mode:04o}, so that other users can change what the agent knows of the plugins; \
         check its content, then chown it to {owner} and chmod it to 0700",
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
    /// The ledger exists and cannot be parsed.
    #[error(
        "{} is damaged ({}); move it away and run again: files placed before are then no longer known as ours",
        path.display(),
        quote_error(source)
    )]
    Damaged {
        /// The ledger.
        path: PathBuf,
        /// The error of the JSON parser.
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
        /// The schema of the file.
        schema: u64,
        /// The newest schema that this version knows.
        known: u64,
    },
    /// The store does not have a blob.
    #[error("{} is not in the store; fetch its artifact again", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// A file does not have the expected content.
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
