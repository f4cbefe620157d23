//! Why a source was of no use.

use std::io;
use std::time::Duration;

use crate::fetch::http::{HttpError, RedirectError};
use crate::fetch::oci::RegistryError;
use crate::fetch::verify::DigestMismatch;
use crate::model::{FailureKind, SourceFailure};

/// Why one attempt at one source failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The request over HTTP failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A registry does not let us in, or does not have it.
    #[error(transparent)]
    Registry(Box<RegistryError>),
    /// The bytes are not the pinned ones.
    #[error(transparent)]
    Digest(Box<DigestMismatch>),
    /// Not a URL that can be fetched.
    #[error("it is not a usable URL: {0}; use https://, http:// or file:///")]
    Url(String),
    /// A local file that cannot be read.
    #[error("it cannot be read: {0}")]
    File(#[source] io::Error),
    /// A seed that has other things.
    #[error(
        "it does not hold this one: there is no {looked_for}; put the file there, or gather it again with cni-keeper bundle"
    )]
    NotInSeed {
        /// Names in the seed.
        looked_for: String,
    },
}

impl From<RegistryError> for SourceError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(Box::new(error))
    }
}

impl From<RedirectError> for SourceError {
    fn from(error: RedirectError) -> Self {
        Self::Http(error.into())
    }
}

impl SourceError {
    /// The kind for metrics and machine-readable output, which also decides whether to try again.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Http(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Digest(_) => FailureKind::Digest,
            Self::Url(_) => FailureKind::Url,
            Self::File(_) => FailureKind::Io,
            Self::NotInSeed { .. } => FailureKind::NotInSeed,
        }
    }

    /// What the server asked for by `Retry-After`, not yet capped.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Http(error) => error.retry_after(),
            Self::Registry(error) => error.retry_after(),
            Self::Digest(_) | Self::Url(_) | Self::File(_) | Self::NotInSeed { .. } => None,
        }
    }
}

/// A source that failed, how often it was asked, and the last reason.
#[derive(Debug)]
pub struct FailedSource {
    /// The source without user information and query, which may hold secrets.
    pub source: String,
    /// How many requests were made to it, redirects not counted.
    pub attempts: u32,
    pub reason: SourceError,
}

impl From<&FailedSource> for SourceFailure {
    fn from(failed: &FailedSource) -> Self {
        Self {
            source: failed.source.clone(),
            attempts: failed.attempts,
            reason: failed.reason.kind(),
            message: failed.reason.to_string(),
        }
    }
}
