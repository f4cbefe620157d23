//! Why a digest or a signature is not accepted.

use crate::model::{DigestError, FailureKind, Pin};

/// Why a list, a checksum file or a signature is not accepted, and how to fix that. `it` is the file, which the message
/// is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerificationError {
    #[error(
        "its .minisig is not a minisign signature; sign the list with: minisign -S -m FILE, and publish both"
    )]
    NotAListSignature,
    /// The list is signed with another key.
    #[error(
        "it is signed with the key {found}, and trust.pinList.publicKey is {expected}; sign it with that one, or declare the new key"
    )]
    OtherKey {
        /// The ID of the declared key.
        expected: String,
        /// The ID of the key that signed.
        found: String,
    },
    /// The declared key has not signed this list with this trusted comment.
    #[error(
        "it is not the list that was signed: the list, its signature or the trusted comment has been changed, or the list and its .minisig are of different releases; if the change is yours, sign the list again and publish both files"
    )]
    ListChanged,
    #[error("it is not text; it must consist of lines as sha256sum prints them")]
    NotText,
    #[error("its line {line} is not as sha256sum prints it: {problem}")]
    Line {
        /// The line, from 1.
        line: usize,
        problem: LineProblem,
    },
    #[error("it has no line for {file}; add its digest to the list and sign it again")]
    NotListed { file: String },
    #[error(
        "it has two digests for {file}, {one} and {other}; keep the right one and sign it again"
    )]
    Contradiction {
        file: String,
        one: String,
        other: String,
    },
    #[error(
        "it is not a checksum of {file}: {problem}; check what the URL returns, or pin the artifact with sha256"
    )]
    NoChecksum {
        /// The name of the artifact's file.
        file: String,
        problem: String,
    },
    #[error(
        "it is not a signature as cosign sign-blob --key and openssl dgst -sha256 -sign make them: {0}"
    )]
    NotABlobSignature(&'static str),
    /// The signature is well formed, but not of this digest by this key.
    #[error(
        "it is not a signature of {pin} by the key {key}; the artifact was changed, or it was signed with another key"
    )]
    OtherBlobSignature {
        /// The digest of the artifact.
        pin: Pin,
        /// The beginning of the key's fingerprint.
        key: String,
    },
    #[error(
        "its digest is {0}, but signatures are over SHA-256; give the artifact a sha256 digest"
    )]
    NotSha256(Pin),
}

/// What is wrong with a line of a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    #[error("write DIGEST, two blanks, NAME")]
    Shape,
    #[error("{0}")]
    Digest(DigestError),
    /// A line that begins with a backslash: its name contains a line break or a backslash.
    #[error("escaped names are not supported; rename the file")]
    Escaped,
}

impl VerificationError {
    /// The kind for metrics: signature, pin list or checksum.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        match self {
            Self::NotAListSignature
            | Self::OtherKey { .. }
            | Self::ListChanged
            | Self::NotABlobSignature(_)
            | Self::OtherBlobSignature { .. }
            | Self::NotSha256(_) => FailureKind::Signature,
            Self::NotText
            | Self::Line { .. }
            | Self::NotListed { .. }
            | Self::Contradiction { .. } => FailureKind::PinList,
            Self::NoChecksum { .. } => FailureKind::Checksum,
        }
    }
}
