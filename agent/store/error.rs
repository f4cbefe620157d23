//! Failures of the state directory.

use std::path::PathBuf;

use crate::host::HostError;
use crate::model::Sha256;

/// A part of the state directory that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be used: {problem}", path.display())]
pub struct DamagedRecord {
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// Its schema, if that is the problem: a newer version wrote it.
    pub newer_schema: Option<u64>,
}

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
    /// A record is there and cannot be used.
    #[error(transparent)]
    Damaged(#[from] DamagedRecord),
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
