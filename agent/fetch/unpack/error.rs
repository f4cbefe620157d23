//! Why an archive or a layer whose digest is right cannot be used.

use std::io;

use super::elf::NotAPlugin;
use super::limits::LimitExceeded;
use crate::model::{FailureKind, Pin, Sha256, quote_error};

/// Why an archive, whose digest was right, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Not an archive of its format, damaged, or with something after its end.
    #[error(
        "the archive cannot be read: {}; check that the pin is of a good file and that format is right",
        quote_error(.0)
    )]
    Unreadable(#[source] io::Error),
    /// It costs more than it may.
    #[error("the archive is refused: {0}")]
    Exceeds(#[from] LimitExceeded),
    /// Its headers can be read in two ways.
    #[error("the archive is refused: {0}, which tools read in different ways")]
    Ambiguous(&'static str),
    /// A wanted member is not a regular file.
    #[error("'{path}' in the archive is {kind}, not a regular file")]
    NotAFile { path: String, kind: &'static str },
    /// A wanted member is in it twice.
    #[error("'{0}' is in the archive more than once")]
    Twice(String),
    /// Wanted members are not in it.
    #[error("the archive has no {}; it holds {there}", quote_paths(paths))]
    Missing {
        paths: Vec<String>,
        /// What is there, shortened.
        there: String,
    },
    /// Wanted files are not in the image.
    #[error("the image has no {}; {there}", quote_paths(paths))]
    NotInImage {
        paths: Vec<String>,
        /// What is near them, shortened.
        there: String,
    },
    /// Links lead on and on.
    #[error("'{0}' in the image leads through more links than Linux follows")]
    Links(String),
    /// A layer of an image is at fault.
    #[error("layer {layer} of the image: {source}")]
    Layer {
        layer: Pin,
        #[source]
        source: Box<Self>,
    },
    /// A layer of an image holds neither files nor is one.
    #[error(
        "it is neither a tar nor a file with a name (org.opencontainers.image.title); encrypted layers cannot be read"
    )]
    Nameless,
    /// A wanted member cannot run here.
    #[error("'{path}' in the archive cannot be a plugin here: {source}")]
    NotAPlugin {
        path: String,
        #[source]
        source: NotAPlugin,
    },
    /// A wanted member has a pin of its own and does not match it.
    #[error(
        "'{path}' in the archive is not the pinned one: expected sha256:{expected}, got sha256:{actual}"
    )]
    Digest {
        path: String,
        expected: Sha256,
        actual: Sha256,
    },
    /// The sink cannot take it.
    #[error("cannot keep '{path}': {source}")]
    Sink {
        path: String,
        #[source]
        source: io::Error,
    },
    /// The node gives no thread.
    #[error(
        "cannot start a thread to unpack: {0}; raise the limit on processes (pids.max, ulimit -u)"
    )]
    Thread(#[source] io::Error),
}

impl ArchiveError {
    /// The kind for metrics and machine-readable output.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Unreadable(_) => FailureKind::Archive,
            Self::Exceeds(_) => FailureKind::ArchiveTooLarge,
            Self::Ambiguous(_) => FailureKind::ArchiveAmbiguous,
            Self::NotAFile { .. } => FailureKind::MemberType,
            Self::Twice(_) => FailureKind::MemberTwice,
            Self::Missing { .. } | Self::NotInImage { .. } => FailureKind::MemberMissing,
            Self::Links(_) => FailureKind::MemberLinks,
            Self::Layer { source, .. } => source.kind(),
            Self::Nameless => FailureKind::LayerNameless,
            Self::NotAPlugin { .. } => FailureKind::MemberNotAPlugin,
            Self::Digest { .. } => FailureKind::MemberDigest,
            Self::Sink { .. } => FailureKind::Io,
            Self::Thread(_) => FailureKind::Thread,
        }
    }

    /// From an error that reading gave, in which a cap may be.
    pub(in crate::fetch) fn from_io(error: io::Error) -> Self {
        match LimitExceeded::from_io(&error) {
            Some(limit) => Self::Exceeds(limit),
            None => Self::Unreadable(error),
        }
    }

    /// The same, as an error of a layer.
    pub(in crate::fetch) fn in_layer(self, layer: Pin) -> Self {
        Self::Layer {
            layer,
            source: Box::new(self),
        }
    }
}

fn quote_paths(paths: &[String]) -> String {
    paths
        .iter()
        .map(|path| format!("'{path}'"))
        .collect::<Vec<_>>()
        .join(", ")
}
