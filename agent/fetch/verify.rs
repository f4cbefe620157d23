//! The digest comparison of a download: the only way to a [`Verified`].
//!
//! A member that has a pin of its own is compared with it while it is unpacked: see `unpack/scan.rs`.

use std::io::{self, SeekFrom};

use sha2::Digest as _;

use super::spool::DownloadSpool;
use crate::model::Pin;

/// The bytes of a blob whose pinned digest matched. Only [`verify_digest`] makes one, so its bytes may be decompressed.
#[derive(Debug)]
pub struct Verified<S> {
    spool: S,
    bytes: u64,
}

impl<S> Verified<S> {
    /// How many bytes it has.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bytes, to be read from the start.
    pub(super) fn rewound(&mut self) -> io::Result<&mut S>
    where
        S: DownloadSpool,
    {
        self.spool.seek(SeekFrom::Start(0))?;
        Ok(&mut self.spool)
    }
}

/// All bytes came, and they are not the pinned ones.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its {bytes} bytes are not the pinned ones: expected {expected}, got {actual}; check the pin, and that no proxy or login page answers in its place"
)]
pub struct DigestMismatch {
    pub bytes: u64,
    pub expected: Pin,
    pub actual: Pin,
}

/// Hashes bytes by the algorithm of a pin.
pub(super) enum DigestHasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl DigestHasher {
    pub(super) fn for_pin(pin: &Pin) -> Self {
        match pin {
            Pin::Sha256(_) => Self::Sha256(sha2::Sha256::new()),
            Pin::Sha512(_) => Self::Sha512(sha2::Sha512::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn into_digest(self) -> Pin {
        match self {
            Self::Sha256(hasher) => Pin::Sha256(hasher.finalize().into()),
            Self::Sha512(hasher) => Pin::Sha512(hasher.finalize().into()),
        }
    }
}

/// Compares the digest of all `bytes` in the spool, which `hasher` has seen, with the pin.
///
/// # Errors
/// When they are not the pinned bytes; the spool is given back.
pub(super) fn verify_digest<S>(
    spool: S,
    bytes: u64,
    hasher: DigestHasher,
    expected: Pin,
) -> Result<Verified<S>, (S, Box<DigestMismatch>)> {
    let actual = hasher.into_digest();
    if actual == expected {
        return Ok(Verified { spool, bytes });
    }
    let mismatch = DigestMismatch {
        bytes,
        expected,
        actual,
    };
    Err((spool, Box::new(mismatch)))
}
