//! Why what was said of an artifact's digest is not believed.

use crate::model::{DigestError, FailureKind, Pin};

/// Why what a source said is not believed, and how to mend that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerificationError {
    /// What should be a minisign signature is none.
    #[error(
        "its .minisig is no minisign signature; sign the list with: minisign -S -m FILE, and publish both"
    )]
    NotAListSignature,
    /// The list is signed, by somebody else.
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
    /// A list or checksum file is not text.
    #[error("it is no text; it must hold lines as sha256sum prints them")]
    NotText,
    /// A line of the list is not as `sha256sum` and `sha512sum` print it.
    #[error("its line {line} is not as sha256sum prints it: {problem}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// The list says nothing about the file.
    #[error("it has no line for {file}; add its digest to the list and sign it again")]
    NotListed {
        /// The name that was looked for.
        file: String,
    },
    /// The list says two things about the file.
    #[error(
        "it has two digests for {file}, {one} and {other}; keep the right one and sign it again"
    )]
    Contradiction {
        /// The name that was looked for.
        file: String,
        /// The first digest.
        one: String,
        /// The second.
        other: String,
    },
    /// What should be a checksum file is none, or is one for another file.
    #[error(
        "it is no checksum of {file}: {problem}; look at what the URL gives, or pin the artifact"
    )]
    NoChecksum {
        /// The name of the artifact's file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What should be the signature of a blob is none.
    #[error(
        "it is no signature as cosign sign-blob --key and openssl dgst -sha256 -sign make them: {0}"
    )]
    NotABlobSignature(&'static str),
    /// The signature is well formed, and not of these bytes by this key.
    #[error(
        "it is not a signature of {pin} by the key {key}; the bytes were changed, or signed with another key"
    )]
    OtherBlobSignature {
        /// The digest of the artifact.
        pin: Pin,
        /// What the key is known by.
        key: String,
    },
    /// Only a SHA-256 digest can be what was signed.
    #[error(
        "its digest is {0}, and the signature is over SHA-256; give the artifact a sha256 digest"
    )]
    NotSha256(Pin),
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// No digest and name.
    #[error("write DIGEST, two blanks, NAME")]
    Shape,
    /// The digest is none.
    #[error("{0}")]
    Digest(DigestError),
    /// A name with a backslash before the line, as for line breaks in it.
    #[error("escaped names are not read; rename the file")]
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
