//! Why an artifact could not be fetched.

use std::fmt::Display;
use std::io;

use super::source_error::FailedSource;
use crate::fetch::oci::ImageError;
use crate::fetch::unpack::ArchiveError;
use crate::model::{FailureKind, SourceFailure};

/// An artifact that could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No source gave the pinned bytes.
    #[error("cannot fetch {artifact}: {}", list_failed_sources(tried))]
    Sources {
        artifact: String,
        /// Every source that was tried, in order, with the last reason for each.
        tried: Vec<FailedSource>,
    },
    /// The pinned bytes are no image that can be used on this node.
    #[error("{artifact}: {source}")]
    Image {
        artifact: String,
        #[source]
        source: Box<ImageError>,
    },
    /// The layers of an image are bad, or the wanted files are not in them.
    #[error("{artifact}: {source}")]
    Archive {
        artifact: String,
        #[source]
        source: Box<ArchiveError>,
    },
    /// None of the places that the configuration trusts gives the digest of an artifact, or its signature does not fit.
    #[error(
        "cannot learn what {artifact} {version} must be: {}",
        list_failed_places(tried)
    )]
    UnresolvedPin {
        artifact: String,
        version: String,
        /// Every place that was asked, in order, with the last reason for each.
        tried: Vec<SourceFailure>,
    },
    /// A copy of what was verified cannot be kept.
    #[error("cannot keep a copy of {artifact}: {source}")]
    Copy {
        artifact: String,
        #[source]
        source: io::Error,
    },
    /// The bytes cannot be kept on this node; another source would not help.
    #[error(
        "cannot keep the download of {artifact}: {source}; look at the space and health of the file system that holds paths.stateDir"
    )]
    Spool {
        artifact: String,
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    /// The spool of an artifact cannot be made or written.
    pub(in crate::fetch) fn spool(artifact: &str, source: io::Error) -> Self {
        let artifact = artifact.to_owned();
        Self::Spool { artifact, source }
    }

    /// The kind for metrics: that of the last source's reason, or [`FailureKind::Spool`].
    ///
    /// A wrong digest or signature goes before any other reason. It alone can mean that somebody tampers, and must not
    /// hide behind a second mirror that is only down.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Sources { tried, .. } => {
                let kinds = tried.iter().map(|tried| tried.reason.kind());
                telling_kind(kinds, FailureKind::Digest).unwrap_or(FailureKind::Url)
            }
            Self::UnresolvedPin { tried, .. } => {
                let kinds = tried.iter().map(|tried| tried.reason);
                telling_kind(kinds, FailureKind::Signature).unwrap_or(FailureKind::Io)
            }
            Self::Image { source, .. } => source.kind(),
            Self::Archive { source, .. } => source.kind(),
            Self::Copy { .. } | Self::Spool { .. } => FailureKind::Spool,
        }
    }
}

/// `tampering` where it is among the kinds, else the last of them.
fn telling_kind(
    kinds: impl DoubleEndedIterator<Item = FailureKind> + Clone,
    tampering: FailureKind,
) -> Option<FailureKind> {
    let found = kinds.clone().find(|kind| *kind == tampering);
    found.or_else(|| kinds.last())
}

fn list_failed_sources(tried: &[FailedSource]) -> String {
    if tried.is_empty() {
        return "it has no source; give it one under artifacts[].sources".to_owned();
    }
    let one = |tried: &FailedSource| describe_failure(&tried.source, &tried.reason, tried.attempts);
    tried.iter().map(one).collect::<Vec<_>>().join(" | ")
}

fn list_failed_places(tried: &[SourceFailure]) -> String {
    if tried.is_empty() {
        return "nobody may be asked; run once without --offline, or add a seed or a file:// source"
            .to_owned();
    }
    let one =
        |tried: &SourceFailure| describe_failure(&tried.source, &tried.message, tried.attempts);
    tried.iter().map(one).collect::<Vec<_>>().join(" | ")
}

fn describe_failure(source: &str, reason: &dyn Display, attempts: u32) -> String {
    match attempts {
        0 | 1 => format!("{source}: {reason}"),
        attempts => format!("{source}: {reason} (after {attempts} attempts)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::http::HttpError;

    #[test]
    fn every_source_is_in_the_one_line() {
        let tried = |source: &str, attempts, reason: HttpError| FailedSource {
            source: source.to_owned(),
            attempts,
            reason: reason.into(),
        };
        let error = FetchError::Sources {
            artifact: "cni-plugins".to_owned(),
            tried: vec![
                tried("https://a/x", 3, HttpError::Dns("a".to_owned())),
                tried("https://b/x", 1, HttpError::TooLarge { limit: 5 }),
            ],
        };
        assert_eq!(
            error.to_string(),
            "cannot fetch cni-plugins: https://a/x: the name a does not resolve; check the node's DNS \
             (a hostNetwork pod needs dnsPolicy: Default) (after 3 attempts) | https://b/x: it has more than \
             5 bytes, the most that is taken of it (of an artifact, fetch.maxSize)"
        );
        assert_eq!(error.kind(), FailureKind::TooLarge);
    }
}
